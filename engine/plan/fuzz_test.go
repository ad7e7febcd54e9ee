package plan

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// FuzzParse: whatever the text is, Parse answers, with a plan that keeps its
// promises or with problems that have a message and a place within the text.
func FuzzParse(f *testing.F) {
	f.Add("x.yaml", []byte(everything))
	f.Add("x.json", []byte(`{"steps":[{"id":"a","next":{"b":{"condition":"x"}}},{"id":"b"}]}`))
	files, _ := filepath.Glob("testdata/invalid/*")
	for _, file := range files {
		if ext := filepath.Ext(file); ext != ".txt" {
			if src, err := os.ReadFile(file); err == nil {
				f.Add("x"+ext, src)
			}
		}
	}
	f.Fuzz(func(t *testing.T, name string, src []byte) {
		if len(src) > 1<<16 {
			t.Skip()
		}
		started := time.Now()
		p, err := Parse(name, src, "")
		if took := time.Since(started); took > 20*time.Second {
			t.Errorf("took %v for %d bytes", took, len(src))
		}
		if err != nil {
			var invalid *InvalidError
			if !errors.As(err, &invalid) || len(invalid.Problems) == 0 || p != nil {
				t.Fatalf("%T %v with %v", err, err, p)
			}
			for _, each := range invalid.Problems {
				if each.Message == "" || each.Line < 0 || each.Line > 0 && each.Column < 1 {
					t.Errorf("%+v", each)
				}
			}
			if invalid.Error() == "" {
				t.Error("no text")
			}
			return
		}
		survives(t, p)
	})
}

// survives checks what the package promises of a valid plan.
func survives(t *testing.T, p *Plan) {
	if len(p.Steps) == 0 || len(p.Start) == 0 {
		t.Fatalf("%+v", p)
	}
	for _, id := range p.Start {
		if p.Step(id) == nil {
			t.Errorf("start %q", id)
		}
	}
	ids := map[string]bool{}
	for i, s := range p.Steps {
		if s.Index != i || s.ID == "" || len(s.ID) > MaxIDBytes || ids[s.ID] || p.Step(s.ID) != s || len(s.kinds()) > 1 {
			t.Errorf("step %d: %+v", i, s)
		}
		ids[s.ID] = true
		for _, text := range []json.RawMessage{s.Configuration, s.State} {
			if text != nil && (!json.Valid(text) || text[0] != '{') {
				t.Errorf("step %d: %s", i, text)
			}
		}
		if s.Timeout < 0 || s.Memory < 0 || s.Concurrency < 0 || s.Retry.Attempts < 0 {
			t.Errorf("step %d: %+v", i, s)
		}
		for _, e := range s.Next {
			if e.Disabled || e.From != s || p.Step(e.To.ID) != e.To {
				t.Errorf("edge %+v", e)
			}
		}
	}
	if err := p.Validate(); err != nil {
		t.Errorf("a valid plan is refused when it is validated again: %v", err)
	}
}
