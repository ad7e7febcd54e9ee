package lightning

import (
	"context"
	"sync"
	"time"
)

// The bounds of what a run may have waiting to be sent. At one of them the step
// that logs, or the branch that goes on, waits.
const (
	maxLogBytes   = 4 << 20
	maxLogLines   = 50_000
	maxEvents     = 64
	lineOverhead  = 256 // of a line beside its message, about
	batchedBytes  = 1 << 20
	firstCapacity = 64
)

// outbox holds what a run tells Lightning, in order, and sends one thing after
// another: the next when the last was acknowledged. Steps put in, one goroutine
// takes out.
type outbox struct {
	batch outboxBatch
	// sendLogs sends lines; sendEvent anything else. They return when the
	// acknowledgement came or never will.
	sendLogs func(context.Context, []logLine)

	mu       sync.Mutex
	changed  *sync.Cond
	queue    []outboxItem
	logBytes int
	logLines int
	events   int
	gathers  bool // the sender waits for a batch to become full
	overdue  bool // nothing waits for room any more: lines over the bound are dropped
	dropped  int
	closed   bool // no more will be put in
}

// outboxBatch says how lines are sent: one by one, or up to limit together
// that came within the interval.
type outboxBatch struct {
	on       bool
	interval time.Duration
	limit    int
	bytes    int // of lines together, 0: batchedBytes
}

// most is how many bytes of lines go together.
func (b *outboxBatch) most() int {
	if b.bytes == 0 {
		return batchedBytes
	}
	return b.bytes
}

type outboxItem struct {
	line *logLine
	came time.Time                 // a line's
	send func(ctx context.Context) // an event's
}

func newOutbox(batch outboxBatch, sendLogs func(context.Context, []logLine)) *outbox {
	o := &outbox{batch: batch, sendLogs: sendLogs, queue: make([]outboxItem, 0, firstCapacity)}
	o.changed = sync.NewCond(&o.mu)
	return o
}

func (l *logLine) size() int { return len(l.Message) + lineOverhead }

// log puts a line in. It waits while there is no room.
func (o *outbox) log(line logLine) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for !o.overdue && (o.logBytes > maxLogBytes || o.logLines >= maxLogLines) {
		o.changed.Wait()
	}
	if o.logBytes > maxLogBytes || o.logLines >= maxLogLines {
		o.dropped++
		return
	}
	o.logBytes += line.size()
	o.logLines++
	o.put(outboxItem{line: &line, came: time.Now()})
}

// event puts an event in. It waits while too many wait, which hold states.
func (o *outbox) event(send func(context.Context)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for !o.overdue && o.events >= maxEvents {
		o.changed.Wait()
	}
	o.events++
	o.put(outboxItem{send: send})
}

func (o *outbox) put(item outboxItem) {
	o.queue = append(o.queue, item)
	if o.gathers && item.line != nil && len(o.queue) < o.batch.limit && o.logBytes < o.batch.most() {
		return // to wake the sender for each line costs more than the line
	}
	o.changed.Broadcast()
}

// bound sets how many bytes of lines are sent together.
func (o *outbox) bound(bytes int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.batch.bytes = int(min(bytes, batchedBytes))
}

// noWaiting ends the waiting for room: the run is over its time.
func (o *outbox) noWaiting() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.overdue = true
	o.changed.Broadcast()
}

// close says that nothing more will come.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.changed.Broadcast()
}

// lost returns how many lines were dropped.
func (o *outbox) lost() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.dropped
}

// run sends until the outbox is closed and empty. When ctx ends, what is left
// is handed to its senders all the same: they see to what they hold.
func (o *outbox) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, o.noWaiting)
	defer stop()
	for {
		lines, send, ok := o.next(ctx)
		switch {
		case !ok:
			return
		case send != nil:
			send(ctx)
		default:
			o.sendLogs(ctx, lines)
		}
	}
}

// next takes out what is to be sent next.
func (o *outbox) next(ctx context.Context) (lines []logLine, send func(context.Context), ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.queue) == 0 {
		if o.closed {
			return nil, nil, false
		}
		o.changed.Wait()
	}
	first := o.queue[0]
	if first.send != nil {
		o.take(1)
		return nil, first.send, true
	}
	n := 1
	if o.batch.on {
		o.gather(ctx, first.came.Add(o.batch.interval))
		n = o.batchable()
	}
	for _, item := range o.queue[:n] {
		lines = append(lines, *item.line)
	}
	o.take(n)
	return lines, nil, true
}

// batchable returns how many lines at the head go together.
func (o *outbox) batchable() int {
	bytes, limit := 0, o.batch.most()
	for i, item := range o.queue {
		if item.line == nil || i == o.batch.limit || i > 0 && bytes+item.line.size() > limit {
			return i
		}
		bytes += item.line.size()
	}
	return len(o.queue)
}

// gather waits until the batch is full, something else comes behind it, or the
// time is up.
func (o *outbox) gather(ctx context.Context, until time.Time) {
	wait := time.Until(until)
	if wait <= 0 || o.batchable() < len(o.queue) || o.batchable() >= o.batch.limit {
		return
	}
	expired := false
	timer := time.AfterFunc(wait, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		expired = true
		o.changed.Broadcast()
	})
	defer timer.Stop()
	o.gathers = true
	defer func() { o.gathers = false }()
	for !expired && !o.closed && ctx.Err() == nil && o.batchable() == len(o.queue) && o.batchable() < o.batch.limit {
		o.changed.Wait()
	}
}

func (o *outbox) take(n int) {
	for i := range o.queue[:n] {
		if line := o.queue[i].line; line != nil {
			o.logBytes -= line.size()
			o.logLines--
		} else {
			o.events--
		}
		o.queue[i] = outboxItem{}
	}
	o.queue = o.queue[n:]
	o.changed.Broadcast()
}
