package plan

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/goccy/go-yaml/scanner"
	"github.com/goccy/go-yaml/token"
)

const handOver = "hand large data to the run as its input"

// yamlTokens scans the text, and refuses what would make the parser recurse or
// grow without bound.
func yamlTokens(src string) (token.Tokens, error) {
	punctuation := 0
	for i := range len(src) {
		if strings.IndexByte("[]{},:-?&*!|>'\"#%\n", src[i]) >= 0 {
			punctuation++
		}
	}
	if punctuation > maxPunctuation {
		return nil, &treeError{message: fmt.Sprintf(
			"too much in one YAML file: %d punctuation characters, the limit is %d", punctuation, maxPunctuation), hint: handOver}
	}
	var (
		s     scanner.Scanner
		all   token.Tokens
		guard nesting
	)
	s.Init(src)
	for {
		some, err := s.Scan()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		for _, t := range some {
			if t.Type == token.InvalidType {
				return nil, invalidToken(t)
			}
			if problem := guard.add(t); problem != "" {
				return nil, &treeError{pos: tokenPosition(t), message: problem, hint: handOver}
			}
		}
		if all.Add(some...); len(all) > maxTokens {
			return nil, &treeError{pos: tokenPosition(all[maxTokens]), message: fmt.Sprintf(
				"too much in one YAML file, the limit is %d tokens", maxTokens), hint: handOver + ", or write JSON"}
		}
	}
}

func invalidToken(t *token.Token) error {
	if strings.Contains(t.Error, "\t") {
		return &treeError{pos: tokenPosition(t), message: "YAML syntax: a tab cannot stand here", hint: "indent with spaces"}
	}
	return &treeError{pos: tokenPosition(t), message: "YAML syntax: " + t.Error}
}

// nesting bounds how deeply the parser will recurse, from above: each token of
// a block that starts further right than those around it may open a level.
type nesting struct {
	flow   int
	levels []level
}

// level is a column at which something in a block began, and how many keys
// began there since anything further left did.
type level struct{ column, keys int }

// add returns what is wrong, or an empty text.
func (n *nesting) add(t *token.Token) string {
	switch t.Type {
	case token.MappingStartType, token.SequenceStartType:
		n.flow++
	case token.MappingEndType, token.SequenceEndType:
		n.flow = max(0, n.flow-1)
	case token.CommentType:
		return ""
	}
	if n.flow > 0 {
		if n.flow > maxDepth {
			return fmt.Sprintf("nested too deeply, the limit is %d levels", maxDepth)
		}
		return ""
	}
	keys := 0
	for len(n.levels) > 0 {
		top := n.levels[len(n.levels)-1]
		if top.column < t.Position.Column {
			break
		}
		if top.column == t.Position.Column {
			keys = top.keys
		}
		n.levels = n.levels[:len(n.levels)-1]
	}
	if t.Type != token.SequenceEntryType {
		keys++
	}
	n.levels = append(n.levels, level{t.Position.Column, keys})
	switch {
	case keys > maxBlockKeys:
		return fmt.Sprintf("too many keys in one mapping, the limit is %d", maxBlockKeys)
	case len(n.levels) > 2*maxDepth: // a level is up to two tokens: a key and its value
		return fmt.Sprintf("nested too deeply, the limit is %d levels", maxDepth)
	}
	return ""
}
