package child

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// grace is how long a child may take to exit once its channel has closed,
// before it is killed.
const grace = 5 * time.Second

// Process is a running child, seen from its parent. It is not safe for
// concurrent use.
type Process struct {
	role  string
	cmd   *exec.Cmd
	conn  net.Conn
	lines *bufio.Reader
}

// Start executes this binary as a child in the given role. spec is encoded as
// JSON for [Control.Spec]; files are inherited in order and stay the caller's,
// to be closed after Start.
func Start(role string, spec any, files ...*os.File) (*Process, error) {
	line, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("start child %s: encode the specification: %w", role, err)
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start child %s: %w", role, err)
	}
	ours, theirs, err := socketpair()
	if err != nil {
		return nil, fmt.Errorf("start child %s: %w", role, err)
	}
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		return nil, fmt.Errorf("start child %s: %w", role, err)
	}
	cmd := exec.Command(exe, subcommand, role, strconv.Itoa(len(files)))
	cmd.ExtraFiles = append([]*os.File{theirs}, files...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Start(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("start child %s: %w", role, err)
	}
	p := &Process{role: role, cmd: cmd, conn: conn, lines: bufio.NewReader(conn)}
	if _, err := conn.Write(append(line, '\n')); err != nil {
		p.Close()
		return nil, fmt.Errorf("start child %s: %w", role, err)
	}
	return p, nil
}

// PID returns the child's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Call sends one request and waits for its reply, which is decoded into value
// unless that is nil. When ctx ends first, the child is killed.
func (p *Process) Call(ctx context.Context, op string, arg, value any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = p.cmd.Process.Kill() })
	defer stop()
	rep, err := p.exchange(op, arg)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return fmt.Errorf("child %s: %s: %w", p.role, op, err)
	case rep.Error != "":
		return fmt.Errorf("child %s: %s: %s", p.role, op, rep.Error)
	case value == nil:
		return nil
	}
	if err := json.Unmarshal(rep.Value, value); err != nil {
		return fmt.Errorf("child %s: %s: decode the reply: %w", p.role, op, err)
	}
	return nil
}

func (p *Process) exchange(op string, arg any) (rep reply, err error) {
	req := request{Op: op}
	if arg != nil {
		if req.Arg, err = json.Marshal(arg); err != nil {
			return reply{}, err
		}
	}
	line, err := json.Marshal(req)
	if err != nil {
		return reply{}, err
	}
	if _, err := p.conn.Write(append(line, '\n')); err != nil {
		return reply{}, err
	}
	if line, err = p.lines.ReadBytes('\n'); err != nil {
		return reply{}, fmt.Errorf("the process has gone: %w", err)
	}
	return rep, json.Unmarshal(line, &rep)
}

// Close closes the channel, upon which the child exits, and waits for it; one
// that does not exit is killed. It may be called once.
func (p *Process) Close() error {
	p.conn.Close()
	kill := time.AfterFunc(grace, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("child %s: %w", p.role, err)
	}
	return nil
}
