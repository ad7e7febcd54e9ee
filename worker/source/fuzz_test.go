package source

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/millrace/millrace/ipc/jsonscan"
)

// nothing stands for the file whose bytes come from elsewhere.
func nothing(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// readFuzzed reads all batches of a file of hostile bytes, and checks what holds
// for each: it is valid JSON, and has 1 to spec.Batch records.
func readFuzzed(t *testing.T, spec *Spec, current records) (all []json.RawMessage, r *Reader, err error) {
	t.Helper()
	r = &Reader{spec: spec, files: []string{"fuzzed"}, at: 1, current: current}
	defer r.Close()
	for {
		b, err := r.Next(nil)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			if int(r.Records) != len(all) {
				t.Fatalf("%d records are counted, %d came", r.Records, len(all))
			}
			return all, r, err
		}
		var batch []json.RawMessage
		if err := json.Unmarshal(b, &batch); err != nil {
			t.Fatalf("a batch is no JSON array: %v\n%q", err, b)
		}
		if len(batch) == 0 || len(batch) > spec.Batch {
			t.Fatalf("a batch of %d records, of at most %d", len(batch), spec.Batch)
		}
		all = append(all, batch...)
	}
}

func FuzzLines(f *testing.F) {
	f.Add([]byte("{\"a\":1}\n\n [2] \r\n\"three\""), uint8(2))
	f.Add([]byte("\xef\xbb\xbf1\n{\n]\n\"\xff\"\n1,2\n"), uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, batch uint8) {
		spec := &Spec{Batch: int(batch%16) + 1, Encoding: "json", SkipBad: true}
		got, r, err := readFuzzed(t, spec, newLines("fuzzed", nothing(t), bytes.NewReader(data)))
		if err != nil {
			t.Fatal(err) // bad lines are skipped, and there are no other errors
		}
		var want []string
		bad := 0
		for i, line := range bytes.Split(data, []byte("\n")) {
			line = bytes.TrimSpace(line)
			if i == 0 {
				line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
			}
			switch {
			case len(line) == 0:
			case jsonscan.Validate(line) == nil:
				want = append(want, string(bytes.TrimSpace(line)))
			default:
				bad++
			}
		}
		if len(got) != len(want) || int(r.Skipped) != bad {
			t.Fatalf("%d records and %d bad lines, want %d and %d", len(got), r.Skipped, len(want), bad)
		}
		for i := range got {
			if string(got[i]) != want[i] {
				t.Fatalf("record %d is %q, want %q", i, got[i], want[i])
			}
		}
	})
}

func FuzzTable(f *testing.F) {
	f.Add([]byte("id,name,ok\n1,\"a \"\"b\"\"\",true\n007,,-1.5e3\n"), uint8(2), false)
	f.Add([]byte("\xef\xbb\xbfa,\n\xff,\"x\n1\n,,,\n-,1e\n"), uint8(0), true)
	f.Fuzz(func(t *testing.T, data []byte, batch uint8, text bool) {
		spec := &Spec{Batch: int(batch%16) + 1, Encoding: "json", SkipBad: true, CSV: CSV{Text: text}}
		file := nothing(t)
		table, err := newTable("fuzzed", file, bytes.NewReader(data), &spec.CSV)
		if err != nil {
			_ = file.Close() // it was only opened to be closed
			var bad *FileError
			if !errors.As(err, &bad) {
				t.Fatalf("an error that names no file: %v", err)
			}
			return
		}
		keys := len(table.keys)
		got, _, err := readFuzzed(t, spec, table)
		if err != nil {
			t.Fatal(err)
		}
		for _, record := range got {
			var fields map[string]json.RawMessage
			if err := json.Unmarshal(record, &fields); err != nil || len(fields) != keys {
				t.Fatalf("%s has %d fields of %d: %v", record, len(fields), keys, err)
			}
			for name, v := range fields {
				if text && v[0] != '"' || strings.TrimSpace(name) == "" {
					t.Fatalf("%q is %s in %s", name, v, record)
				}
			}
		}
	})
}
