package plan

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// Options of Load, Parse and Validate. The zero value is ready to use.
type Options struct {
	// CheckCondition, when set, is called for the text of every condition that
	// can be evaluated, the words (always, …) included. Its error becomes a
	// problem with the edge's place.
	CheckCondition func(expr string) error
}

// Load reads and validates a workflow file. Relative paths in it are resolved
// against its folder. Every error is an *InvalidError, which wraps the file
// system's error when the file cannot be read. At most one Options is taken.
func Load(path string, opts ...Options) (*Plan, error) {
	src, err := readFile(path)
	if err != nil {
		return nil, &InvalidError{Problems: []*Problem{{File: path, Message: fileMessage(err), Err: err}}}
	}
	return Parse(path, src, filepath.Dir(path), opts...)
}

// Parse validates the text of a workflow. name stands in its messages, and its
// ending .json asks for strict JSON; other text may be YAML or JSON. dir is the
// folder of relative paths; when it is empty, the text may not name files: it
// came from elsewhere, and nothing is read on its behalf. Every error is an
// *InvalidError. src is not kept.
func Parse(name string, src []byte, dir string, opts ...Options) (*Plan, error) {
	f := &source{name: name}
	var p *Plan
	if err := f.read(src); err != nil {
		f.report(err)
	} else {
		p = f.plan(dir, only(opts))
	}
	if err := invalid(f.problems); err != nil {
		return nil, err
	}
	return p, nil
}

func only(opts []Options) Options {
	switch len(opts) {
	case 0:
		return Options{}
	case 1:
		return opts[0]
	}
	panic("plan: more than one Options given")
}

// source is the text of a workflow with its tree and its problems.
type source struct {
	name     string
	text     string
	starts   []int32 // offsets of the lines, made when a problem is first placed
	root     *node
	problems []*Problem
}

// read turns the text into a tree.
func (f *source) read(src []byte) error {
	if len(src) > MaxFileBytes {
		return &treeError{message: tooLarge(int64(len(src)))}
	}
	src = bytes.TrimPrefix(src, []byte("\ufeff"))
	f.text = string(src)
	if at := invalidUTF8(src); at >= 0 {
		return &treeError{pos: offsetPosition(f.text, at), message: fmt.Sprintf(
			"is not UTF-8: byte %#02x at offset %d", src[at], at), hint: "save the file as UTF-8"}
	}
	trimmed := strings.TrimSpace(f.text)
	if trimmed == "" {
		return &treeError{message: "the file is empty"}
	}
	parse := parseYAML
	if strings.EqualFold(filepath.Ext(f.name), ".json") || trimmed[0] == '{' && validJSON(src) {
		parse = parseJSON
	}
	root, problems, err := parse(f.text)
	for _, p := range problems {
		f.place(p)
	}
	f.problems = append(f.problems, problems...)
	if err == nil && root == nil {
		err = &treeError{message: "the file is empty: it has only comments"}
	}
	f.root = root
	return err
}

// plan builds what the tree describes, as far as it can, and collects every
// problem on the way.
func (f *source) plan(dir string, opts Options) *Plan {
	suggest := &suggester{}
	b := &builder{root: f.root, suggest: suggest, plan: &Plan{File: f.name}, faulty: map[string]bool{}}
	if dir != "" {
		absolute, err := filepath.Abs(dir)
		if err != nil {
			f.report(fmt.Errorf("the folder %s: %w", dir, err))
			return nil
		}
		b.plan.Dir = absolute
	}
	b.problems = theSchema().validate(f.root, suggest)
	for _, p := range b.problems {
		b.faulty[p.at.String()] = true
	}
	b.build()
	p := b.plan
	c := &checker{plan: p, opts: opts, suggest: suggest, fromFile: true, line: func(at path) int {
		return f.root.locate(at, false).line
	}}
	c.check()
	for _, found := range append(b.problems, c.problems...) {
		f.place(found)
		f.problems = append(f.problems, found)
	}
	p.Warnings = append(append([]*Problem(nil), p.readWarnings...), c.warnings...)
	for _, w := range p.Warnings {
		f.place(w)
	}
	inOrder(p.Warnings)
	return p
}

// place completes a problem with file, line, column and source line.
func (f *source) place(p *Problem) {
	p.File = f.name
	p.Path = p.at.String()
	if p.Line == 0 && f.root != nil {
		pos := f.root.locate(p.at, p.onKey)
		p.Line, p.Column = pos.line, pos.column
	}
	if p.Line > 0 {
		p.Snippet = f.lineText(p.Line)
	}
}

// lineText returns a line (from 1) without its line break.
func (f *source) lineText(line int) string {
	if f.starts == nil {
		f.starts = []int32{0}
		for at, c := range []byte(f.text) {
			if c == '\n' {
				f.starts = append(f.starts, int32(at+1)) // a file is far below 2 GiB
			}
		}
	}
	if line > len(f.starts) {
		return ""
	}
	text := f.text[f.starts[line-1]:]
	if end := strings.IndexByte(text, '\n'); end >= 0 {
		text = text[:end]
	}
	return strings.TrimSuffix(text, "\r")
}

func (f *source) report(err error) {
	p := &Problem{File: f.name, Message: err.Error(), Err: err}
	var at *treeError
	if errors.As(err, &at) {
		p.Line, p.Column, p.Hint, p.Err = at.pos.line, at.pos.column, at.hint, nil
	}
	f.place(p)
	f.problems = append(f.problems, p)
}

// readFile reads at most MaxFileBytes of text. Anything but a folder may be
// read, so that a workflow can come through a pipe.
func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.IsDir() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errIsFolder}
	}
	src, err := io.ReadAll(io.LimitReader(file, MaxFileBytes+1))
	if err == nil && len(src) > MaxFileBytes {
		size := int64(len(src))
		if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
			size = info.Size()
		}
		return nil, errors.New(tooLarge(size))
	}
	return src, err
}

var errIsFolder = errors.New("is a folder, not a file")

// fileMessage says what is wrong with a file whose name the reader knows.
func fileMessage(err error) string {
	var at *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "there is no such file"
	case errors.Is(err, fs.ErrPermission):
		return "permission to read it was denied"
	case errors.As(err, &at):
		return at.Err.Error()
	}
	return err.Error()
}

func tooLarge(size int64) string {
	return fmt.Sprintf("is too large: %d bytes or more, the limit is %d", size, MaxFileBytes)
}

// invalidUTF8 returns the offset of the first byte that is not UTF-8, or -1.
func invalidUTF8(src []byte) int {
	if utf8.Valid(src) {
		return -1
	}
	for i := 0; i < len(src); {
		r, n := utf8.DecodeRune(src[i:])
		if r == utf8.RuneError && n <= 1 {
			return i
		}
		i += n
	}
	return -1
}
