package jsonscan_test

import (
	"testing"

	"github.com/millrace/millrace/ipc/jsonscan"
)

func TestSizeOfElements(t *testing.T) {
	doc := `[ 1, -2.5e3 ,"a,b]\"" , [1,[2]], {"k":[ ]} ,true,null ]`
	want := []string{`1`, `-2.5e3`, `"a,b]\""`, `[1,[2]]`, `{"k":[ ]}`, `true`, `null`}
	elements := jsonscan.Of([]byte(doc), jsonscan.Options{}).Elements()
	for i, w := range want {
		e, ok, err := elements.At(int64(i))
		if err != nil || !ok {
			t.Fatalf("element %d: %v %v", i, ok, err)
		}
		n, err := e.Size()
		if err != nil {
			t.Fatal(err)
		}
		if got := doc[e.Offset() : e.Offset()+n]; got != w {
			t.Errorf("element %d is %q, not %q", i, got, w)
		}
	}
}
