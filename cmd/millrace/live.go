package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// liveLines keeps a line for each step that runs at the bottom of a terminal,
// and writes everything else above.
type liveLines struct {
	out  *os.File
	mu   sync.Mutex
	runs []liveRun
	rows int // lines on the screen now
	tick int
	quit chan struct{}
	once sync.Once
}

type liveRun struct {
	step  string
	since time.Time
}

var spinner = []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")

// refresh is how often the lines are drawn anew.
const refresh = 100 * time.Millisecond

func newLiveLines(out *os.File) *liveLines {
	l := &liveLines{out: out, quit: make(chan struct{})}
	go func() {
		tick := time.NewTicker(refresh)
		defer tick.Stop()
		for {
			select {
			case <-l.quit:
				return
			case <-tick.C:
				l.mu.Lock()
				l.tick++
				if len(l.runs) > 0 {
					l.draw("")
				}
				l.mu.Unlock()
			}
		}
	}()
	return l
}

func (l *liveLines) start(step string, since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.runs = append(l.runs, liveRun{step, since}) // drawn at the next tick, if it still runs
}

func (l *liveLines) end(step string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.IndexFunc(l.runs, func(r liveRun) bool { return r.step == step }); i >= 0 {
		l.runs = slices.Delete(l.runs, i, i+1)
	}
}

func (l *liveLines) above(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.draw(text)
}

// draw replaces the live lines by text and the lines of now, in one write.
func (l *liveLines) draw(text string) {
	var b strings.Builder
	if l.rows > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\r\x1b[J", l.rows)
	}
	b.WriteString(text)
	l.rows = 0
	width, height, err := term.GetSize(int(l.out.Fd()))
	if err != nil {
		width, height = 80, 24
	}
	select {
	case <-l.quit:
	default:
		for _, r := range l.runs {
			// A line that wraps, or more than fit, could not be taken back.
			if time.Since(r.since) < refresh || l.rows >= height-1 {
				continue
			}
			line := []rune(fmt.Sprintf("%c %s %s", spinner[l.tick%len(spinner)], r.step, duration(float64(time.Since(r.since).Microseconds()))))
			b.WriteString(string(line[:min(len(line), width-1)]))
			b.WriteByte('\n')
			l.rows++
		}
	}
	_, _ = l.out.WriteString(b.String()) // nothing can be done when the terminal is gone
}

// stop takes the live lines down; above still works.
func (l *liveLines) stop() {
	l.once.Do(func() {
		close(l.quit)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.draw("")
	})
}
