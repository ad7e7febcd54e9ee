package source

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/pqarrow"
	"github.com/google/go-cmp/cmp"
)

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func readAll(t *testing.T, spec Spec) (batches []string, r *Reader, err error) {
	t.Helper()
	if err := spec.check(); err != nil {
		t.Fatal(err)
	}
	if r, err = Open(&spec); err != nil {
		return nil, nil, err
	}
	defer r.Close()
	for {
		b, err := r.Next([]byte("kept"))
		if errors.Is(err, io.EOF) {
			return batches, r, nil
		}
		if err != nil {
			return batches, r, err
		}
		b, ok := bytes.CutPrefix(b, []byte("kept"))
		if !ok {
			t.Fatalf("what was in the buffer is gone: %q", b)
		}
		if spec.Encoding == "json" && !json.Valid(b) {
			t.Fatalf("a batch is no JSON: %s", b)
		}
		batches = append(batches, string(b))
	}
}

func TestBatches(t *testing.T) {
	for name, c := range map[string]struct {
		file, content string
		spec          Spec
		want          []string
	}{
		"ndjson":               {"a.ndjson", "{\"a\":1}\n\n [2] \r\n\"three\"", Spec{Batch: 2}, []string{`[{"a":1},[2]]`, `["three"]`}},
		"ndjson, exactly full": {"a.jsonl", "1\n2\n", Spec{Batch: 1}, []string{`[1]`, `[2]`}},
		"ndjson with a mark":   {"a.jsonl", "\xef\xbb\xbf1\n", Spec{}, []string{`[1]`}},
		"nothing":              {"a.ndjson", "\n", Spec{}, nil},
		"csv": {"a.csv", "id,name,ok\n1,\"a \"\"b\"\"\",true\n007,,-1.5e3\n", Spec{},
			[]string{`[{"id":1,"name":"a \"b\"","ok":true},{"id":"007","name":null,"ok":-1.5e3}]`}},
		"csv as text":          {"a.csv", "id\n1\n", Spec{CSV: CSV{Text: true}}, []string{`[{"id":"1"}]`}},
		"csv without a header": {"a.csv", "1;2\n", Spec{CSV: CSV{Delimiter: ";", Columns: []string{"a", "b"}}}, []string{`[{"a":1,"b":2}]`}},
		"tsv":                  {"a.tsv", "a\tb\n1\t2\n", Spec{}, []string{`[{"a":1,"b":2}]`}},
		"an empty csv":         {"a.csv", "", Spec{}, nil},
		"files":                {"note.txt", "hi\n", Spec{Format: FormatFiles}, []string{`[{"name":"note.txt","content":"hi\n"}]`}},
		"files with JSON":      {"a.json", "{\"x\": 1}\n", Spec{Format: FormatFiles}, []string{`[{"name":"a.json","content":{"x": 1}}]`}},
		"files with bytes":     {"a.bin", "\xff\x00", Spec{Format: FormatFiles}, []string{`[{"name":"a.bin","content":{"@encoding":"raw","base64":"/wA="}}]`}},
	} {
		t.Run(name, func(t *testing.T) {
			c.spec.Paths = []string{write(t, c.file, c.content)}
			got, _, err := readAll(t, c.spec)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Fatal(diff)
			}
		})
	}
}

func TestManyFiles(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"b.ndjson": "2\n", "a.ndjson": "1", "c.csv": "x\n3\n", ".hidden": "no"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, paths := range [][]string{{dir}, {filepath.Join(dir, "*.ndjson"), filepath.Join(dir, "c.csv")}} {
		got, r, err := readAll(t, Spec{Paths: paths})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{`[1,2,{"x":3}]`}, got); diff != "" || r.Records != 3 || r.Batches != 1 {
			t.Fatal(diff, r.Records, r.Batches)
		}
	}
}

func TestErrorsSayWhere(t *testing.T) {
	long := strings.Repeat("1", MaxRecordBytes+readSize)
	for name, c := range map[string]struct{ file, content, want string }{
		"ndjson":         {"a.ndjson", "1\n{\"a\":\n3\n", "a.ndjson:2: not a JSON value: unexpected end"},
		"csv":            {"a.csv", "a,b\n1,2\n3\n", "a.csv:3: the line does not have 2 fields"},
		"twice":          {"a.csv", "a,a\n", `a.csv:1: two columns are called "a"`},
		"quote":          {"a.csv", "a\n\"x\n", "a.csv:2: "},
		"parquet":        {"a.parquet", "PAR1 and no more", "not a Parquet file"},
		"arrow":          {"a.arrow", "ARROW1\x00\x00 and no more", "not an Arrow file"},
		"stream":         {"a.arrows", "no stream", "not an Arrow file or stream"},
		"unknown format": {"a.dat", "1", "set format to ndjson"},
		"a long line":    {"a.ndjson", "1\n" + long, "line 2 has more than"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := readAll(t, Spec{Paths: []string{write(t, c.file, c.content)}})
			var fe *FileError
			if !errors.As(err, &fe) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
		})
	}
	if _, _, err := readAll(t, Spec{Paths: []string{"/nowhere/*.csv"}}); err == nil || !strings.Contains(err.Error(), "/nowhere/*.csv: there is no such file") {
		t.Fatal(err)
	}
	if _, _, err := readAll(t, Spec{Paths: []string{write(t, "a.csv", "a\n1\n")}, Encoding: "arrow"}); err == nil || !strings.Contains(err.Error(), "needs a Parquet or Arrow file") {
		t.Fatal(err)
	}
}

func TestBadRecordsAreSkippedAndCounted(t *testing.T) {
	for file, content := range map[string]string{"a.ndjson": "1\n{\n2\n", "b.csv": "a,b\n1,1\nx\n2,2\n"} {
		got, r, err := readAll(t, Spec{Paths: []string{write(t, file, content)}, SkipBad: true})
		if err != nil || r.Skipped != 1 || r.Records != 2 || len(got) != 1 {
			t.Fatal(got, r, err)
		}
	}
}

func TestABatchStaysBelowItsBytes(t *testing.T) {
	record := `"` + strings.Repeat("x", 300_000) + `"` + "\n"
	got, r, err := readAll(t, Spec{Paths: []string{write(t, "a.ndjson", strings.Repeat(record, 10))}})
	if err != nil || r.Records != 10 || len(got) != 4 {
		t.Fatal(len(got), r.Records, err)
	}
	for _, b := range got {
		if len(b) > MaxBatchBytes {
			t.Fatalf("a batch of %d bytes", len(b))
		}
	}
}

func columns(t *testing.T, rows int) arrow.Record {
	t.Helper()
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "n", Type: arrow.PrimitiveTypes.Int32, Nullable: true}, {Name: "f", Type: arrow.PrimitiveTypes.Float64},
		{Name: "s", Type: arrow.BinaryTypes.String}, {Name: "b", Type: arrow.FixedWidthTypes.Boolean},
		{Name: "t", Type: arrow.FixedWidthTypes.Timestamp_ms}, {Name: "l", Type: arrow.ListOf(arrow.PrimitiveTypes.Int64)},
	}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	for i := range rows {
		if i == 1 {
			b.Field(0).AppendNull()
		} else {
			b.Field(0).(*array.Int32Builder).Append(int32(i))
		}
		b.Field(1).(*array.Float64Builder).Append(float64(i) / 2)
		b.Field(2).(*array.StringBuilder).Append(fmt.Sprintf("\"%d\"", i))
		b.Field(3).(*array.BooleanBuilder).Append(i == 0)
		b.Field(4).(*array.TimestampBuilder).Append(arrow.Timestamp(i))
		list := b.Field(5).(*array.ListBuilder)
		list.Append(true)
		list.ValueBuilder().(*array.Int64Builder).Append(int64(i))
	}
	return b.NewRecord()
}

// writers make a file of the rows in each columnar form.
func writeColumns(t *testing.T, rows int) map[string]string {
	t.Helper()
	record := columns(t, rows)
	defer record.Release()
	dir := t.TempDir()
	paths := map[string]string{"parquet": filepath.Join(dir, "a.parquet"), "file": filepath.Join(dir, "a.arrow"), "stream": filepath.Join(dir, "b.arrows")}
	for kind, path := range paths {
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		switch kind {
		case "parquet":
			w, werr := pqarrow.NewFileWriter(record.Schema(), f, parquet.NewWriterProperties(), pqarrow.DefaultWriterProps())
			if werr != nil {
				t.Fatal(werr)
			}
			err = errors.Join(w.Write(record), w.Close())
		case "file":
			w, werr := ipc.NewFileWriter(f, ipc.WithSchema(record.Schema()))
			if werr != nil {
				t.Fatal(werr)
			}
			err = errors.Join(w.Write(record), w.Close(), f.Close())
		case "stream":
			w := ipc.NewWriter(f, ipc.WithSchema(record.Schema()))
			err = errors.Join(w.Write(record), w.Close(), f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return paths
}

func TestColumnarFiles(t *testing.T) {
	want := []string{
		`[{"n":0,"f":0,"s":"\"0\"","b":true,"t":"1970-01-01T00:00:00Z","l":[0]},` +
			`{"n":null,"f":0.5,"s":"\"1\"","b":false,"t":"1970-01-01T00:00:00.001Z","l":[1]}]`,
		`[{"n":2,"f":1,"s":"\"2\"","b":false,"t":"1970-01-01T00:00:00.002Z","l":[2]}]`,
	}
	for kind, path := range writeColumns(t, 3) {
		t.Run(kind, func(t *testing.T) {
			got, _, err := readAll(t, Spec{Paths: []string{path}, Batch: 2})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatal(diff)
			}
			streams, r, err := readAll(t, Spec{Paths: []string{path}, Batch: 2, Encoding: "arrow"})
			if err != nil || len(streams) != 2 || r.Records != 3 {
				t.Fatal(len(streams), err)
			}
			back, err := ipc.NewReader(strings.NewReader(streams[0]))
			if err != nil || !back.Next() || back.Record().NumRows() != 2 {
				t.Fatal("the first batch does not read back", err)
			}
			back.Release()
		})
	}
}

func TestMemoryIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.ndjson")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	line := []byte(`{"date":"2001-01-01","delay":14,"distance":405,"origin":"MCI","destination":"MDW"}` + "\n")
	chunk := bytes.Repeat(line, 10_000)
	for range 40 {
		if _, err := f.Write(chunk); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	spec := Spec{Paths: []string{path}}
	if err := spec.check(); err != nil {
		t.Fatal(err)
	}
	r, err := Open(&spec)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var batch []byte
	for {
		if batch, err = r.Next(batch[:0]); err != nil {
			break
		}
	}
	runtime.ReadMemStats(&after)
	if !errors.Is(err, io.EOF) || r.Records != 400_000 {
		t.Fatal(r.Records, err)
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20 {
		t.Fatalf("%d bytes were allocated for a file of 33 MB", grown)
	}
}

func FuzzNDJSON(f *testing.F) {
	f.Add([]byte("{\"a\":1}\n[2]\n"))
	f.Add([]byte("\xef\xbb\xbf1\n\n\"\xff\"\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		l := newLines("f", nil, bytes.NewReader(content))
		fuzzRecords(t, l)
	})
}

func FuzzCSV(f *testing.F) {
	f.Add([]byte("a,b\n1,x\n\"q\"\"\",\n"), "")
	f.Add([]byte("a;a\n"), ";")
	f.Fuzz(func(t *testing.T, content []byte, delimiter string) {
		if len([]rune(delimiter)) > 1 {
			return
		}
		c, err := newTable("f.csv", nil, bytes.NewReader(content), &CSV{Delimiter: delimiter})
		if err == nil {
			fuzzRecords(t, c)
		}
	})
}

// fuzzRecords reads all: whatever comes is valid JSON, and every error is named
// or ends the reading.
func fuzzRecords(t *testing.T, r interface{ next([]byte) ([]byte, error) }) {
	for {
		got, err := r.next(nil)
		var bad *FileError
		switch {
		case err == nil && !json.Valid(got):
			t.Fatalf("not JSON: %q", got)
		case err == nil:
		case errors.As(err, &bad) && bad.Line > 0:
		default:
			return
		}
	}
}
