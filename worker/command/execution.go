package command

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/shm"
	"github.com/millrace/millrace/worker"
)

const (
	// stateFDVariable names the descriptor with the state, for a step that
	// asks for it.
	stateFDVariable = "MILLRACE_STATE_FD"
	stateFD         = 3
	// grace is how long a cancelled command may take to end by itself.
	grace = 500 * time.Millisecond
	// leftovers is how long what is left in its pipes may take to read.
	leftovers = 2 * time.Second
)

// execution is one run of a command. All its files are closed by closeFiles.
type execution struct {
	spec  *spec
	ctx   context.Context
	state *worker.State
	info  worker.StepInfo

	program   string     // what is executed
	stdin     *os.File   // the command's end
	feed      func()     // writes its input, nil when there is nothing to
	feedEnd   *os.File   // where to
	output    *os.File   // the memfd, nil when the output is ignored
	stdout    *os.File   // the command's end
	stateFile *os.File   // nil without state_fd
	stderr    *os.File   // the command's end
	files     []*os.File // to be closed

	reads       *worker.StreamReader    // the items of its input, nil: no stream
	items       *worker.StreamWriter    // of its output, nil: no stream
	lines       *os.File                // its output as it comes, for the items
	stopReading context.CancelFunc      // the items are not wanted any more
	stop        context.CancelCauseFunc // ends the command

	log      *lineLog
	linesErr error        // why not all of the output became items
	feedErr  error        // why the input was not written to its end, once fed
	over     atomic.Int64 // the size at which the output outgrew the budget
}

func (e *execution) keep(f *os.File) *os.File {
	e.files = append(e.files, f)
	return f
}

func (e *execution) closeFiles() {
	for _, f := range e.files {
		_ = f.Close() // already closed is fine
	}
}

// prepare opens everything that the command is started with.
func (e *execution) prepare() error {
	var err error
	if e.program, err = e.lookPath(); err != nil {
		return err
	}
	if err := e.openInput(); err != nil {
		return err
	}
	if e.spec.Stdout.stream {
		return e.openLines()
	}
	if e.spec.Stdout.ignore {
		e.stdout, err = os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		e.keep(e.stdout)
		return nil
	}
	if e.output, err = shm.CreateGrowable(e.name()); err != nil {
		return err
	}
	e.stdout = e.keep(e.output)
	return setAppend(e.output)
}

// run starts the command and returns when it and all its descendants are gone.
func (e *execution) run(s *starter) error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	e.keep(read)
	e.stderr = e.keep(write)
	files := []*os.File{e.stdin, e.stdout, e.stderr}
	if e.stateFile != nil {
		files = append(files, e.stateFile)
	}
	process, err := s.start(e.program, e.spec.Argv, e.spec.Cwd, e.environment(), files)
	if err != nil {
		return e.startError(err)
	}
	// The command has them; as long as this process has them too, neither its
	// end nor its refusal to read could be seen.
	_ = e.stdin.Close()
	_ = write.Close()
	if e.lines != nil {
		_ = e.stdout.Close()
	}

	var group sync.WaitGroup
	exited := make(chan struct{})
	ctx, stop := context.WithCancelCause(e.ctx)
	defer stop(nil)
	e.stop = stop
	e.log = &lineLog{limit: maxLine, emit: func(line string) { worker.Log(e.ctx, "info", "stderr", line) }}
	group.Go(func() { e.log.readFrom(read) })
	if e.feed != nil {
		group.Go(e.feed)
	}
	if e.lines != nil {
		group.Go(func() { e.takeLines(exited) })
		group.Go(func() { e.endUnwanted(exited) })
	}
	group.Go(func() { endWhenCancelled(ctx, exited) })
	if e.output != nil && e.info.Budget > 0 {
		group.Go(func() { e.watchGrowth(exited) })
	}
	status, err := process.Wait()
	close(exited)
	patience := time.Time{}
	if ctx.Err() != nil {
		patience = time.Now().Add(grace)
	}
	killRest(patience)
	// All who could have kept the pipes open are gone, unless one has passed
	// its end on to a process that is no descendant: that is not waited for.
	last := time.Now().Add(leftovers)
	_ = read.SetReadDeadline(last)
	if e.feedEnd != nil {
		_ = e.feedEnd.SetWriteDeadline(last)
	}
	if e.reads != nil {
		e.stopReading()
	}
	if e.lines != nil {
		_ = e.lines.SetReadDeadline(last)
	}
	group.Wait()
	if err != nil {
		return fmt.Errorf("wait for %s: %w", e.name(), err)
	}
	if cause := context.Cause(ctx); cause != nil && (e.linesErr != nil || e.ctx.Err() == nil) {
		return cause // the end of a stream, or what kept its items from it
	}
	return e.judge(status)
}

// endWhenCancelled ends the command and its descendants: first by asking.
func endWhenCancelled(ctx context.Context, exited <-chan struct{}) {
	select {
	case <-exited:
		return
	case <-ctx.Done():
	}
	signalDescendants(terminate)
	select {
	case <-exited:
	case <-time.After(grace):
		signalDescendants(kill)
	}
}

// watchGrowth kills the command when its output passes the budget. It looks
// more often the nearer the output is to it.
func (e *execution) watchGrowth(exited <-chan struct{}) {
	const (
		calm     = 20 * time.Millisecond
		nervous  = time.Millisecond
		perMilli = 4 << 20 // bytes that a command may write in one, at most
	)
	limit := int64(min(e.info.Budget, 1<<62))
	for {
		size, err := fileMemory(e.output)
		if err == nil && size > limit {
			e.over.Store(size)
			signalDescendants(kill)
			return
		}
		wait := time.Duration((limit-size)/perMilli) * time.Millisecond
		select {
		case <-exited:
			return
		case <-time.After(min(max(wait, nervous), calm)):
		}
	}
}
