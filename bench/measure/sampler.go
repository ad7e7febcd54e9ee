package measure

import (
	"sync"
	"time"
)

// Sampler follows the memory of a set of processes and keeps the highest sum.
type Sampler struct {
	pids func() []int
	stop chan struct{}
	done sync.WaitGroup

	// Written by the sampling goroutine only, read after done.
	peak    Memory
	samples int
	err     error
}

// Sample starts sampling every interval; pids is asked each time, so that
// processes started meanwhile are seen. The caller must call Stop.
func Sample(pids func() []int, interval time.Duration) *Sampler {
	s := &Sampler{pids: pids, stop: make(chan struct{})}
	s.done.Go(func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			s.take()
			select {
			case <-s.stop:
				s.take()
				return
			case <-ticker.C:
			}
		}
	})
	return s
}

func (s *Sampler) take() {
	m, err := MemoryOf(s.pids())
	if err != nil {
		s.err = err
		return
	}
	s.samples++
	if m.Total() > s.peak.Total() {
		s.peak = m
	}
}

// Stop ends the sampling and returns the peak. The error is that of the last
// sample which failed, when none succeeded.
func (s *Sampler) Stop() (peak Memory, samples int, err error) {
	close(s.stop)
	s.done.Wait()
	if s.samples == 0 {
		return Memory{}, 0, s.err
	}
	return s.peak, s.samples, nil
}
