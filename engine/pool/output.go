package pool

import (
	"bufio"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	// maxLine is where an over-long line of output is cut into two.
	maxLine = 64 << 10
	// keptOutput is how much of the last output an error shows.
	keptOutput = 4 << 10
)

// output reads what an executor prints, line by line, and keeps the end of it.
type output struct {
	mu   sync.Mutex
	kept []byte
	done chan struct{}
}

// follow starts reading r until it ends. line is called for each line, without
// its end.
func follow(r *os.File, line func(string)) *output {
	o := &output{done: make(chan struct{})}
	go func() {
		defer close(o.done)
		defer r.Close()
		in := bufio.NewReaderSize(r, maxLine)
		for {
			text, err := in.ReadSlice('\n')
			if len(text) > 0 {
				o.keep(text)
				line(strings.ToValidUTF8(strings.TrimRight(string(text), "\r\n"), "\uFFFD"))
			}
			if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
				if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) {
					line("(output lost: " + err.Error() + ")")
				}
				return
			}
		}
	}()
	return o
}

// wait waits until all output was read, but not for a process that left the
// executor's group and keeps the pipe open.
func (o *output) wait() {
	select {
	case <-o.done:
	case <-time.After(200 * time.Millisecond):
	}
}

func (o *output) keep(b []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.kept = append(o.kept, b...)
	if over := len(o.kept) - keptOutput; over > 0 {
		o.kept = append(o.kept[:0], o.kept[over:]...)
	}
}

func (o *output) tail() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.ToValidUTF8(string(o.kept), "\uFFFD")
}
