package plan

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"sort"
	"testing"
)

// The schema and the Go shapes name the same properties.
func TestSchemaAndShapesAgree(t *testing.T) {
	for location, shape := range map[string]any{
		"#/$defs/plan":           filePlan{},
		"#/$defs/short":          fileShort{},
		"#/$defs/workflow":       fileWorkflow{},
		"#/$defs/options":        fileOptions{},
		"#/$defs/step":           fileStep{},
		"#/$defs/edge/anyOf/2":   fileEdge{},
		"#/$defs/retry/anyOf/1":  fileRetry{},
		"#/$defs/stdin/anyOf/1":  fileStdin{},
		"#/$defs/stdout/anyOf/1": fileStdout{},
		"#/$defs/module":         fileModule{},
	} {
		var keys []string
		for i := range reflect.TypeOf(shape).NumField() {
			keys = append(keys, reflect.TypeOf(shape).Field(i).Tag.Get("key"))
		}
		sort.Strings(keys)
		if declared := theSchema().properties(location); !slices.Equal(keys, declared) {
			t.Errorf("%s declares\n%v\n%T reads\n%v", location, declared, shape, keys)
		}
	}
}

// Every object of the schema with properties refuses others, and every property
// says what it is: editors show it.
func TestSchemaDescribesEveryProperty(t *testing.T) {
	seen := 0
	var walk func(at string, v any)
	walk = func(at string, v any) {
		switch v := v.(type) {
		case []any:
			for i, item := range v {
				walk(at+"/"+string(rune('0'+i)), item)
			}
		case map[string]any:
			declared, ok := v["properties"].(map[string]any)
			if _, condition := v["required"]; ok && (condition || v["type"] != nil) {
				if v["additionalProperties"] != false {
					t.Errorf("%s accepts unknown keys", at)
				}
				for name := range declared {
					seen++
					sub := theSchema().object(at + "/properties/" + name)
					ref, _ := sub["$ref"].(string)
					if sub["description"] == nil && theSchema().object(ref)["description"] == nil && name != "id" {
						t.Errorf("%s: %q has no description", at, name)
					}
				}
			}
			for key, item := range v {
				walk(at+"/"+key, item)
			}
		}
	}
	walk("#", theSchema().document)
	if seen < 60 {
		t.Errorf("only %d properties were seen", seen)
	}
}

// The published schema is the embedded file itself.
func TestPublishedSchema(t *testing.T) {
	published, err := os.ReadFile("../../docs/workflow.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if string(published) != string(Schema()) {
		t.Error("docs/workflow.schema.json is not the schema that validates")
	}
}

var codeBlock = regexp.MustCompile("(?ms)^```(yaml|json)\n(.*?)^```$")

// Every example of the format's reference is a valid workflow without warnings.
func TestDocumentedExamples(t *testing.T) {
	doc, err := os.ReadFile("../../docs/workflow-format.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, dir+"/jobs/fetch.js", "get('/x')")
	write(t, dir+"/steps/score.py", "def step(state): return state")
	write(t, dir+"/lib/shared.js", "export const x = 1")
	write(t, dir+"/data/.keep", "")
	blocks := codeBlock.FindAllSubmatch(doc, -1)
	for _, m := range blocks {
		p, err := Parse("example."+string(m[1]), m[2], dir)
		if err != nil {
			t.Errorf("%s\n%v", m[2], err)
			continue
		}
		for _, w := range p.Warnings {
			t.Errorf("%s\n%v", m[2], w.Render())
		}
	}
	if len(blocks) < 6 {
		t.Errorf("only %d examples were found", len(blocks))
	}
}

// Every key that a workflow may hold is explained in the reference.
func TestDocumentedKeys(t *testing.T) {
	doc, err := os.ReadFile("../../docs/workflow-format.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, location := range []string{"plan", "short", "options", "step", "edge/anyOf/2", "retry/anyOf/1", "stdin/anyOf/1", "stdout/anyOf/1"} {
		for _, name := range theSchema().properties("#/$defs/" + location) {
			if !regexp.MustCompile("`" + regexp.QuoteMeta(name) + "[`:]").Match(doc) {
				t.Errorf("%s: %q is not in docs/workflow-format.md", location, name)
			}
		}
	}
}
