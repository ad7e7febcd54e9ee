package main

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/term"
)

// plainEvery bounds how often a line is printed where lines cannot be replaced.
const plainEvery = 5 * time.Second

// progress shows on standard error what is being measured: one line that is
// replaced on a terminal, a line now and then elsewhere.
type progress struct {
	begin    time.Time
	last     time.Time
	terminal bool
}

func newProgress() *progress {
	return &progress{begin: time.Now(), terminal: term.IsTerminal(int(os.Stderr.Fd()))}
}

func (p *progress) show(format string, args ...any) {
	since := time.Since(p.begin).Round(time.Second)
	text := fmt.Sprintf("[%s] %s", since, fmt.Sprintf(format, args...))
	if p.terminal {
		fmt.Fprintf(os.Stderr, "\r\033[K%s", text)
		return
	}
	if time.Since(p.last) >= plainEvery {
		p.last = time.Now()
		fmt.Fprintln(os.Stderr, text)
	}
}

// done removes the line.
func (p *progress) done() {
	if p.terminal {
		fmt.Fprint(os.Stderr, "\r\033[K")
	}
}
