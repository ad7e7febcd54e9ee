package arrowipc_test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/millrace/millrace/worker/arrowipc"
)

// What apache-arrow for JavaScript wrote; see testdata/README.md.
func TestJavaScriptWriter(t *testing.T) {
	want := map[string]string{
		"id":     `[1,2,3,4,5,6]`,
		"ok":     `[true,false,null,true,true,false]`,
		"word":   `["a","b",null,"a","c","b"]`,
		"list":   `[[1,2],[],null,[3],[4,5,6],[]]`,
		"struct": `[{"x":1.5,"y":"a"},{"x":2.5,"y":null},null,{"x":0,"y":"ü"},{"x":1,"y":""},{"x":2,"y":"z"}]`,
		"when":   `["1970-01-01 00:00:00Z","1970-01-02 00:00:00Z","1970-01-03 00:00:00Z","1970-01-04 00:00:00Z","1970-01-05 00:00:00Z",null]`,
	}
	for name, arrowReads := range map[string]func(tester, []byte) []arrow.Record{
		"js.stream.arrow": arrowReadsStream,
		"js.file.arrow":   arrowReadsFile,
	} {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile("testdata/" + name)
			if err != nil {
				t.Fatal(err)
			}
			r := compare(t, shifted(data, 0), arrowReads(t, data), arrowipc.WithFullValidation())
			if r.Copied() != 0 {
				t.Errorf("%d bytes copied", r.Copied())
			}
			rec, err := r.At(0)
			if err != nil {
				t.Fatal(err)
			}
			if int(rec.NumCols()) != len(want) {
				t.Errorf("%d columns", rec.NumCols())
			}
			for i, col := range rec.Columns() {
				got, err := json.Marshal(col)
				if err != nil {
					t.Fatal(err)
				}
				if string(got) != want[rec.ColumnName(i)] {
					t.Errorf("%s: %s", rec.ColumnName(i), got)
				}
			}
		})
	}
}
