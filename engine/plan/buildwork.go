package plan

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// work reads what a step does. Several kinds of work in one step were reported
// by the schema; each is read, for the problems in it.
func (b *builder) work(s *Step, f fileStep, at path) {
	if src := text(f.Expression); src != "" {
		s.Expression = &Expression{Source: b.source(src, at.with("expression"))}
		b.adaptors(s.Expression, f, at)
	} else if f.Adaptor != nil || f.Adaptors != nil {
		b.warn(at, "", "the step has an adaptor but no expression: it only passes the state on")
	}
	if f.Command != nil {
		s.Command = &Command{Argv: b.program(f.Command, at.with("command")), Dir: b.plan.Dir}
		b.commandIO(s.Command, f, at)
	}
	if f.Worker != nil {
		s.Worker = &Worker{Argv: b.program(f.Worker, at.with("worker")), Function: text(f.Function)}
	}
	if file := text(f.Python); file != "" {
		s.Python = &Python{Path: b.file(file, at.with("python")), Function: text(f.Function)}
	}
	if f.Source != nil {
		s.Files = b.files(f.Source, at.with("source"))
	}
}

// files reads a source: the path of a file alone, or an object. What a path
// stands for is looked up when the step runs: a former step may write it.
func (b *builder) files(n *node, at path) *Files {
	s := new(Files)
	add := func(n *node, at path) {
		for i, name := range stringList(n) {
			place := at
			if n.kind == isArray {
				place = at.with(i)
			}
			if full, ok := b.resolve(name, place); ok {
				s.Paths = append(s.Paths, full)
			}
		}
	}
	if n.kind != isObject {
		add(n, at)
		return s
	}
	f := bind[fileSource](n)
	for _, from := range []struct {
		node *node
		key  string
	}{{f.File, "file"}, {f.Files, "files"}, {f.Dir, "dir"}} {
		if from.node != nil {
			add(from.node, at.with(from.key))
		}
	}
	s.Format, s.Key, s.Encoding = text(f.Format), text(f.Key), text(f.Encoding)
	s.Batch, _ = f.Batch.int()
	s.Delimiter = text(f.Delimiter)
	s.Columns = stringList(f.Columns)
	s.SkipBad = text(f.OnError) == "skip"
	s.Text = text(f.Types) == "text"
	return s
}

func (b *builder) adaptors(e *Expression, f fileStep, at path) {
	for _, name := range append(stringList(f.Adaptor), stringList(f.Adaptors)...) {
		if strings.TrimSpace(name) == "" {
			b.problem(at.with("adaptors"), "an adaptor's name must not be empty")
			continue
		}
		e.Adaptors = append(e.Adaptors, name)
	}
	if f.Linker == nil || len(f.Linker.members) == 0 {
		return
	}
	e.Linker = make(map[string]Module, len(f.Linker.members))
	for _, m := range f.Linker.members {
		module := bind[fileModule](m.value)
		out := Module{Version: text(module.Version)}
		if p := text(module.Path); p != "" {
			out.Path, _ = b.resolve(p, at.with("linker", m.key, "path"))
		}
		e.Linker[m.key] = out
	}
}

func (b *builder) commandIO(c *Command, f fileStep, at path) {
	c.Stdin = Stdin{From: ChannelState}
	switch {
	case text(f.Stdin) == "none":
		c.Stdin.From = ChannelNone
	case f.Stdin != nil && f.Stdin.kind == isObject:
		in := bind[fileStdin](f.Stdin)
		c.Stdin = Stdin{From: ChannelKey, Key: text(in.Key)}
		if in.Stream != nil {
			c.Stdin = Stdin{From: ChannelStream, Key: text(in.Stream)}
		}
	}
	c.Stdout = Stdout{To: ChannelState}
	switch {
	case text(f.Stdout) == "ignore":
		c.Stdout.To = ChannelNone
	case f.Stdout != nil && f.Stdout.kind == isObject:
		out := bind[fileStdout](f.Stdout)
		c.Stdout = Stdout{To: ChannelKey, Key: text(out.Key), Encoding: Encoding(text(out.Encoding))}
		if out.Stream != nil {
			c.Stdout.To, c.Stdout.Key = ChannelStream, text(out.Stream)
		}
	}
	if on := boolean(f.StateFD); on != nil {
		c.StateFD = *on
	}
	if f.Env != nil && f.Env.kind == isObject {
		for _, m := range f.Env.members {
			if strings.HasPrefix(m.key, "MILLRACE_") {
				b.problem(at.with("env", m.key), "names that start with MILLRACE_ are set by millrace itself").onKey = true
			}
			if value, ok := m.value.argument(); ok {
				c.Env = append(c.Env, EnvVar{m.key, value})
			}
		}
		sort.Slice(c.Env, func(i, j int) bool { return c.Env[i].Name < c.Env[j].Name })
	}
	if dir := text(f.Cwd); dir != "" {
		place := at.with("cwd")
		if full, ok := b.resolve(dir, place); ok {
			c.Dir = full
			if info, err := os.Stat(full); errors.Is(err, fs.ErrNotExist) {
				b.problem(place, "%s: there is no such folder", dir).Err = err
			} else if err != nil {
				b.problem(place, "%s: %s", dir, fileMessage(err)).Err = err
			} else if !info.IsDir() {
				b.problem(place, "%s: is not a folder", dir)
			}
		}
	}
}

// argv reads a list of words, or splits a text into them.
func (b *builder) argv(n *node, at path) []string {
	if n == nil {
		return nil
	}
	var words []string
	if n.kind == isArray {
		for _, item := range n.items {
			if word, ok := item.argument(); ok {
				words = append(words, word)
			}
		}
	} else if line, ok := n.string(); ok {
		var err error
		if words, err = SplitWords(line); err != nil {
			b.problem(at, "%s", err).Err = err
			return nil
		}
		if sign := shellWord(words); sign != "" {
			b.warn(at, `for a shell, write [sh, -c, "..."]`, "no shell is started: %q is handed to %s as an argument", sign, words[0])
		}
	} else {
		return nil
	}
	if (len(words) == 0 || words[0] == "") && !b.faulty[at.String()] {
		b.problem(at, "names no program")
	}
	return words
}

// program is argv whose relative path, if it has one, is made absolute. A bare
// name stays: it is looked up in PATH when the step starts.
func (b *builder) program(n *node, at path) []string {
	words := b.argv(n, at)
	if len(words) > 0 && strings.Contains(words[0], "/") && !filepath.IsAbs(words[0]) {
		if full, ok := b.resolve(words[0], at); ok {
			words[0] = full
		}
	}
	return words
}

// resolve makes a path absolute, against the workflow file's folder.
func (b *builder) resolve(name string, at path) (string, bool) {
	switch {
	case strings.ContainsRune(name, 0):
		b.problem(at, "a path must not contain a NUL character")
		return "", false
	case b.plan.Dir == "":
		p := b.problem(at, "%s: this workflow was not read from a file, so it cannot name one", name)
		p.Hint = "put the text itself here, or load the workflow from a file"
		return "", false
	case filepath.IsAbs(name):
		return filepath.Clean(name), true
	}
	return filepath.Join(b.plan.Dir, name), true
}

// file resolves the path of a file and checks that it is one.
func (b *builder) file(name string, at path) string {
	full, ok := b.resolve(name, at)
	if !ok {
		return ""
	}
	info, err := os.Stat(full)
	switch {
	case err != nil:
		b.problem(at, "%s: %s", name, fileMessage(err)).Err = err
	case info.IsDir():
		b.problem(at, "%s: %s", name, errIsFolder)
	}
	return full
}

// source returns JavaScript text: the text itself, or what the file holds that
// it names. A single line that ends in .js or .mjs is a name.
func (b *builder) source(src string, at path) Source {
	name := strings.TrimSpace(src)
	if strings.ContainsAny(name, "\r\n") || !strings.HasSuffix(name, ".js") && !strings.HasSuffix(name, ".mjs") {
		return Source{Text: src}
	}
	full, ok := b.resolve(name, at)
	if !ok {
		return Source{}
	}
	text, err := readFile(full)
	if err == nil && invalidUTF8(text) >= 0 {
		err = fmt.Errorf("is not UTF-8: byte %#02x at offset %d", text[invalidUTF8(text)], invalidUTF8(text))
	}
	if err != nil {
		b.problem(at, "%s: %s", name, fileMessage(err)).Err = err
	}
	return Source{Text: string(text), Path: full}
}
