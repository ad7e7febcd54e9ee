package plan
import ("testing";"strings";"time";"runtime")
func TestZZ(t *testing.T){
 N:=MaxFileBytes-100
 for n,s:=range map[string]string{
  "nl":"steps: [{id: a}]\n"+strings.Repeat("\n",N),
  "zeros":"x-a: ["+strings.Repeat("0,",N/2)+"]",
  "seq400k":"steps: [{id: a}]\nx-a:\n"+strings.Repeat("- a\n",400000),
  "map300k": func() string {var b strings.Builder; b.WriteString("steps: [{id: a}]\nx-a:\n"); for i:=0;i<300000;i++ {b.WriteString("  k"+strings.Repeat("x",i%7)+string(rune('a'+i%26))+itoa(i)+": 1\n")}; return b.String()}(),
  "steps": func() string {var b strings.Builder; b.WriteString("steps:\n"); for i:=0;i<100000;i++ {b.WriteString("- id: s"+itoa(i)+"\n  next: s"+itoa(i+1)+"\n")}; return b.String()}(),
  "plain":"steps: [{id: a, expression: "+strings.Repeat("x",N-50)+"}]",
  "lit":"steps:\n- id: a\n  expression: |\n"+strings.Repeat("    hello = {a: 1, b: [2]}\n",N/27-3),
  "dq":"steps: [{id: a, expression: \""+strings.Repeat("x\\n",N/3-20)+"\"}]",
  "mlplain":"steps:\n- id: a\n  expression:\n"+strings.Repeat("    hello foo\n",N/14-5),
  "spaces":"steps: [{id: a}]"+strings.Repeat(" ",N),
  "commentx":"steps: [{id: a}]\n#"+strings.Repeat("x",N),
  "comments":"steps: [{id: a}]\n"+strings.Repeat("#\n",N/2-20),
  "brackets":strings.Repeat("[]\n",N/3),
  "quotes":strings.Repeat("'",N),
  "colons":strings.Repeat(":",N),
  "dashes":strings.Repeat("-",N),
  "jsonmap":`{"steps":[{"id":"a"}],"x-a":["`+strings.Repeat("a\",\"",N/5)+`"]}`,
  "badsteps": "steps: ["+strings.Repeat("{a: 1}, ",60000)+"]",
 } {
  if len(s)>MaxFileBytes {s=s[:MaxFileBytes]}
  var m0,m1 runtime.MemStats; runtime.ReadMemStats(&m0)
  t0:=time.Now(); _,err:=Parse("x.yaml",[]byte(s),""); d:=time.Since(t0); runtime.ReadMemStats(&m1)
  es:="ok"; if err!=nil {es=err.Error(); if len(es)>100 {es=es[:100]}}
  t.Logf("%-10s %9d %8v alloc %5d MB sys %d MB %s",n,len(s),d.Round(time.Millisecond),(m1.TotalAlloc-m0.TotalAlloc)>>20,m1.Sys>>20,strings.ReplaceAll(es,"\n"," / "))
 }
}
func itoa(i int) string { return strings.TrimSpace(strings.Map(func(r rune) rune {return r}, sprint(i))) }
func sprint(i int) string { if i==0 {return "0"}; s:=""; for i>0 {s=string(rune('0'+i%10))+s; i/=10}; return s }
