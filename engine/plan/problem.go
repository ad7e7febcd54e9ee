package plan

import (
	"fmt"
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Problem is one thing that is wrong, or doubtful, in a workflow.
type Problem struct {
	// File as it was named to Load or Parse; empty for a plan made in Go.
	File string
	// Line and Column count from 1, in characters. Zero: the problem has no
	// place in the text.
	Line, Column int
	// Path in the document, as steps[2].next.b; empty for the document itself.
	Path string
	// Message says what is wrong.
	Message string
	// Hint says what to do; it may be empty.
	Hint string
	// Snippet is the text of the line, without its line break; it may be empty.
	Snippet string
	// Err is the cause, when there is one: a file error, a condition's error.
	Err error

	at    path
	onKey bool
}

// Error gives the problem in one line, without the snippet.
func (p *Problem) Error() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		b.WriteByte(':')
	}
	if p.Line > 0 {
		fmt.Fprintf(&b, "%d:%d:", p.Line, p.Column)
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	if p.Path != "" {
		b.WriteString(p.Path)
		b.WriteString(": ")
	}
	b.WriteString(p.Message)
	if p.Hint != "" {
		b.WriteString(" (")
		b.WriteString(p.Hint)
		b.WriteByte(')')
	}
	return printable(b.String())
}

// Unwrap returns the cause.
func (p *Problem) Unwrap() error { return p.Err }

// Render gives the problem with its source line and a caret below the place.
// It ends without a line break.
func (p *Problem) Render() string {
	if p.Line == 0 || strings.TrimSpace(p.Snippet) == "" {
		return p.Error()
	}
	text, column := window([]rune(p.Snippet), p.Column)
	gutter := fmt.Sprintf("%5d | ", p.Line)
	return fmt.Sprintf("%s\n%s%s\n%s| %s^", p.Error(), gutter, text,
		strings.Repeat(" ", len(gutter)-2), strings.Repeat(" ", column))
}

// snippetWidth keeps a minified line from filling the screen.
const snippetWidth = 100

// window cuts the part of a line around a column (from 1), and returns it with
// the column (from 0) in it. One rune stays one rune, so the caret fits.
func window(line []rune, column int) (string, int) {
	at := min(max(column-1, 0), len(line))
	from, to := 0, len(line)
	if to > snippetWidth {
		from = max(0, min(at-snippetWidth/2, to-snippetWidth))
		to = min(to, from+snippetWidth)
	}
	return printable(string(line[from:to])), at - from
}

// printable replaces what could move a terminal's cursor or forge a line: the
// text comes from a file that someone else may have written.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return '·'
		}
		return r
	}, s)
}

// InvalidError reports every problem of a workflow, in file order.
type InvalidError struct{ Problems []*Problem }

// maxRendered bounds the text of an InvalidError; Problems is complete.
const maxRendered = 50

// Error renders the problems with their source lines.
func (e *InvalidError) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		if i == maxRendered {
			fmt.Fprintf(&b, "and %d more problems", len(e.Problems)-i)
			break
		}
		b.WriteString(p.Render())
	}
	return b.String()
}

// Unwrap returns the problems, so that errors.Is and errors.As reach their
// causes.
func (e *InvalidError) Unwrap() []error {
	all := make([]error, len(e.Problems))
	for i, p := range e.Problems {
		all[i] = p
	}
	return all
}

// invalid returns the problems as an error in file order, nil for none.
func invalid(all []*Problem) error {
	if len(all) == 0 {
		return nil
	}
	inOrder(all)
	return &InvalidError{Problems: all}
}

func inOrder(all []*Problem) {
	sort.SliceStable(all, func(i, j int) bool {
		a, b := all[i], all[j]
		if a.Line != b.Line {
			return a.Line < b.Line
		}
		return a.Column < b.Column
	})
}
