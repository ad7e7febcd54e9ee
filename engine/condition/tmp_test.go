package condition
import ("testing";"context";"os";"time";"runtime")
func TestAttack(t *testing.T){
 e:=os.Getenv("ATTACK"); if e==""{t.Skip()}
 c:=compileFor(t,e)
 s:=time.Now()
 ok,err:=c.Eval(context.Background(), records(5), Upstream{})
 msg:=""; if err!=nil{msg=err.Error(); if len(msg)>300{msg=msg[:300]}}
 var m runtime.MemStats; runtime.ReadMemStats(&m)
 t.Logf("%v %v %v sys=%dMB", ok, msg, time.Since(s), m.Sys>>20)
}
