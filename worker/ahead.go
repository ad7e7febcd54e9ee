package worker

import (
	"slices"
	"sync"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// latest is the last execute that was or is to be begun, which another one may
// have been sent ahead to follow.
type latest struct {
	mu        sync.Mutex
	id        uint64
	over      bool     // it is answered
	cancelled *string  // why
	left      leftover // once it is over
	// waiting is what was sent ahead until then: the one that follows, the one that
	// follows that, …
	waiting []*ipc.Envelope
}

// leftover is what a step leaves to the one that follows it.
type leftover struct {
	table     ipc.Table // its result
	published uint64    // bytes, by its answer
	open      string    // what keeps a step from following unasked; "": nothing
}

// begin enters that an execute is at work.
func (l *latest) begin(id uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.beginLocked(id)
}

func (l *latest) beginLocked(id uint64) {
	l.id, l.over, l.cancelled, l.left = id, false, nil, leftover{}
}

// follow enters an execute that was sent ahead. It returns it when it is to be
// executed now, and why when it never is; otherwise it waits for end.
func (l *latest) follow(e *ipc.Envelope) (now *ipc.Envelope, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := l.id
	if n := len(l.waiting); n > 0 {
		last = l.waiting[n-1].ID
	}
	switch {
	case e.Message.(*ipc.Execute).After != last:
		return nil, "it follows another than the last execute"
	case !l.over:
		l.waiting = append(l.waiting, e)
		return nil, ""
	}
	return l.ready(e)
}

// end enters how an execute ended, and that it is answered. It returns what is to
// be executed now, or else what is never begun, and why. The supervisor may have
// sent another execute since, which is the last one then.
func (l *latest) end(id uint64, left leftover) (now *ipc.Envelope, never []*ipc.Envelope, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if id != l.id {
		return nil, nil, ""
	}
	l.over, l.left = true, left
	if len(l.waiting) == 0 {
		return nil, nil, ""
	}
	if now, why = l.ready(l.waiting[0]); now != nil {
		l.waiting = l.waiting[1:]
		return now, nil, ""
	}
	never, l.waiting = l.waiting, nil
	return nil, never, why
}

// ready completes what e was sent without and begins it, if nothing keeps it from
// following.
func (l *latest) ready(e *ipc.Envelope) (now *ipc.Envelope, why string) {
	m, left := e.Message.(*ipc.Execute), &l.left
	switch {
	case l.cancelled != nil:
		return nil, "the step before it was cancelled"
	case left.open != "":
		return nil, left.open
	case m.Budget > 0 && m.Budget <= left.published:
		return nil, "the step before it has used its budget up"
	case len(e.State.Rows) > 0 && left.table.Kind == ipc.KindValue:
		return nil, "the state has no keys"
	case slices.ContainsFunc(left.table.Rows, func(r ipc.Row) bool { return r.Spans[0].Flags&shm.FlagStream != 0 }):
		return nil, "there is a live stream in the state"
	}
	for _, key := range m.Needs { // what is short may be null, false, 0 or ""
		if row, ok := left.table.Get(key); !ok || row.Size() <= ipc.LongestNone {
			return nil, "the state has no " + key
		}
	}
	if m.Budget > 0 {
		m.Budget -= left.published
	}
	table := left.table
	for _, row := range e.State.Rows {
		table = table.With(row)
	}
	e.State = table
	l.beginLocked(e.ID)
	return e, ""
}

// cancel enters that an execute is cancelled, and returns what was sent ahead and is
// not begun for that.
func (l *latest) cancel(id uint64, reason string) []*ipc.Envelope {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := 0
	if id == l.id {
		l.cancelled = &reason
	} else if at = slices.IndexFunc(l.waiting, func(e *ipc.Envelope) bool { return e.ID == id }); at < 0 {
		return nil
	}
	never := slices.Clone(l.waiting[at:])
	l.waiting = l.waiting[:at]
	return never
}

// isCancelled returns why an execute was cancelled before it could be told, or nil.
func (l *latest) isCancelled(id uint64) *string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if id != l.id {
		return nil
	}
	return l.cancelled
}

// leave answers executes that were sent ahead and are not begun.
func (x *executor) leave(why string, executes ...*ipc.Envelope) {
	for _, e := range executes {
		x.send(&ipc.Envelope{ID: e.ID, Message: &ipc.Fail{
			Severity: ipc.SeverityCancel, Name: "NotBegunError", Message: "not begun: " + why,
		}})
	}
}
