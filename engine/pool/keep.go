package pool

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/millrace/millrace/ipc"
)

// keep lets go of executors that were idle too long and pings the others.
func (p *Pool) keep() {
	tick := time.NewTicker(p.options.HealthInterval)
	defer tick.Stop()
	for {
		select {
		case <-p.stopped:
			return
		case now := <-tick.C:
			p.round(now)
		}
	}
}

// round looks at the idle executors once.
func (p *Pool) round(now time.Time) {
	old, rest := p.takeAllIdle(now)
	var pings sync.WaitGroup
	for _, x := range rest {
		pings.Go(func() {
			if err := x.ping(p.options.HealthInterval); err != nil {
				x.log.Warn("executor does not answer: killed", "error", err)
				x.fail(err)
			}
			p.restore(x)
		})
	}
	for _, x := range old {
		x.shutdown()
	}
	pings.Wait()
}

// takeAllIdle takes every idle executor off the list, so that no task gets one
// in the middle of a ping: those to let go, and those to ping.
func (p *Pool) takeAllIdle(now time.Time) (old, rest []*Executor) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k, list := range p.idle {
		var keep []*Executor
		for _, x := range list {
			idle := now.Sub(x.idleFrom)
			switch {
			case p.options.IdleTimeout > 0 && idle > p.options.IdleTimeout:
				old = append(old, x)
			case idle >= p.options.HealthInterval:
				rest = append(rest, x)
			default: // it answered not long ago
				keep = append(keep, x)
			}
		}
		p.idle[k] = keep
	}
	return old, rest
}

// restore puts an executor back that was pinged, without making it look used.
func (p *Pool) restore(x *Executor) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || !x.alive() {
		return
	}
	k := idleKey(x.key, x.tenant)
	p.idle[k] = slices.Insert(p.idle[k], 0, x)
}

func (x *Executor) ping(timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	e, err := x.peer.Call(ctx, &ipc.Envelope{Message: new(ipc.Ping)})
	if err != nil {
		return err
	}
	if _, ok := e.Message.(*ipc.Pong); !ok {
		return fmt.Errorf("answered ping with %s", e.Message.Type())
	}
	return nil
}
