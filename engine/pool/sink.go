package pool

import (
	"sync"

	"github.com/millrace/millrace/ipc"
)

// sink takes what an executor sends during a task, for the task's functions. That
// of a task which was sent ahead holds it at first, until its user is there for it.
type sink struct {
	executor *Executor
	id       uint64 // of the execute; set before anything comes

	mu       sync.Mutex
	room     sync.Cond // something is not held any more
	task     *Task     // nil: what comes is held
	held     []*ipc.Envelope
	answered bool
	next     *sink // of the task that follows
}

// maxHeld is how many messages a sink holds before the executor's next one has
// to wait.
const maxHeld = 1024

// newSink returns the sink of a task; nil makes one that holds.
func newSink(x *Executor, t *Task) *sink {
	s := &sink{executor: x, task: t}
	s.room.L = &s.mu
	return s
}

// take is called for one message after the other. An error is a breach.
func (s *sink) take(e *ipc.Envelope) error {
	s.mu.Lock()
	for s.task == nil && len(s.held) >= maxHeld {
		s.room.Wait()
	}
	if s.task == nil {
		s.held = append(s.held, e)
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()
	return s.give(e)
}

func (s *sink) give(e *ipc.Envelope) error {
	if m, ok := e.Message.(*ipc.Log); ok {
		if s.task.OnLog != nil {
			s.task.OnLog(m)
		}
		return nil
	}
	if s.task.OnRequest == nil {
		return s.executor.refuse(e)
	}
	return s.task.OnRequest(e)
}

// open gives out what was held, and what comes from then on. An error is a
// breach.
func (s *sink) open(t *Task) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.task = t
	for _, e := range s.held {
		if err == nil {
			err = s.give(e)
		}
	}
	s.held = nil
	s.room.Broadcast()
	if s.answered && t.OnAnswer != nil {
		t.OnAnswer()
	}
	return err
}

// logs reports whether somebody wants the task's log, or may.
func (s *sink) logs() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.task == nil || s.task.OnLog != nil
}

// answer enters that the task is answered: what the executor sends next is of the
// one that follows.
func (s *sink) answer() {
	s.mu.Lock()
	s.answered = true
	next, t := s.next, s.task
	s.mu.Unlock()
	if next != nil { // who waits for this one may have gone on already
		s.executor.task.Store(next)
	}
	if t != nil && t.OnAnswer != nil {
		t.OnAnswer()
	}
}

// follow enters the sink of the task that follows, before that one is sent.
func (s *sink) follow(next *sink) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = next
	if s.answered {
		s.executor.task.Store(next)
	}
}
