package ipc

import (
	"runtime"
	"sync/atomic"
	"time"
)

const (
	// maxSpin is the longest a reader looks at its ring before it sleeps. It is
	// about what a sleep and a wake-up on both sides cost, so a wrong guess at
	// most doubles the price of a message (the ski-rental bound). Were it
	// shorter than one wake-up, two sides that both sleep would never meet
	// again: each would give up while the other wakes.
	maxSpin = 100 * time.Microsecond
	// worthSpinning is how soon a message must have come for the reader to spin
	// for the next. The wait that is judged went by a sleep on either side,
	// which is what spinning saves; and in a chain of steps by those of every
	// other executor in it. Measured with three on two cores, a run takes a
	// third longer with a quarter of this.
	worthSpinning = 400 * time.Microsecond
	// coreYieldAfter is how long a reader keeps its core to itself. A peer on
	// another core has answered by then; one that has not may be waiting for
	// this one.
	coreYieldAfter = 4 * time.Microsecond
	// sharedWaits is for how many waits a reader takes the peer to share its
	// core, once giving the core away has brought a message.
	sharedWaits = 64
	// pollsPerCheck is how often the ring is looked at between two looks at the
	// clock.
	pollsPerCheck = 64
)

// spinners counts the goroutines of this process that spin. One processor is
// always left to those that work, so on one core nobody spins: there it would
// only keep the peer from running.
var spinners atomic.Int32

// Spinner decides how long a reader of shared memory spins: as long as messages
// come soon after one another, maxSpin; when they do not, less and less, down to
// nothing. The zero value begins without; it is for one goroutine at a time.
type Spinner struct {
	budget time.Duration
	since  time.Time // when the reader last ran out of messages
	shared int       // waits left to give the core away at once
	// expected says that the next message is being made, whenever the last came.
	expected bool
}

// Wait spins until available reports that there is something to read or the
// budget is spent, and reports which.
func (s *Spinner) Wait(available func() bool) bool {
	if available() {
		return true
	}
	s.since = time.Now()
	budget := s.budget
	if s.expected {
		s.expected, budget = false, maxSpin
	}
	if budget == 0 {
		return false
	}
	if int(spinners.Add(1)) >= min(runtime.GOMAXPROCS(0), runtime.NumCPU()) {
		spinners.Add(-1)
		return false
	}
	defer spinners.Add(-1)
	patience := coreYieldAfter
	if s.shared > 0 {
		s.shared--
		patience = 0
	}
	for {
		for range pollsPerCheck {
			if available() {
				return true
			}
		}
		spun := time.Since(s.since)
		switch {
		case spun > budget:
			return false
		case spun > patience:
			yieldCore()
			if patience > 0 && available() {
				s.shared = sharedWaits
			}
		}
	}
}

// Expect tells the spinner that the reader was woken ahead of a message: it
// spins for it once.
func (s *Spinner) Expect() { s.expected = true }

// Slept tells the spinner that the reader slept and was woken: had the message
// come within what spinning is worth, spin next time; if not, spin less.
func (s *Spinner) Slept() {
	if time.Since(s.since) < worthSpinning {
		s.budget = maxSpin
		return
	}
	s.budget /= 4
	if s.budget < time.Microsecond {
		s.budget = 0
	}
}
