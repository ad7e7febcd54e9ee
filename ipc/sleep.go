package ipc

import (
	"errors"
	"os"
	"runtime"
	"time"
)

// What a reader stores in its lane's asleep word: how it is to be woken. From
// wakeOnWord on it waits on the word itself, for the bit of that number, so that
// one of several who wait there can be meant.
const (
	awake        = 0
	wakeByDoor   = 1 // by a doorbell on the socket; this package understands it and does not ask for it
	wakeOnWord   = 2
	wakeReceiver = wakeOnWord     // Receive, Serve or Next
	wakeHelper   = wakeOnWord + 1 // a goroutine in Help
)

// wakeBit is the bit that is waited for. The word may hold anything that the
// peer has written there.
func wakeBit(how uint32) uint32 { return 1 << (how % 32) }

const (
	// longestSleep bounds what a peer can do that writes into the word of a
	// reader, who then might miss a hang-up or a cancellation.
	longestSleep = time.Second
	// A reader that was woken so often and at once, every time for nothing, has
	// a peer that keeps it awake on purpose: it pauses.
	mostIdleWakes = 16
	wakePause     = time.Millisecond
	// yieldEvery is how often a goroutine that sleeps and wakes gives its processor
	// back in between. After ten milliseconds with the same goroutine the runtime's
	// monitor takes the processor away in every sleep, and to do so looks at it
	// every 20 µs or so (runtime.retake): a fifth of a core, and often the peer's.
	yieldEvery = 5 * time.Millisecond
)

// arm has the peer wake this side from now on, in the way said. It reports false
// when something is there to be taken first.
func (c *Channel) arm(how uint32) bool {
	c.receive.Lock()
	defer c.receive.Unlock()
	in := &c.receive
	r := c.ring.Load()
	switch {
	case in.err != nil, (r == nil || in.announced) && in.early.bytes != nil:
		return false
	case r == nil:
		return true
	}
	r.in.asleep.Swap(how) // see lane.write
	// The peer may have written before it could see that this side sleeps.
	if !in.announced && r.in.available() {
		r.in.asleep.Store(awake)
		return false
	}
	return true
}

// disarm says that this side looks at the ring by itself for now.
func (c *Channel) disarm() {
	c.receive.Lock()
	defer c.receive.Unlock()
	if r := c.ring.Load(); r != nil {
		r.in.asleep.Store(awake)
	}
}

// rest sleeps, as was armed, until something may have come, which is for poll to
// find out. It returns os.ErrDeadlineExceeded and no other error.
func (c *Channel) rest(how uint32) error {
	if c.UsesRing() {
		return c.restOnWord(how)
	}
	return c.restOnSocket()
}

// restOnWord is rest with a ring. The thread sleeps, and not a goroutine in the
// runtime's poller: there the frames' socket would be polled by both processes,
// each read of a doorbell would wake the poller of the one that rang it, and who
// is woken would be told by way of another thread. Together that is as much
// again as the wake-up itself.
func (c *Channel) restOnWord(how uint32) error {
	r := c.enter()
	if r == nil {
		return nil // closed: poll tells
	}
	defer c.leave()
	limit := longestSleep
	if deadline := c.deadline.Load(); deadline != nil && how == wakeReceiver {
		if limit = min(limit, time.Until(*deadline)); limit <= 0 {
			return os.ErrDeadlineExceeded
		}
	}
	begin := time.Now()
	if c.shouldYield(begin) {
		runtime.Gosched()
	}
	futexWait(r.in.asleep, how, wakeBit(how), limit)
	slept := time.Since(begin)
	// Not if it is another's by now: who sleeps then would not be woken.
	woken := !r.in.asleep.CompareAndSwap(how, awake)
	if c.idle(slept, woken) {
		time.Sleep(wakePause)
	}
	return nil
}

// shouldYield reports whether the goroutine that is about to sleep has kept its
// processor for long.
func (c *Channel) shouldYield(now time.Time) bool {
	c.receive.Lock()
	defer c.receive.Unlock()
	if now.Sub(c.receive.yielded) < yieldEvery {
		return false
	}
	c.receive.yielded = now
	return true
}

// idle takes note of a sleep that has ended, and reports whether it was one too
// many that was ended at once and for nothing.
func (c *Channel) idle(slept time.Duration, woken bool) bool {
	c.receive.Lock()
	defer c.receive.Unlock()
	in := &c.receive
	in.spin.Slept()
	r := c.ring.Load()
	if r == nil || in.err != nil || in.early.bytes != nil || r.in.available() {
		return false
	}
	if woken {
		in.spin.Expect()
	}
	if slept > wakePause {
		return false
	}
	in.idleWakes++
	return in.idleWakes > mostIdleWakes
}

// rouse wakes all of this side who sleep on the ring's word; they look around
// and sleep again.
func (c *Channel) rouse() {
	if r := c.enter(); r != nil {
		defer c.leave()
		r.rouse()
	}
}

func (r *ring) rouse() {
	r.in.asleep.Store(awake)
	futexWake(r.in.asleep, ^uint32(0))
}

// enter returns the ring for use beside the locks, until leave is called; nil if
// there is none, or none any more.
func (c *Channel) enter() *ring {
	c.users.Add(1)
	if r := c.ring.Load(); r != nil && !c.closed.Load() {
		return r
	}
	c.users.Add(-1)
	return nil
}

func (c *Channel) leave() { c.users.Add(-1) }

// expel has all who entered leave; the channel is closed.
func (c *Channel) expel() {
	r := c.ring.Load()
	// Who is about to fall asleep may miss one call.
	for pause := 10 * time.Microsecond; c.users.Load() > 0; pause = min(2*pause, time.Millisecond) {
		r.rouse()
		time.Sleep(pause)
	}
}

// restOnSocket is rest without a ring: it waits for the next frame.
func (c *Channel) restOnSocket() error {
	c.reader.Lock()
	defer c.reader.Unlock()
	f, err := c.socket.readFrame()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	c.receive.Lock()
	defer c.receive.Unlock()
	if err == nil {
		c.receive.early = f
	}
	c.came(err)
	return nil
}

// listen waits for the socket beside the ring until its end, of which it tells,
// and for frames that come there late or are not announced at all.
func (c *Channel) listen() {
	defer close(c.listened)
	for {
		err := c.socket.wait(func(fd uintptr) error {
			c.receive.Lock()
			defer c.receive.Unlock()
			return c.fetch(fd)
		})
		c.receive.Lock()
		c.came(err)
		isHere := c.receive.early.bytes != nil
		c.receive.Unlock()
		if err == nil && !isHere {
			continue
		}
		c.rouse()
		if err != nil {
			return
		}
		select {
		case <-c.taken: // its bytes lie in the socket's buffer
		case <-c.gone:
			return
		}
	}
}
