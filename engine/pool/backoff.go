package pool

import (
	"context"
	"sync"
	"time"
)

const (
	firstBackoff = 100 * time.Millisecond
	maxBackoff   = 10 * time.Second
)

// backoff spaces the starts of a spec that fails to start.
type backoff struct {
	mu       sync.Mutex
	failures int
	last     time.Time
}

func (b *backoff) before(ctx context.Context, stopped <-chan struct{}) error {
	b.mu.Lock()
	var wait time.Duration
	if b.failures > 0 {
		pause := min(firstBackoff<<min(b.failures-1, 10), maxBackoff)
		wait = time.Until(b.last.Add(pause))
	}
	b.mu.Unlock()
	if wait <= 0 {
		return nil
	}
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-stopped:
		return ErrClosed
	}
}

func (b *backoff) after(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		b.failures = 0
		return
	}
	b.failures++
	b.last = time.Now()
}
