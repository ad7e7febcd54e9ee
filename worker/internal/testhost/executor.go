package testhost

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// Executor is a child process that runs steps.
type Executor struct {
	*ipc.Peer
	World *World
	Hello *ipc.Hello
	Cmd   *exec.Cmd

	t      testing.TB
	prefix uint32
	exited chan error

	mu   sync.Mutex
	logs []ipc.Log
	bad  error // the first breach of the rules

	flow    flow
	streams *StreamSettings // nil: not granted
	opened  chan *Stream
}

// Options change how an executor is started; the zero value is fine.
type Options struct {
	Env     []string
	Welcome ipc.Welcome
	// Socket does without the ring.
	Socket bool
	// Calls answers the calls of the executor's steps, each in a goroutine of
	// its own; without it none are granted.
	Calls func(x *Executor, c *Call)
	// Inline is Calls on the goroutine that receives, which it must not block.
	Inline func(x *Executor, c *Call)
	// Streams lets its steps feed and read streams, which are alike.
	Streams *StreamSettings
	// Stderr is where its standard error goes; nil is the test's own.
	Stderr *os.File
}

// Start re-executes the test binary with MILLRACE_TEST_ROLE=role.
func (w *World) Start(role string, options Options) *Executor {
	w.t.Helper()
	local, remote, err := ipc.Socketpair()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "MILLRACE_TEST_ROLE="+role, ipc.FDVariable+"=3", "GORACE=atexit_sleep_ms=0")
	cmd.Env = append(cmd.Env, options.Env...)
	cmd.ExtraFiles = []*os.File{remote}
	cmd.Stderr = os.Stderr
	if options.Stderr != nil {
		cmd.Stderr = options.Stderr
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	remote.Close()
	w.mu.Lock()
	w.prefix++
	x := &Executor{World: w, Cmd: cmd, t: w.t, prefix: w.prefix, exited: make(chan error, 1), streams: options.Streams, opened: make(chan *Stream, 16)}
	w.mu.Unlock()
	go func() { x.exited <- cmd.Wait() }()
	w.t.Cleanup(x.stop)
	channel := ipc.NewChannel(local)
	x.Peer = ipc.NewPeer(channel)
	options.Welcome.Executor = x.prefix
	grant := []string{ipc.CapabilityRing}
	if options.Socket {
		grant = nil
	}
	if x.flow.onCall, x.flow.inline = options.Calls, options.Inline; options.Calls != nil || options.Inline != nil {
		grant = append(grant, ipc.CapabilityCalls)
	}
	if x.streams != nil {
		grant = append(grant, ipc.CapabilityStreams)
	}
	if x.Hello, err = channel.Accept(options.Welcome, grant, 10*time.Second); err != nil {
		w.t.Fatal(err)
	}
	go func() { _ = x.Peer.Serve(x.handle) }()
	return x
}

// stop ends the executor, and the test with an error if it broke a rule.
func (x *Executor) stop() {
	if x.Peer != nil {
		_ = x.Channel.Close()
	}
	select {
	case <-x.exited:
	case <-time.After(10 * time.Second):
		_ = x.Cmd.Process.Kill()
		x.t.Error("the executor did not exit when its channel was closed")
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.bad != nil {
		x.t.Error("the executor broke the rules:", x.bad)
	}
}

// Exited returns when the process has ended, with what Wait said.
func (x *Executor) Exited() error {
	x.t.Helper()
	select {
	case err := <-x.exited:
		x.exited <- err
		return err
	case <-time.After(10 * time.Second):
		x.t.Fatal("the executor does not exit")
		return nil
	}
}

func (x *Executor) breach(err error) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.bad == nil {
		x.bad = err
	}
	return err
}

func (x *Executor) handle(e *ipc.Envelope) error {
	switch m := e.Message.(type) {
	case *ipc.Attach:
		if uint32(uint64(m.Segment)>>32) != x.prefix || e.File == nil {
			return x.breach(fmt.Errorf("attach of segment %#x", uint64(m.Segment)))
		}
		f := e.File
		e.File = nil
		s, err := shm.Open(m.Segment, f, int64(m.Size))
		if err == nil {
			err = x.World.enter(s, x)
		}
		if err != nil {
			return x.breach(err)
		}
	case *ipc.Detach:
		x.World.mu.Lock()
		defer x.World.mu.Unlock()
		for _, id := range m.Segments {
			s := x.World.segments[id]
			if s == nil || s.owner != x || len(s.blocks) > 0 {
				return x.breach(fmt.Errorf("detach of segment %#x", uint64(id)))
			}
			delete(x.World.segments, id)
			_ = s.Close()
		}
	case *ipc.Log:
		x.mu.Lock()
		defer x.mu.Unlock()
		x.logs = append(x.logs, *m)
	case *ipc.Call:
		return x.called(e.ID, m, e.State)
	case *ipc.Cancel:
		return x.cancelled(e.ID, m.Reason)
	case *ipc.Forget:
		return x.forget(m.Calls)
	case *ipc.Stream:
		return x.streamed(e.ID, m, e.State)
	case *ipc.Consume:
		return x.consumed(e.ID, m)
	case *ipc.Wake:
		return x.passOn(m.Stream, m)
	case *ipc.StreamEnd:
		return x.passOn(m.Stream, m)
	case *ipc.Forward:
		return x.forward(e.ID, m.Step)
	default:
		return x.breach(fmt.Errorf("an executor sent %s", e.Message.Type()))
	}
	return nil
}

// Logs returns what was logged so far.
func (x *Executor) Logs() []ipc.Log {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.logs)
}

// LogText returns it as lines "level source: message".
func (x *Executor) LogText() string {
	var b strings.Builder
	for _, l := range x.Logs() {
		fmt.Fprintf(&b, "%s %s: %s\n", l.Level, l.Source, l.Message)
	}
	return b.String()
}

// Prepare sends a step's code.
func (x *Executor) Prepare(code uint64, kind, spec string) {
	x.t.Helper()
	if err := x.Send(&ipc.Envelope{Message: &ipc.Prepare{Code: code, Kind: kind, Spec: spec}}); err != nil {
		x.t.Fatal(err)
	}
}

// Result is an answer: Done, or Fail.
type Result struct {
	Done  *ipc.Done
	Fail  *ipc.Fail
	State ipc.Table
}

// Begin sends an execute, first the segments that the executor has not seen.
func (x *Executor) Begin(m ipc.Execute, state ipc.Table) *ipc.Request {
	x.t.Helper()
	if _, err := x.attach(state); err != nil {
		x.t.Fatal(err)
	}
	if m.Run == "" {
		m.Run = "run-1"
	}
	if m.Step == "" {
		m.Step = "step-1"
	}
	if m.Attempt == 0 {
		m.Attempt = 1
	}
	r, err := x.Start(&ipc.Envelope{Message: &m, State: state}, nil)
	if err != nil {
		x.t.Fatal(err)
	}
	return r
}

// attach hands over the segments of a state that the executor has not seen, and
// returns their ids.
func (x *Executor) attach(state ipc.Table) (ids []shm.SegmentID, err error) {
	x.World.mu.Lock()
	var missing []*segment
	for _, row := range state.Rows {
		for _, r := range row.Spans {
			if s := x.World.segments[r.Segment]; s != nil && s.owner != x && !s.readers[x] {
				s.readers[x] = true
				missing = append(missing, s)
				ids = append(ids, s.ID())
			}
		}
	}
	x.World.mu.Unlock()
	for _, s := range missing {
		err := x.Send(&ipc.Envelope{Message: &ipc.Attach{Segment: s.ID(), Size: uint64(s.Size())}, File: s.File()})
		if err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// End waits for the answer and checks it.
func (x *Executor) End(r *ipc.Request) Result {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	e, err := r.Wait(ctx)
	if err != nil {
		x.t.Fatal("no answer: ", err)
	}
	result, err := x.read(e)
	if err != nil {
		x.t.Fatal(err)
	}
	return result
}

func (x *Executor) read(e *ipc.Envelope) (Result, error) {
	switch m := e.Message.(type) {
	case *ipc.Done:
		if m.Started == 0 || m.Finished < m.Started {
			return Result{}, x.breach(fmt.Errorf("done from %d to %d", m.Started, m.Finished))
		}
		if err := x.World.publish(x, m.Blocks, e.State); err != nil {
			return Result{}, x.breach(err)
		}
		return Result{Done: m, State: e.State}, nil
	case *ipc.Fail:
		return Result{Fail: m}, nil
	}
	return Result{}, errors.New("the answer is " + e.Message.Type().String())
}

// Run is Begin and End.
func (x *Executor) Run(m ipc.Execute, state ipc.Table) Result {
	x.t.Helper()
	return x.End(x.Begin(m, state))
}

// Must is Run for a step that has to succeed.
func (x *Executor) Must(m ipc.Execute, state ipc.Table) Result {
	x.t.Helper()
	r := x.Run(m, state)
	if r.Fail != nil {
		x.t.Fatalf("failed: %s %s: %s %s", r.Fail.Severity, r.Fail.Name, r.Fail.Message, r.Fail.Details)
	}
	return r
}

// Release gives blocks back to the executor.
func (x *Executor) Release(blocks ...shm.Block) {
	x.t.Helper()
	x.World.mu.Lock()
	for _, b := range blocks {
		delete(x.World.segments[b.Segment].blocks, b.Offset)
	}
	x.World.mu.Unlock()
	if err := x.Send(&ipc.Envelope{Message: &ipc.Release{Blocks: blocks}}); err != nil {
		x.t.Fatal(err)
	}
}

// Sync returns when the executor has acted on all that was sent before.
func (x *Executor) Sync() {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := x.Call(ctx, &ipc.Envelope{Message: new(ipc.Ping)}); err != nil {
		x.t.Fatal(err)
	}
}
