package ipc

import (
	"runtime"
	"sync/atomic"
	"time"
)

const (
	// maxSpin is the longest a reader looks at its ring before it sleeps. It is
	// about what a sleep and a wake-up cost, so a wrong guess at most doubles
	// the price of a message (the ski-rental bound).
	maxSpin = 100 * time.Microsecond
	// worthSpinning is how soon a message must have come for the reader to spin
	// for the next. The wait that is judged went by a sleep on either side,
	// which is what spinning saves.
	worthSpinning = 200 * time.Microsecond
	yieldAfter = 4 * time.Microsecond
	// pollsPerYield is how often the ring is looked at between two offers of
	// the processor to other goroutines.
	pollsPerYield = 64
)

// spinners counts the goroutines of this process that spin. One processor is
// always left to those that work, so on one core nobody spins: there it would
// only keep the peer from running.
var spinners atomic.Int32

// spinner decides how long a reader spins: as long as messages come soon after
// one another, maxSpin; when they do not, less and less, down to nothing.
type spinner struct {
	budget time.Duration
	since  time.Time // when the reader last ran out of messages
}

// wait spins until there is something to read or the budget is spent, and reports which.
func (s *spinner) wait(l *lane) bool {
	if l.available() {
		return true
	}
	s.since = time.Now()
	if s.budget == 0 {
		return false
	}
	if int(spinners.Add(1)) >= min(runtime.GOMAXPROCS(0), runtime.NumCPU()) {
		spinners.Add(-1)
		return false
	}
	defer spinners.Add(-1)
	for {
		for range pollsPerYield {
			if l.available() {
				return true
			}
		}
		spun := time.Since(s.since)
		if spun > s.budget {
			return false
		}
		runtime.Gosched()
		if spun > yieldAfter {
			yieldProcessor()
		}
	}
}

// slept tells the spinner that the reader slept and was woken: had the message
// come within what spinning is worth, spin next time; if not, spin less.
func (s *spinner) slept() {
	if time.Since(s.since) < worthSpinning {
		s.budget = maxSpin
		return
	}
	s.budget /= 4
	if s.budget < time.Microsecond {
		s.budget = 0
	}
}
