package plan

import (
	"bytes"
	_ "embed" // the schema
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

//go:embed workflow.schema.json
var schemaText []byte

// Schema returns the JSON Schema (draft 2020-12) of workflow files. The caller
// owns the bytes.
func Schema() []byte { return bytes.Clone(schemaText) }

// schema is the compiled schema beside its own document, in which annotations
// and property names are looked up for messages.
type schema struct {
	compiled *jsonschema.Schema
	document any
}

var theSchema = sync.OnceValue(func() *schema {
	// The schema is part of the program: a fault in it is a bug, not an error.
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(schemaText))
	if err != nil {
		panic(fmt.Sprintf("plan: workflow.schema.json: %v", err))
	}
	const address = "workflow.schema.json"
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource(address, document); err != nil {
		panic(fmt.Sprintf("plan: workflow.schema.json: %v", err))
	}
	compiled, err := c.Compile(address)
	if err != nil {
		panic(fmt.Sprintf("plan: workflow.schema.json: %v", err))
	}
	return &schema{compiled, document}
})

// object returns the part of the schema's document at a location (a URL whose
// fragment is a JSON pointer), or nil.
func (s *schema) object(location string) map[string]any {
	_, fragment, _ := strings.Cut(location, "#")
	at := s.document
	for _, token := range strings.Split(fragment, "/") {
		if token == "" {
			continue
		}
		if plain, err := url.PathUnescape(token); err == nil {
			token = plain
		}
		token = strings.NewReplacer("~1", "/", "~0", "~").Replace(token)
		switch value := at.(type) {
		case map[string]any:
			at = value[token]
		case []any:
			i, err := strconv.Atoi(token)
			if err != nil || i < 0 || i >= len(value) {
				return nil
			}
			at = value[i]
		default:
			return nil
		}
	}
	object, _ := at.(map[string]any)
	return object
}

// properties lists the property names that the schema at a location declares.
func (s *schema) properties(location string) []string {
	declared, _ := s.object(location)["properties"].(map[string]any)
	names := make([]string, 0, len(declared))
	for name := range declared {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// annotation returns a text which the schema says about itself, or empty.
func (s *schema) annotation(location, keyword string) string {
	text, _ := s.object(location)[keyword].(string)
	return text
}

// validate returns the problems that the schema finds, without their places.
func (s *schema) validate(root *node, suggest *suggester) []*Problem {
	err := s.compiled.Validate(root.instance())
	if err == nil {
		return nil
	}
	found, ok := err.(*jsonschema.ValidationError)
	if !ok {
		return []*Problem{{Message: err.Error(), Err: err}}
	}
	r := &schemaReport{schema: s, root: root, suggest: suggest, several: map[string]bool{}}
	r.add(found)
	return r.problems
}

// pathOf turns the validator's location into a path: only the tree knows which
// of its tokens are indexes.
func pathOf(root *node, tokens []string) path {
	var at path
	n := root
	for _, token := range tokens {
		if n != nil && n.kind == isArray {
			i, err := strconv.Atoi(token)
			if err != nil || i < 0 || i >= len(n.items) {
				return at
			}
			at, n = append(at, i), n.items[i]
			continue
		}
		at, n = append(at, token), n.get(token)
	}
	return at
}

// follow returns the node at a path, or nil.
func (n *node) follow(at path) *node {
	for _, part := range at {
		switch part := part.(type) {
		case int:
			if n == nil || part >= len(n.items) {
				return nil
			}
			n = n.items[part]
		case string:
			n = n.get(part)
		}
	}
	return n
}

// typeWords are the names of JSON's types in a sentence.
var typeWords = map[string]string{
	"null": "null", "boolean": "true or false", "number": "a number", "integer": "a whole number",
	"string": "a string", "array": "a list", "object": "an object",
}

// typeList joins types for a sentence. Null is left out: saying that a key may
// be left empty helps nobody who filled it in.
func typeList(types []string) string {
	var words []string
	for _, t := range types {
		if t == "null" && len(types) > 1 || slices.Contains(words, typeWords[t]) {
			continue
		}
		words = append(words, typeWords[t])
	}
	return orList(words)
}

func orList(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

func quoted(words []string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = strconv.Quote(w)
	}
	return out
}

// shown is a value as a message quotes it: short.
func shown(v any) string {
	text, err := json.Marshal(v)
	if err != nil || len(text) > 60 {
		return ""
	}
	return string(text)
}
