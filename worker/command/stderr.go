package command

import (
	"bytes"
	"io"
	"strings"
	"unicode/utf8"
)

const (
	// maxLine is where a line of standard error is cut in two, bytes.
	maxLine = 64 << 10
	// tailSize is how much of the end of standard error a failure shows.
	tailSize = 4 << 10
)

// lineLog turns what a command writes to its standard error into lines. For
// one goroutine; tail may be read when readFrom has returned.
type lineLog struct {
	emit  func(line string)
	limit int    // of a line, bytes
	tail  []byte // at most tailSize
	line  []byte // not ended yet, at most limit
}

// readFrom reads to the end.
func (l *lineLog) readFrom(r io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		l.write(buf[:n])
		if err != nil { // the end, or as good as
			l.flush()
			return
		}
	}
}

func (l *lineLog) write(p []byte) {
	l.tail = append(l.tail, p...)
	if cut := len(l.tail) - tailSize; cut > 0 {
		l.tail = append(l.tail[:0], l.tail[cut:]...)
	}
	for len(p) > 0 {
		part, rest, ended := bytes.Cut(p, []byte{'\n'})
		for len(part) > 0 {
			if len(l.line) == l.limit {
				l.collapse()
			}
			if len(l.line) == l.limit {
				l.cut()
			}
			n := min(len(part), l.limit-len(l.line))
			l.line = append(l.line, part[:n]...)
			part = part[n:]
		}
		if ended {
			l.flush()
		}
		p = rest
	}
}

// flush emits the line, if there is one: empty lines say nothing.
func (l *lineLog) flush() {
	l.collapse()
	line := strings.TrimSuffix(strings.ToValidUTF8(string(l.line), "\uFFFD"), "\r")
	l.line = l.line[:0]
	if line != "" {
		l.emit(line)
	}
}

// cut emits a line that is too long as far as it goes, but no half character.
func (l *lineLog) cut() {
	end := len(l.line)
	for i := end - 1; i > 0 && i >= end-utf8.UTFMax; i-- {
		if utf8.RuneStart(l.line[i]) {
			if !utf8.FullRune(l.line[i:]) {
				end = i
			}
			break
		}
	}
	rest := string(l.line[end:])
	l.line = l.line[:end]
	l.flush()
	l.line = append(l.line, rest...)
}

// collapse drops what a carriage return has a terminal overwrite: of a
// progress bar only its last state is logged.
func (l *lineLog) collapse() {
	text := bytes.TrimSuffix(l.line, []byte{'\r'})
	if i := bytes.LastIndexByte(text, '\r'); i >= 0 {
		l.line = append(l.line[:0], l.line[i+1:]...)
	}
}

// tailText returns the end of standard error, and its last line.
func (l *lineLog) tailText() (tail, last string) {
	tail = strings.TrimRight(strings.ToValidUTF8(string(l.tail), "\uFFFD"), " \t\r\n")
	last = tail[strings.LastIndexAny(tail, "\r\n")+1:]
	return tail, last
}
