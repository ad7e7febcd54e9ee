package child

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// request and reply are the lines of the control channel.
type request struct {
	Op  string          `json:"op"`
	Arg json.RawMessage `json:"arg,omitempty"`
}

type reply struct {
	Error string          `json:"error,omitempty"`
	Value json.RawMessage `json:"value,omitempty"`
}

// Control is a child's end of its control channel.
type Control struct {
	conn  net.Conn
	lines *bufio.Reader
	files []*os.File
	spec  json.RawMessage
}

// Handler answers one request; a nil value is an empty answer.
type Handler func(arg json.RawMessage) (value any, err error)

// inherit takes over the descriptors that the parent passed.
func inherit(files int) (*Control, error) {
	f := os.NewFile(controlFD, "control")
	conn, err := net.FileConn(f)
	f.Close()
	if err != nil {
		return nil, fmt.Errorf("control channel: %w", err)
	}
	c := &Control{conn: conn, lines: bufio.NewReader(conn)}
	for i := range files {
		unix.CloseOnExec(firstDataFD + i)
		c.files = append(c.files, os.NewFile(uintptr(firstDataFD+i), fmt.Sprintf("data-%d", i)))
	}
	line, err := c.lines.ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("read the specification: %w", err)
	}
	c.spec = line
	return c, nil
}

// Spec decodes what the parent gave to [Start] into v.
func (c *Control) Spec(v any) error {
	if err := json.Unmarshal(c.spec, v); err != nil {
		return fmt.Errorf("decode the specification: %w", err)
	}
	return nil
}

// File returns the i-th file that the parent passed, in blocking mode. The
// role owns it.
func (c *Control) File(i int) *os.File { return c.files[i] }

// Serve answers requests until the parent closes the channel.
func (c *Control) Serve(handlers map[string]Handler) error {
	for {
		line, err := c.lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, unix.ECONNRESET) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("control channel: %w", err)
		}
		if err := c.answer(line, handlers); err != nil {
			return err
		}
	}
}

func (c *Control) answer(line []byte, handlers map[string]Handler) error {
	var req request
	if err := json.Unmarshal(line, &req); err != nil {
		return fmt.Errorf("control channel: %w", err)
	}
	var rep reply
	if h, ok := handlers[req.Op]; !ok {
		rep.Error = fmt.Sprintf("unknown request %q", req.Op)
	} else if value, err := h(req.Arg); err != nil {
		rep.Error = err.Error()
	} else if value != nil {
		if rep.Value, err = json.Marshal(value); err != nil {
			return fmt.Errorf("encode the reply to %s: %w", req.Op, err)
		}
	}
	out, err := json.Marshal(rep)
	if err != nil {
		return fmt.Errorf("encode the reply to %s: %w", req.Op, err)
	}
	if _, err := c.conn.Write(append(out, '\n')); err != nil && !errors.Is(err, unix.EPIPE) {
		return fmt.Errorf("control channel: %w", err)
	}
	return nil
}

// socketpair returns two connected Unix stream sockets, neither inherited.
func socketpair() (a, b *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "socket-a"), os.NewFile(uintptr(fds[1]), "socket-b"), nil
}
