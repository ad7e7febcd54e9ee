package bench

import (
	"context"
	"errors"
	"time"

	"github.com/millrace/millrace/bench/measure"
)

const (
	pingPause = 2 * time.Millisecond // before an idle round trip
	restFor   = time.Second          // to watch what an unused pair costs
)

// pinger is one ping case and its samples.
type pinger struct {
	info       Info
	session    PingSession
	err        error
	busy, idle []float64 // ns
	resting    float64   // cores
}

// roundTrips measures the ping cases, in turns.
func (h *harness) roundTrips(ctx context.Context) error {
	rounds, busy, idle := 30, 1000, 100
	if h.Quick {
		rounds = 8
	}
	var pingers []*pinger
	defer func() {
		for _, p := range pingers {
			_ = p.session.Close() // what it measured stands
		}
	}()
	for _, c := range h.Pings {
		h.Progress("round trips: starting %s", c.Info().Title)
		s, err := c.StartPing(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			h.note("round trips of %s left out: %v", c.Info().Title, err)
			continue
		}
		p := &pinger{info: c.Info(), session: s}
		pingers = append(pingers, p)
		_, p.err = s.Ping(ctx, busy, 0) // warm
	}
	for round := range rounds {
		for _, p := range pingers {
			if p.err != nil {
				continue
			}
			h.Progress("round trips: round %d of %d, %s", round+1, rounds, p.info.Title)
			p.take(ctx, busy, idle)
			if err := ctx.Err(); err != nil {
				return err
			}
		}
	}
	h.rest(pingers)
	for _, p := range pingers {
		if p.err != nil {
			h.note("round trips of %s left out: %v", p.info.Title, p.err)
			continue
		}
		h.result.RoundTrips = append(h.result.RoundTrips, RoundTrip{
			Info: p.info, Busy: measure.SpreadOf(p.busy), Idle: measure.SpreadOf(p.idle), Pause: pingPause, Resting: p.resting,
		})
	}
	return nil
}

func (p *pinger) take(ctx context.Context, busy, idle int) {
	b, err1 := p.session.Ping(ctx, busy, 0)
	i, err2 := p.session.Ping(ctx, idle, pingPause)
	p.err = errors.Join(err1, err2)
	for _, d := range b {
		p.busy = append(p.busy, float64(d))
	}
	for _, d := range i {
		p.idle = append(p.idle, float64(d))
	}
}

// rest leaves all pairs alone and reads what CPU each uses meanwhile.
func (h *harness) rest(pingers []*pinger) {
	if len(pingers) == 0 {
		return
	}
	h.Progress("round trips: resting")
	read := func(p *pinger) time.Duration {
		cpu, err := measure.CPU(p.session.PIDs())
		p.err = errors.Join(p.err, err)
		return cpu
	}
	before := make([]time.Duration, len(pingers))
	begin := time.Now()
	for i, p := range pingers {
		before[i] = read(p)
	}
	time.Sleep(restFor)
	for i, p := range pingers {
		p.resting = float64(read(p)-before[i]) / float64(time.Since(begin))
	}
}
