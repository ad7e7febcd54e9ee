package worker

import (
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

var errShutdown = errors.New("the supervisor asked for a shutdown")

// prefaultPiece bounds how long the memory map is held at a time.
const prefaultPiece = 4 << 20

// executor is one process's side of the protocol. One goroutine at a time, the
// leader, receives; fields without a remark are immutable.
type executor struct {
	peer     *ipc.Peer
	channel  *ipc.Channel // the peer's
	options  Options
	calls    bool // granted
	streams  bool // granted
	dropKeys []string
	arena    *shm.Arena
	segments segments

	codes    sync.Mutex
	prepared map[uint64]prepared  // by code; guarded by codes
	current  atomic.Pointer[step] // the step that runs
	latest   latest
	watch    watch
	busy     atomic.Bool  // a step has been asked for
	running  atomic.Int32 // steps that are not answered yet
	stopping atomic.Bool  // shut down once no step runs
	ended    chan error   // the first reason to stop; room for one

	prefix      uint64 // of the ids of this executor's segments
	lastSegment atomic.Uint32
	held        atomic.Int64 // bytes of blocks published and not freed
	heapLimit   int64        // the runtime's own limit at the start
	setLimit    int64        // what it was last set to; the leader's
}

// prepared is a step's code, or why it cannot be executed.
type prepared struct {
	function Function
	err      error
}

func newExecutor(channel *ipc.Channel, welcome *ipc.Welcome, options Options) *executor {
	x := &executor{
		peer:      ipc.NewPeer(channel),
		channel:   channel,
		calls:     slices.Contains(welcome.Capabilities, ipc.CapabilityCalls),
		streams:   slices.Contains(welcome.Capabilities, ipc.CapabilityStreams),
		prefix:    uint64(welcome.Executor) << 32,
		options:   options,
		dropKeys:  welcome.DropKeys,
		prepared:  make(map[uint64]prepared),
		ended:     make(chan error, 1),
		heapLimit: debug.SetMemoryLimit(-1),
	}
	x.setLimit = x.heapLimit
	retain := int64(min(welcome.RetainBytes, math.MaxInt64))
	if retain == 0 {
		retain = -1 // for the arena 0 is its default
	}
	x.arena = shm.NewArena(shm.ArenaOptions{
		NextID:      x.nextID,
		RetainBytes: retain,
		OnSegment: func(s *shm.Segment) error {
			x.segments.addOwn(s)
			return channel.Send(&ipc.Envelope{
				Message: &ipc.Attach{Segment: s.ID(), Size: uint64(s.Size())},
				File:    s.File(),
			})
		},
		OnDrop: func(id shm.SegmentID) {
			x.segments.drop(id)
			x.segments.afterDrops(func() { x.send(&ipc.Envelope{Message: &ipc.Detach{Segments: []shm.SegmentID{id}}}) })
		},
	})
	x.watch.init(x)
	return x
}

// nextID mints a segment's id.
func (x *executor) nextID() shm.SegmentID {
	return shm.SegmentID(x.prefix | uint64(x.lastSegment.Add(1)))
}

// send is for what nobody waits for: a channel that is broken ends the executor.
func (x *executor) send(e *ipc.Envelope) {
	if err := x.channel.Send(e); err != nil {
		x.end(err)
	}
}

// end makes Serve return; the first reason counts.
func (x *executor) end(err error) {
	select {
	case x.ended <- err:
	default:
	}
}

// close gives back what the executor maps; no step may be running.
func (x *executor) close() error {
	x.watch.timer.Stop()
	return errors.Join(x.segments.close(), x.arena.Close())
}

// prefault makes pages for the first large blocks while nothing else is to be
// done, in pieces, so that it holds nothing up.
func (x *executor) prefault(bytes uint64) {
	total := int64(min(bytes, math.MaxInt64/2))
	for n := int64(0); n < total && !x.busy.Load() && !x.stopping.Load(); {
		n = min(n+prefaultPiece, total)
		if x.arena.Prefault(n) != nil {
			return // it only saves time; without it the first block takes longer
		}
	}
}

// lead receives and acts until another goroutine leads or the channel ends.
func (x *executor) lead() {
	// A write to read-only state is the function's fault, not the process's.
	debug.SetPanicOnFault(true)
	leads := true
	defer func() {
		if leads { // the function called runtime.Goexit
			go x.lead()
		}
	}()
	for leads {
		e, err := x.peer.Next(x.handle, x.idle)
		if err != nil {
			x.end(err)
			leads = false
			return
		}
		x.execute(e, &leads)
	}
}

// idle reports whether the next message may be an execute, which is worth
// looking for. While a step runs those who wait for an answer look themselves.
func (x *executor) idle() bool { return x.current.Load() == nil }

// handle acts on a message that is neither an answer nor, if the leader has
// received it, an execute. On an error the envelope's file is its caller's to
// close.
func (x *executor) handle(e *ipc.Envelope) error {
	if m, ok := e.Message.(*ipc.Attach); ok {
		f := e.File
		e.File = nil
		return x.segments.attach(m, f)
	}
	if e.File != nil {
		return fmt.Errorf("%s brings a descriptor", e.Message.Type())
	}
	switch m := e.Message.(type) {
	case *ipc.Detach:
		for _, id := range m.Segments {
			x.segments.drop(id)
		}
	case *ipc.Release:
		for _, b := range m.Blocks {
			if err := x.released(b); err != nil {
				return err
			}
		}
	case *ipc.Prepare:
		f, err := x.options.Runner.Prepare(m.Kind, m.Spec)
		x.codes.Lock()
		x.prepared[m.Code] = prepared{f, err}
		x.codes.Unlock()
	case *ipc.Execute:
		// It came to a goroutine that a function has left behind, waiting for a
		// call. The leader receives, or will.
		go func() {
			debug.SetPanicOnFault(true)
			x.execute(e, new(bool))
		}()
	case *ipc.Cancel:
		if s := x.current.Load(); s != nil && s.id == e.ID {
			s.ctx.cancelFor(m.Reason)
		}
		x.leave("it was cancelled", x.latest.cancel(e.ID, m.Reason)...)
	case *ipc.Wake:
		x.heard(m.Stream, nil)
	case *ipc.StreamEnd:
		x.heard(m.Stream, m)
	case *ipc.Ping:
		x.segments.afterDrops(func() { x.send(&ipc.Envelope{ID: e.ID, Message: new(ipc.Pong)}) })
	case *ipc.Shutdown:
		x.stopping.Store(true)
		if x.running.Load() == 0 {
			return errShutdown
		}
	default:
		return fmt.Errorf("the supervisor sent %s, which is not for an executor", e.Message.Type())
	}
	return nil
}

// released acts on a block that the supervisor gives back.
func (x *executor) released(b shm.Block) error {
	if s := x.current.Load(); s != nil {
		if kept, err := s.takeBack(b); kept || err != nil {
			return err
		}
	}
	return x.free(b)
}

// free gives a published block back to the arena.
func (x *executor) free(b shm.Block) error {
	if err := x.arena.Free(b); err != nil {
		return err
	}
	x.held.Add(-int64(b.Length))
	return nil
}

// limitHeap sets the runtime's soft limit for a step: nine tenths of what its
// process may use, because the limit knows only of the heap. It stops the
// world, so it is only called on a change.
func (x *executor) limitHeap(bytes uint64) {
	limit := x.heapLimit
	if bytes > 0 && bytes < math.MaxInt64 {
		limit = min(limit, int64(bytes-bytes/10))
	}
	if limit != x.setLimit {
		debug.SetMemoryLimit(limit)
		x.setLimit = limit
	}
}
