package plan

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// treeError stops the reading of a file that cannot become a tree.
type treeError struct {
	pos     position
	message string
	hint    string
}

func (e *treeError) Error() string { return e.message }

// yamlReader turns YAML into nodes. Of the parser only its syntax tree is used;
// what a scalar means, aliases and merge keys are decided here, within limits.
type yamlReader struct {
	anchors  map[string]*node
	problems []*Problem
}

// parseYAML returns a nil node for a file without a value. Problems that do not
// hinder the reading, such as a duplicate key, are in the list.
func parseYAML(src string) (root *node, problems []*Problem, err error) {
	defer func() {
		// The parser is other people's code on untrusted text: its bug must not
		// take the host down.
		if r := recover(); r != nil {
			root, err = nil, &treeError{message: fmt.Sprintf("the YAML parser gave up: %v", r)}
		}
	}()
	tokens, err := yamlTokens(src)
	if err != nil {
		return nil, nil, err
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, nil, yamlSyntaxError(err)
	}
	var body ast.Node
	for _, doc := range file.Docs {
		if doc == nil || doc.Body == nil || doc.Body.Type() == ast.DirectiveType {
			continue
		}
		if body != nil {
			return nil, nil, &treeError{pos: nodePosition(doc.Body),
				message: "a second YAML document starts here", hint: "a workflow file holds one document"}
		}
		body = doc.Body
	}
	if body == nil {
		return nil, nil, nil
	}
	r := &yamlReader{anchors: map[string]*node{}}
	root, err = r.value(body, 0)
	return root, r.problems, err
}

func yamlSyntaxError(err error) error {
	var at yaml.Error
	if errors.As(err, &at) && at.GetToken() != nil {
		hint := ""
		if strings.HasPrefix(at.GetMessage(), "mapping value is not allowed") {
			hint = `a text that contains ": " must be quoted`
		}
		return &treeError{pos: tokenPosition(at.GetToken()), message: "YAML syntax: " + at.GetMessage(), hint: hint}
	}
	return &treeError{message: "YAML syntax: " + err.Error()}
}

func tokenPosition(t *token.Token) position {
	if t == nil || t.Position == nil {
		return position{}
	}
	return position{max(t.Position.Line, 1), max(t.Position.Column, 1)}
}

// nodePosition is where a value begins; the tree has a mapping at its colon.
func nodePosition(n ast.Node) position {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return nodePosition(n.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return nodePosition(n.Key)
	}
	return tokenPosition(n.GetToken())
}

func (r *yamlReader) problem(pos position, message, hint string) {
	r.problems = append(r.problems, &Problem{Line: pos.line, Column: pos.column, Message: message, Hint: hint})
}

// value turns a syntax node into a node that is measured and within limits.
func (r *yamlReader) value(n ast.Node, depth int) (*node, error) {
	out, err := r.bare(n, depth)
	if err != nil {
		return nil, err
	}
	out.measure()
	if out.values > maxValues || out.size > maxExpandedBytes {
		return nil, &treeError{pos: nodePosition(n), message: fmt.Sprintf(
			"too much in one workflow file with its aliases expanded, the limits are %d values and %d bytes",
			maxValues, maxExpandedBytes), hint: handOver}
	}
	return out, nil
}

func (r *yamlReader) bare(n ast.Node, depth int) (*node, error) {
	if n == nil {
		return &node{}, nil
	}
	out := &node{pos: nodePosition(n)}
	if depth > maxDepth {
		return nil, &treeError{pos: out.pos, message: fmt.Sprintf("nested too deeply, the limit is %d levels", maxDepth)}
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		return out, r.object(out, n.Values, depth)
	case *ast.MappingValueNode:
		return out, r.object(out, []*ast.MappingValueNode{n}, depth)
	case *ast.SequenceNode:
		out.kind = isArray
		for _, item := range n.Values {
			v, err := r.value(item, depth+1)
			if err != nil {
				return nil, err
			}
			out.items = append(out.items, v)
		}
		return out, nil
	case *ast.AnchorNode:
		v, err := r.value(n.Value, depth+1)
		if err != nil {
			return nil, err
		}
		r.anchors[nameOf(n.Name)] = v
		return v, nil
	case *ast.AliasNode:
		name := nameOf(n.Value)
		v := r.anchors[name]
		if v == nil {
			return nil, &treeError{pos: out.pos, message: fmt.Sprintf("alias *%s: no anchor &%s before it", name, name)}
		}
		return v, nil
	case *ast.TagNode:
		return r.tagged(out, n, depth)
	case *ast.LiteralNode:
		out.kind, out.text = isString, n.Value.Value
		return out, nil
	}
	return out, r.scalar(out, n)
}

// nameOf is the name of an anchor or alias.
func nameOf(n ast.Node) string {
	if n == nil || n.GetToken() == nil {
		return ""
	}
	return n.GetToken().Value
}

func (r *yamlReader) scalar(out *node, n ast.Node) error {
	t := n.GetToken()
	text := ""
	switch n := n.(type) {
	case *ast.StringNode:
		text = n.Value
		if t.Type != token.StringType { // quoted
			out.kind, out.text = isString, text
			return nil
		}
	case *ast.NullNode:
		return nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		text = t.Value
	default:
		return &treeError{pos: out.pos, message: fmt.Sprintf("%s is not allowed here", n.Type())}
	}
	if !plainScalar(out, text) {
		r.problem(out.pos, fmt.Sprintf("%s is no number that JSON can hold", text), "quote it if it is meant as text")
		out.kind, out.text = isString, text
	}
	return nil
}
