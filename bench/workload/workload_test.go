package workload

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

func build(t *testing.T, size int) (*Payload, []byte) {
	t.Helper()
	p, err := Build(t.TempDir(), size, GenerateRecords(100))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := p.Load(0)
	if err != nil {
		t.Fatal(err)
	}
	return p, doc
}

func TestPayloadIsCanonicalAndAsLargeAsAsked(t *testing.T) {
	for _, size := range []int{MinSize, 1 << 10, 1<<10 + 1, 100_000} {
		p, doc := build(t, size)
		if p.Size != len(doc) || p.Size > size || p.Size < size-64 {
			t.Errorf("size %d: the document has %d bytes and says %d, want just below", size, len(doc), p.Size)
		}
		var s State
		if err := json.Unmarshal(doc, &s); err != nil {
			t.Fatal(err)
		}
		if len(s.Data) != p.Count || s.Count != p.Count {
			t.Errorf("size %d: %d records, count %d, want %d", size, len(s.Data), s.Count, p.Count)
		}
		if again, err := json.Marshal(s); err != nil || !bytes.Equal(again, doc) {
			t.Errorf("size %d: encoding the decoded payload gives other bytes (%v)", size, err)
		}
		var parts struct{ Data json.RawMessage }
		if err := json.Unmarshal(doc, &parts); err != nil {
			t.Fatal(err)
		}
		if got := doc[p.DataOffset : p.DataOffset+p.DataLength]; !bytes.Equal(got, parts.Data) {
			t.Errorf("size %d: the span of data is %.20q…", size, got)
		}
	}
	if _, err := Build(t.TempDir(), MinSize-1, GenerateRecords(1)); err == nil {
		t.Error("a payload below the smallest was built")
	}
}

func TestRewritingBytesAndRecordsIsTheSame(t *testing.T) {
	p, doc := build(t, 5000)
	var s State
	if err := json.Unmarshal(doc, &s); err != nil {
		t.Fatal(err)
	}
	for step := range Steps {
		out := make([]byte, len(doc))
		if fold := Rewrite(out, doc, p.Mark); fold != p.Folds[step] {
			t.Errorf("step %d folds to %#x, want %#x", step, fold, p.Folds[step])
		}
		doc = out
		RewriteState(&s)
	}
	encoded, err := json.Marshal(s)
	if err != nil || !bytes.Equal(encoded, doc) {
		t.Fatalf("three rewritten documents and three rewritten states differ (%v)", err)
	}
	if got, err := OutcomeOf(doc); err != nil || got != p.Rewritten {
		t.Errorf("outcome %+v, %v, want %+v", got, err, p.Rewritten)
	}
	if p.Rewritten.DataCRC == p.Untouched.DataCRC || p.Untouched.Count != p.Count+Steps {
		t.Errorf("outcomes %+v and %+v do not tell the kinds of work apart", p.Rewritten, p.Untouched)
	}
}

func TestFoldSeesEveryByte(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 1, 200).Draw(t, "bytes")
		at := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		delta := rapid.ByteRange(1, 255).Draw(t, "delta")
		before := Fold(b)
		b[at] += delta
		if Fold(b) == before {
			t.Fatalf("changing byte %d of %d does not change the fold", at, len(b))
		}
	})
}

func TestLoadLeavesRoom(t *testing.T) {
	p, doc := build(t, 1000)
	framed, err := p.Load(32)
	if err != nil || len(framed) != 32+len(doc) || !bytes.Equal(framed[32:], doc) {
		t.Fatalf("Load(32) gave %d bytes, %v", len(framed), err)
	}
	if err := p.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Load(0); err == nil {
		t.Error("a removed payload was loaded")
	}
}

func TestOutcomeOfAnythingElseIsAnError(t *testing.T) {
	for _, doc := range []string{``, `{}`, `{"data":[1]}`, `{"data":[1],"count":x}`, `{"data":[1],"count":1`, `[],"count":1}`} {
		if got, err := OutcomeOf([]byte(doc)); err == nil {
			t.Errorf("OutcomeOf(%q) = %+v, want an error", doc, got)
		}
	}
}

func TestLoadRecords(t *testing.T) {
	dir := t.TempDir()
	file := func(content string) string {
		path := filepath.Join(dir, "records.json")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	got, _, err := LoadRecords(file(`[{"delay":-3,"distance":1452,"time":0.5}]`))
	if want := []Record{{-3, 1452, 0.5}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("LoadRecords() = %v, %v, want %v", got, err, want)
	}
	for _, bad := range []string{``, `{}`, `[]`, `[{"delay":1,"other":2}]`, `[{"delay":"late"}]`} {
		if _, _, err := LoadRecords(file(bad)); err == nil {
			t.Errorf("records %q were accepted", bad)
		}
	}
	if _, _, err := LoadRecords(dir); err == nil {
		t.Error("a folder was accepted for a file")
	}
	for _, missing := range []string{"", filepath.Join(dir, "missing")} {
		if got, _, err := LoadRecords(missing); err != nil || len(got) != generated {
			t.Errorf("LoadRecords(%q) = %d records, %v, want generated ones", missing, len(got), err)
		}
	}
}

func TestGeneratedRecordsAreTheSameEveryTime(t *testing.T) {
	if !reflect.DeepEqual(GenerateRecords(50), GenerateRecords(50)) {
		t.Error("two generations differ")
	}
}
