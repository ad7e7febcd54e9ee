package pool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/engine/ledger"
	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// Spec says what an executor process is. Executors of equal specs stand in for
// one another.
type Spec struct {
	// Name is for logs: what a person would call it.
	Name string
	// Argv is the program and its arguments; Argv[0] is looked up in PATH.
	Argv []string
	// Env is added to the supervisor's environment.
	Env []string
	// Dir is the working directory; "" is the supervisor's.
	Dir string
	// Reuse lets an executor serve further runs of its tenant. It keeps freed
	// memory warm, and what a run left in it.
	Reuse bool
	// DropKeys are the state's keys that the executor never passes on.
	DropKeys []string
	// PerTask ends an executor after its first task: its exit gives back all
	// that the task took, and left behind.
	PerTask bool
}

// Code is the code of a step, as a prepare message hands it over.
type Code struct {
	// ID names the code within the supervisor; equal ids are equal code.
	ID         uint64
	Kind, Spec string
}

// Task is one execution of a step.
type Task struct {
	Code    Code
	Execute ipc.Execute
	// Input is held by the caller until Wait returns.
	Input   ipc.Table
	Account *ledger.Account
	// OnLog is called for each log line of the step, in order, and must not
	// block for long.
	OnLog func(*ipc.Log)
	// OnRequest is called for what the step asks for while it runs (call,
	// cancel of a call, forget, forward, stream, consume, wake, stream-end), one
	// at a time and in order. It must not block, and answers with Executor.Send.
	// An error is a breach of the protocol and ends the executor. Nil: all is
	// refused.
	OnRequest func(*ipc.Envelope) error
	// Work, if not nil, is what the goroutine that is in Wait does in the
	// meantime, one function after the other. Some may be left when Wait
	// returns.
	Work <-chan func()
	// OnAnswer is called once the step has ended, while a function of Work may
	// still run; nil: nobody is told. It must not block.
	OnAnswer func()
}

// Result is what came of a Task.
type Result struct {
	// Done is the executor's answer; State is entered in the account and held
	// by the caller.
	Done  *ipc.Done
	State ipc.Table
	// Reused is how many of the state's bytes were there before.
	Reused uint64
	// Sent and Received are CLOCK_MONOTONIC, in nanoseconds, just before the
	// execute was sent and just after its answer came.
	Sent, Received uint64
}

// Published returns how many bytes the task wrote and published.
func (r *Result) Published() uint64 { return shm.Length(r.Done.Blocks) }

// FailError is a step that failed, in the executor's words.
type FailError struct{ ipc.Fail }

// Error implements error.
func (e *FailError) Error() string { return e.Name + ": " + e.Message }

// Executor is one process of the pool.
type Executor struct {
	pool    *Pool
	spec    *Spec
	key     string
	tenant  string
	prefix  uint32
	process *process
	peer    *ipc.Peer
	owner   *ledger.Owner
	hello   *ipc.Hello
	stderr  *output
	log     *slog.Logger

	prepared map[uint64]bool // by the one that executes
	outbound sync.Mutex      // keeps owed messages and the execute after them in order
	owed     chan struct{}   // capacity 1: something is owed that should not wait
	task     atomic.Pointer[sink]
	posts    posts           // to be sent by settle
	runs     map[string]bool // runs served, for specs without reuse
	idleFrom time.Time

	failure atomic.Pointer[error] // why it was killed, if we did
	lost    chan struct{}         // closed when the channel and process are gone
}

// start spawns an executor and shakes hands.
func (p *Pool) start(ctx context.Context, spec *Spec, key string) (*Executor, error) {
	x := &Executor{
		pool: p, spec: spec, key: key, prefix: p.nextPrefix.Add(1),
		prepared: make(map[uint64]bool), runs: make(map[string]bool),
		owed: make(chan struct{}, 1), lost: make(chan struct{}),
	}
	x.log = p.options.Logger.With("executor", spec.Name, "number", x.prefix)
	fail := func(err error) (*Executor, error) { return nil, &StartError{Argv: spec.Argv, Err: err} }
	if len(spec.Argv) == 0 {
		return fail(errors.New("no program named"))
	}
	conn, remote, err := ipc.Socketpair()
	if err != nil {
		return fail(err)
	}
	channel := ipc.NewChannel(conn)
	defer remote.Close()
	stdoutR, stdoutW, err := os.Pipe()
	if err != nil {
		return fail(errors.Join(err, channel.Close()))
	}
	defer stdoutW.Close()
	stderrR, stderrW, err := os.Pipe()
	if err != nil {
		return fail(errors.Join(err, channel.Close(), stdoutR.Close()))
	}
	defer stderrW.Close()

	cmd := exec.Command(spec.Argv[0], spec.Argv[1:]...)
	cmd.Dir = spec.Dir
	cmd.Env = append(append(os.Environ(), spec.Env...), ipc.FDVariable+"=3")
	cmd.ExtraFiles = []*os.File{remote}
	cmd.Stdout, cmd.Stderr = stdoutW, stderrW
	if x.process, err = spawn(cmd); err != nil {
		return fail(errors.Join(err, channel.Close(), stdoutR.Close(), stderrR.Close()))
	}
	follow(stdoutR, func(s string) { x.output(slog.LevelInfo, "stdout", s) })
	x.stderr = follow(stderrR, func(s string) { x.output(slog.LevelWarn, "stderr", s) })
	// The child's ends are the child's alone from here on, so that its death is
	// a hang-up.
	remote.Close()
	stop := context.AfterFunc(ctx, x.process.kill)
	defer stop()

	welcome := ipc.Welcome{
		Executor:      x.prefix,
		RetainBytes:   p.options.RetainBytes,
		PrefaultBytes: p.options.PrefaultBytes,
		DropKeys:      spec.DropKeys,
	}
	if !spec.Reuse {
		welcome.PrefaultBytes = min(welcome.PrefaultBytes, welcome.RetainBytes)
	}
	x.hello, err = channel.Accept(welcome, grants, p.options.StartTimeout)
	if err != nil {
		x.process.kill()
		<-x.process.reaped
		x.stderr.wait()
		_ = channel.Close()
		switch code, status := x.process.exit(); {
		case ctx.Err() != nil:
			err = context.Cause(ctx)
		case errors.Is(err, os.ErrDeadlineExceeded):
			err = fmt.Errorf("it did not say hello within %v: is it a millrace executor?", p.options.StartTimeout)
		case errors.Is(err, ipc.ErrHangUp) && code >= 0:
			err = fmt.Errorf("it ended (%s) without saying hello: is it a millrace executor?", status)
		}
		return nil, &StartError{Argv: spec.Argv, Err: err, Stderr: x.stderr.tail()}
	}
	x.owner = p.options.Ledger.AddOwner(x.prefix, x.nudge)
	x.peer = ipc.NewPeer(channel)
	go x.serve()
	go x.settle()
	x.log.Debug("executor started", "pid", x.process.pid(), "language", x.hello.Language, "ring", channel.UsesRing())
	return x, nil
}

var grants = []string{ipc.CapabilityRing, ipc.CapabilityConditions, ipc.CapabilityCalls, ipc.CapabilityStreams, ipc.CapabilityAhead}

// Hello returns what the executor said of itself.
func (x *Executor) Hello() *ipc.Hello { return x.hello }

// serve handles what the executor sends until its channel ends, then sees that
// the process ends as well.
func (x *Executor) serve() {
	err := x.peer.Serve(x.handle)
	if !errors.Is(err, ipc.ErrHangUp) && !errors.Is(err, ipc.ErrClosed) {
		x.fail(err)
	}
	x.process.kill()
	<-x.process.reaped
	x.owner.Close()
	for _, e := range x.posts.take(true) {
		closeFile(e)
	}
	sent, received := x.peer.Bytes()
	x.pool.gone(x, sent+received)
	close(x.lost)
}

func (x *Executor) handle(e *ipc.Envelope) error {
	if _, ok := e.Message.(*ipc.Attach); !ok && e.File != nil {
		return fmt.Errorf("%s brought a descriptor", e.Message.Type())
	}
	switch m := e.Message.(type) {
	case *ipc.Attach:
		f := e.File
		e.File = nil
		return x.owner.Attach(m.Segment, f, m.Size)
	case *ipc.Detach:
		return x.owner.Detach(m.Segments)
	case *ipc.Log:
		if task := x.task.Load(); task != nil && task.id == e.ID {
			return task.take(e)
		}
		return nil
	case *ipc.Ping:
		return x.peer.Send(&ipc.Envelope{ID: e.ID, Message: new(ipc.Pong)})
	case *ipc.Call, *ipc.Cancel, *ipc.Forget, *ipc.Forward, *ipc.Stream, *ipc.Consume, *ipc.Wake, *ipc.StreamEnd:
		return x.request(e)
	}
	return fmt.Errorf("an executor may not send %s", e.Message.Type())
}

func (x *Executor) output(level slog.Level, source, line string) {
	if task := x.task.Load(); task != nil && task.logs() {
		name := "info"
		if level > slog.LevelInfo {
			name = "warn"
		}
		_ = task.take(&ipc.Envelope{Message: &ipc.Log{Time: uint64(time.Now().UnixMicro()), Level: name, Source: source, Message: line}}) // of a log it is nil
		return
	}
	x.log.Log(context.Background(), level, line, "source", source)
}

// nudge has what is owed sent soon.
func (x *Executor) nudge() {
	select {
	case x.owed <- struct{}{}:
	default:
	}
}

// settle sends what is owed when it should not wait for the next step.
func (x *Executor) settle() {
	for {
		select {
		case <-x.owed:
			x.outbound.Lock()
			err := x.sendOwed()
			if err == nil {
				err = x.sendPosts()
			}
			if err == nil {
				err = x.peer.Flush()
			}
			x.outbound.Unlock()
			if err != nil {
				x.fail(err)
				return
			}
		case <-x.peer.Done():
			return
		}
	}
}

// sendOwed leaves it to what follows, a message or Flush, to wake the executor.
func (x *Executor) sendOwed() error {
	blocks, detach := x.owner.Owed()
	// In pieces, so that no release comes near a frame's limit.
	for len(blocks) > 0 {
		n := min(len(blocks), 1024)
		if err := x.peer.Put(&ipc.Envelope{Message: &ipc.Release{Blocks: blocks[:n]}}); err != nil {
			return err
		}
		blocks = blocks[n:]
	}
	if len(detach) == 0 {
		return nil
	}
	if err := x.peer.Put(&ipc.Envelope{Message: &ipc.Detach{Segments: detach}}); err != nil {
		return err
	}
	// The answer says that they are closed. Without one the executor is gone, and
	// they with it.
	_, err := x.peer.StartFunc(&ipc.Envelope{Message: new(ipc.Ping)}, nil, func(_ *ipc.Envelope, err error) {
		if err == nil {
			x.owner.Detached(detach)
		}
	})
	return err
}

// fail kills the executor; err is what its user gets to hear.
func (x *Executor) fail(err error) {
	x.failure.CompareAndSwap(nil, &err)
	x.process.kill()
}

// tell wakes the executor for what was put before a message that was not sent. A
// channel that is broken is for others to find out.
func (x *Executor) tell() { _ = x.peer.Flush() }

// prepare tells the executor a step's code ahead of its first task.
func (x *Executor) prepare(code *Code) error {
	x.outbound.Lock()
	defer x.outbound.Unlock()
	return errors.Join(x.prepareLocked(code), x.peer.Flush())
}

func (x *Executor) prepareLocked(code *Code) error {
	if x.prepared[code.ID] {
		return nil
	}
	x.prepared[code.ID] = true
	return x.peer.Put(&ipc.Envelope{Message: &ipc.Prepare{Code: code.ID, Kind: code.Kind, Spec: code.Spec}})
}

// breach kills an executor that broke the rules. A state over budget is no
// breach: its blocks were given back.
func (x *Executor) breach(err error) error {
	var budget *ledger.BudgetError
	if errors.As(err, &budget) {
		return err
	}
	if errors.Is(err, ledger.ErrOwnerGone) { // it died between its answer and now
		return x.death(ipc.ErrHangUp)
	}
	x.fail(err)
	return x.death(err)
}

// death waits for the executor's end and says why it came.
func (x *Executor) death(err error) error {
	x.process.kill()
	<-x.lost
	x.stderr.wait()
	e := &ExitError{Argv: x.spec.Argv, Stderr: x.stderr.tail()}
	e.Code, e.Status = x.process.exit()
	if failure := x.failure.Load(); failure != nil {
		var memory *MemoryError
		if errors.As(*failure, &memory) {
			return memory
		}
		e.Cause = *failure
	} else if !errors.Is(err, ipc.ErrHangUp) && !errors.Is(err, ipc.ErrClosed) {
		e.Cause = err
	}
	return e
}

// alive reports whether the executor can take another task.
func (x *Executor) alive() bool {
	select {
	case <-x.lost:
		return false
	case <-x.peer.Done():
		return false
	default:
		return x.failure.Load() == nil
	}
}

// shutdown asks an idle executor to exit, and makes it after the grace period.
func (x *Executor) shutdown() {
	x.process.look()
	x.outbound.Lock()
	err := x.peer.Send(&ipc.Envelope{Message: new(ipc.Shutdown)})
	x.outbound.Unlock()
	if err == nil {
		select {
		case <-x.lost:
			return
		case <-time.After(x.pool.options.GracePeriod):
		}
	}
	x.process.kill()
	<-x.lost
}

// TakesAhead reports whether the executor takes a task that follows another
// before that one has ended: see Execution.Ahead.
func (x *Executor) TakesAhead() bool {
	return slices.Contains(x.hello.Capabilities, ipc.CapabilityAhead)
}

// Evaluates reports whether the executor evaluates edge conditions itself.
func (x *Executor) Evaluates() bool {
	return slices.Contains(x.hello.Capabilities, ipc.CapabilityConditions)
}

// PeakBytes returns the largest resident size the executor ever had.
func (x *Executor) PeakBytes() uint64 { return x.process.look() }
