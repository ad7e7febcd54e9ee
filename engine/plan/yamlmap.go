package plan

import (
	"fmt"

	"github.com/goccy/go-yaml/ast"
)

// object reads the members of a mapping: duplicates are problems, merge keys
// (<<) give way to keys that are written out.
func (r *yamlReader) object(out *node, values []*ast.MappingValueNode, depth int) error {
	out.kind = isObject
	seen := map[string]int{}
	var merged []*node
	for _, v := range values {
		pos := nodePosition(v.Key)
		if _, ok := v.Key.(*ast.MergeKeyNode); ok {
			sources, err := r.mergeSources(v.Value, depth)
			if err != nil {
				return err
			}
			merged = append(merged, sources...)
			continue
		}
		key, err := r.key(v.Key, depth)
		if err != nil {
			return err
		}
		value, err := r.value(v.Value, depth+1)
		if err != nil {
			return err
		}
		if i, dup := seen[key]; dup {
			r.problem(pos, fmt.Sprintf("duplicate key %q: already used at line %d", key, out.members[i].pos.line), "")
			continue
		}
		if value.kind == isNull && value.pos == (position{}) {
			value.pos = pos
		}
		seen[key] = len(out.members)
		out.members = append(out.members, member{key, pos, value})
	}
	for _, m := range merged {
		for _, each := range m.members {
			if _, ok := seen[each.key]; !ok {
				seen[each.key] = len(out.members)
				out.members = append(out.members, each)
			}
		}
	}
	return nil
}

// key gives the text of a mapping's key; JSON knows no other keys.
func (r *yamlReader) key(n ast.Node, depth int) (string, error) {
	if k, ok := n.(*ast.MappingKeyNode); ok {
		n = k.Value
	}
	if n == nil {
		return "", nil
	}
	v, err := r.value(n, depth+1)
	if err != nil {
		return "", err
	}
	switch {
	case v.kind == isArray || v.kind == isObject:
		return "", &treeError{pos: nodePosition(n), message: "a key must be text, not a list or a mapping"}
	case v.kind == isString:
		return v.text, nil
	}
	return v.source, nil // 1: and true: are keys as they are written
}

func (r *yamlReader) mergeSources(n ast.Node, depth int) ([]*node, error) {
	v, err := r.value(n, depth+1)
	if err != nil {
		return nil, err
	}
	sources := []*node{v}
	if v.kind == isArray {
		sources = v.items
	}
	for _, s := range sources {
		if s.kind != isObject {
			return nil, &treeError{pos: nodePosition(n), message: "<< takes a mapping or a list of mappings"}
		}
	}
	return sources, nil
}

// tagged applies the tags of the core schema; any other tag is an error, since
// ignoring it would change the meaning.
func (r *yamlReader) tagged(out *node, n *ast.TagNode, depth int) (*node, error) {
	v, err := r.value(n.Value, depth+1)
	if err != nil {
		return nil, err
	}
	tag := n.Start.Value
	fits := false
	switch tag {
	case "!!str", "!":
		if fits = v.kind != isArray && v.kind != isObject; fits {
			text, _ := v.argument()
			if v.kind == isNull {
				text = v.source
			}
			v = &node{kind: isString, text: text, pos: out.pos}
		}
	case "!!null":
		fits = v.kind == isNull
	case "!!bool":
		fits = v.kind == isBool
	case "!!int", "!!float":
		fits = v.kind == isNumber
	case "!!seq":
		fits = v.kind == isArray
	case "!!map":
		fits = v.kind == isObject
	default:
		return nil, &treeError{pos: out.pos, message: fmt.Sprintf("the YAML tag %s is not supported", tag)}
	}
	if !fits {
		return nil, &treeError{pos: out.pos, message: fmt.Sprintf("the value does not fit its tag %s", tag)}
	}
	return v, nil
}
