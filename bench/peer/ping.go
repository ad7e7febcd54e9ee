package peer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/millrace/millrace/bench"
	"github.com/millrace/millrace/bench/child"
	"github.com/millrace/millrace/bench/workload"
)

const (
	rolePinger = "peer-pinger"
	roleEcho   = "peer-echo"

	opPing = "ping" // pingArg -> []time.Duration

	// pingSize is the size of a message, bytes: an empty step's frame.
	pingSize = 64
)

func init() {
	child.Register(rolePinger, pinger)
	child.Register(roleEcho, echo)
}

type pingArg struct {
	N    int           `json:"n"`
	Idle time.Duration `json:"idle"`
}

// PingCases returns the baseline of the empty step's round trip: two Go
// processes and a bare Unix stream socket between them, through net.Conn.
func PingCases() []bench.PingCase { return []bench.PingCase{unixPing{}} }

type unixPing struct{}

func (unixPing) Info() bench.Info {
	return bench.Info{Name: "unix-ping", Title: "Unix socket, net.Conn", Role: bench.Baseline, Work: bench.Forward}
}

func (unixPing) StartPing(ctx context.Context) (bench.PingSession, error) {
	p, err := child.Start(rolePinger, nil)
	if err != nil {
		return nil, err
	}
	s := &pingSession{pinger: p}
	if err := p.Call(ctx, opPIDs, nil, &s.pids); err != nil {
		_ = p.Close() // the error above says more
		return nil, err
	}
	s.pids = append(s.pids, p.PID())
	return s, nil
}

type pingSession struct {
	pinger *child.Process
	pids   []int
}

func (s *pingSession) Ping(ctx context.Context, n int, idle time.Duration) ([]time.Duration, error) {
	var trips []time.Duration
	err := s.pinger.Call(ctx, opPing, pingArg{n, idle}, &trips)
	return trips, err
}

func (s *pingSession) PIDs() []int { return s.pids }

func (s *pingSession) Close() error { return s.pinger.Close() }

// pinger is the process that asks.
func pinger(c *child.Control) error {
	ours, theirs, err := socketPair()
	if err != nil {
		return err
	}
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		return fmt.Errorf("net.Conn: %w", err)
	}
	process, err := child.Start(roleEcho, nil, theirs...)
	for _, f := range theirs {
		f.Close()
	}
	if err != nil {
		return err
	}
	defer closeAll([]*child.Process{process})
	return c.Serve(map[string]child.Handler{
		opPIDs: func(json.RawMessage) (any, error) { return []int{process.PID()}, nil },
		opPing: func(arg json.RawMessage) (any, error) {
			var a pingArg
			if err := json.Unmarshal(arg, &a); err != nil {
				return nil, err
			}
			return pingMany(conn, a)
		},
	})
}

func pingMany(conn io.ReadWriter, a pingArg) ([]time.Duration, error) {
	trips := make([]time.Duration, a.N)
	buf := make([]byte, pingSize)
	for i := range trips {
		if a.Idle > 0 {
			time.Sleep(a.Idle)
		}
		begin := workload.Now()
		if _, err := conn.Write(buf); err != nil {
			return nil, fmt.Errorf("ping %d: %w", i, err)
		}
		if _, err := io.ReadFull(conn, buf); err != nil {
			return nil, fmt.Errorf("ping %d: %w", i, err)
		}
		trips[i] = nanoseconds(workload.Now() - begin)
	}
	return trips, nil
}

// echo is the process that answers.
func echo(c *child.Control) error {
	conn, err := net.FileConn(c.File(0))
	if err != nil {
		return fmt.Errorf("net.Conn: %w", err)
	}
	go func() {
		buf := make([]byte, pingSize)
		for {
			if _, err := io.ReadFull(conn, buf); err != nil {
				return // the pinger has gone, and the control channel says so too
			}
			if _, err := conn.Write(buf); err != nil {
				fmt.Fprintf(os.Stderr, "millrace-bench: echo: %v\n", err)
				os.Exit(1)
			}
		}
	}()
	return c.Serve(nil)
}
