package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/bench/child"
	"github.com/millrace/millrace/engine/document"
	"github.com/millrace/millrace/engine/ledger"
	"github.com/millrace/millrace/engine/uplink/frames"
	"github.com/millrace/millrace/engine/uplink/payload"
	"github.com/millrace/millrace/engine/uplink/phoenix"
	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

const senderRole = "uplink-sender"

func init() { child.Register(senderRole, sendRole) }

// senderSpec says what a sender holds: a document of records, or raw bytes.
type senderSpec struct {
	Bytes int64
	Raw   bool
}

// sender is a host as far as its state and its uplink go: what it sends lies in
// a segment.
type sender struct {
	store  document.Store
	state  ipc.Table
	file   *os.File // the segment
	offset int64
	size   int64

	socket  *phoenix.Socket
	channel *phoenix.Channel
	bare    *bare
	conn    net.Conn
	frames  *frames.Writer
}

// connectSpec is how a sender's Phoenix client connects.
type connectSpec struct {
	URL      string
	Compress bool
	Whole    bool
}

// bareSpec is how its bare loop does.
type bareSpec struct {
	Host, Path string
	Deflate    bool
}

type dialSpec struct{ Network, Address string }

func sendRole(c *child.Control) error {
	var spec senderSpec
	if err := c.Spec(&spec); err != nil {
		return err
	}
	s, err := newSender(spec)
	if err != nil {
		return err
	}
	return c.Serve(map[string]child.Handler{
		"ready":   func(json.RawMessage) (any, error) { debug.FreeOSMemory(); return s.size, nil },
		"connect": with(s.connect),
		"push":    timed(s.push),
		"bare":    with(s.dialBare),
		"escape":  timed(s.escape),
		"recode":  timed(s.recode),
		"dial":    with(s.dial),
		"frame": timed(func() error {
			return s.frames.Write(frames.Meta{Type: "step:complete"}, s.store.Ledger, s.state)
		}),
		"sendfile": timed(s.sendfile),
		"write":    timed(s.write),
	})
}

// with makes a handler of a function with an argument.
func with[T any](f func(T) error) child.Handler {
	return func(arg json.RawMessage) (any, error) {
		var v T
		if err := json.Unmarshal(arg, &v); err != nil {
			return nil, err
		}
		return nil, f(v)
	}
}

// timed makes a handler that answers with how long the function took, in ns.
func timed(f func() error) child.Handler {
	return func(json.RawMessage) (any, error) {
		begin := time.Now()
		if err := f(); err != nil {
			return nil, err
		}
		return time.Since(begin).Nanoseconds(), nil
	}
}

func newSender(spec senderSpec) (*sender, error) {
	l := ledger.New()
	s := &sender{store: document.Store{Ledger: l, Account: l.Open("bench", 0)}}
	from, to := io.Pipe()
	go func() { to.CloseWithError(writeRecords(to, spec.Bytes)) }()
	encoding := shm.JSON
	if spec.Raw {
		encoding = shm.Raw
	}
	row, err := s.store.ReadValue("data", encoding, from)
	if err != nil {
		return nil, err
	}
	s.state = ipc.Table{Kind: ipc.KindObject, Rows: []ipc.Row{row}}
	value, err := l.Value(row)
	if err != nil {
		return nil, err
	}
	s.size = value.Size()
	return s, value.Files(func(f *os.File, offset, _ int64) error {
		s.file, s.offset = f, offset
		return nil
	})
}

// maps maps the state for a baseline, which reads it there.
func (s *sender) maps() (state, whole []byte, err error) {
	whole, err = unix.Mmap(int(s.file.Fd()), 0, int(s.offset+s.size), unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, nil, err
	}
	return whole[s.offset:], whole, nil
}

// escape is the bare loop. A state is new to whoever sends it, so the mapping
// is part of it.
func (s *sender) escape() error {
	state, whole, err := s.maps()
	if err != nil {
		return err
	}
	return errors.Join(s.bare.sendEscaped(state), unix.Munmap(whole))
}

func (s *sender) connect(o connectSpec) error {
	if s.socket != nil {
		if err := s.socket.Close(); err != nil {
			return err
		}
	}
	options := phoenix.Options{URL: o.URL, Compress: o.Compress, Heartbeat: -1, ReplyTimeout: time.Minute}
	if o.Whole {
		options.Framing = phoenix.Whole
	}
	ctx := context.Background()
	var err error
	if s.socket, err = phoenix.Dial(ctx, options); err != nil {
		return err
	}
	s.channel = s.socket.Channel("t", nil)
	_, err = s.channel.Join(ctx)
	return err
}

// push sends the state as the worker sends a step's output.
func (s *sender) push() error {
	m := payload.New(s.store.Ledger).Field("step_id", "s").State("output_dataclip", s.state, true)
	m.IfInvalid(func(error) []byte { return []byte(`"output_dataclip":null`) })
	if _, err := s.channel.Push(context.Background(), "step:complete", m, phoenix.PushOptions{}); err != nil {
		return err
	}
	return m.Invalid()
}

func (s *sender) dialBare(o bareSpec) (err error) {
	if s.bare != nil {
		s.bare.conn.Close()
	}
	s.bare, err = dialBare(o.Host, o.Path, o.Deflate)
	return err
}

// recode decodes the state and encodes it into a message, as a worker does that
// holds states as objects.
func (s *sender) recode() error {
	mapped, whole, err := s.maps()
	if err != nil {
		return err
	}
	defer unix.Munmap(whole)
	var state any
	if err := json.Unmarshal(mapped, &state); err != nil {
		return err
	}
	text, err := json.Marshal(map[string]any{"data": state})
	if err != nil {
		return err
	}
	quoted, err := json.Marshal(string(text))
	if err != nil {
		return err
	}
	return s.bare.message(func(w io.Writer) error {
		_, err := w.Write(quoted[1 : len(quoted)-1])
		return err
	})
}

func (s *sender) dial(o dialSpec) (err error) {
	if s.conn != nil {
		s.conn.Close()
	}
	if s.conn, err = net.Dial(o.Network, o.Address); err != nil {
		return err
	}
	s.frames = frames.NewWriter(s.conn)
	return nil
}

// write is a bare write from a mapping, which is part of it as in escape.
func (s *sender) write() error {
	state, whole, err := s.maps()
	if err != nil {
		return err
	}
	_, err = s.conn.Write(state)
	return errors.Join(err, unix.Munmap(whole))
}

func (s *sender) sendfile() error {
	raw, err := s.conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	at, left := s.offset, s.size
	var failed error
	err = raw.Write(func(out uintptr) bool {
		for left > 0 {
			n, err := unix.Sendfile(int(out), int(s.file.Fd()), &at, int(left))
			switch {
			case err == unix.EAGAIN:
				return false
			case err != nil && err != unix.EINTR:
				failed = err
				return true
			}
			left -= int64(max(n, 0))
		}
		return true
	})
	return errors.Join(failed, err)
}

// writeRecords writes a list of records of about size bytes.
func writeRecords(w io.Writer, size int64) error {
	var b bytes.Buffer
	b.WriteByte('[')
	for i := 0; size > 0; i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"id":%d,"name":"Patient %d","born":"19%02d-%02d-%02d","active":%t,"weight":%d.%d,"visits":[{"clinic":"north-%d","code":"A%d"},{"clinic":"süd-%d","code":"B%d"}],"note":"seen by the nurse, no further action; call again in %d days"}`,
			i, i*7919, i%100, i%12+1, i%28+1, i%3 == 0, 40+i%60, i%10, i%17, i%900, i%13, i%700, i%90)
		size -= int64(b.Len())
		if _, err := b.WriteTo(w); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, "]")
	return err
}
