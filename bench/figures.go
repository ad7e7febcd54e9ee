package bench

import (
	"context"

	"github.com/millrace/millrace/bench/measure"
)

// figures takes what the figure cases have. A case that fails is left out with
// a note.
func (h *harness) figures(ctx context.Context) error {
	for _, c := range h.Figures {
		h.Progress("figures: %s", c.Name())
		figures, notes, err := c.Figures(ctx, h.Quick)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for _, n := range notes {
			h.note("%s", n)
		}
		if err != nil {
			h.note("figures of %s left out: %v", c.Name(), err)
			continue
		}
		h.result.Figures = append(h.result.Figures, figures...)
	}
	return nil
}

const (
	// peersFrom is the size from which on the subject must not be slower than
	// any peer, and largeState the one that it is compared with the baseline at.
	peersFrom  = 64 << 10
	largeState = 64 << 20
)

// Targets returns what the project is to reach, as far as the result tells:
// what follows from the cases and round trips, then the figures with a limit.
func (r *Result) Targets() []Figure {
	var all []Figure
	ratio := func(title string, v, limit float64, atLeast bool) {
		all = append(all, Figure{Title: title, Spread: measure.Spread{Median: v}, Unit: Times, Limit: limit, AtLeast: atLeast})
	}
	subject := r.first(Subject, Rewrite)
	base := r.Point(r.BaselineName(), largeState)
	if p := r.Point(subject, largeState); p != nil && base != nil {
		ratio("faster than "+r.title(base.Case)+" at "+FormatSize(largeState), base.Wall.Median/p.Wall.Median, 4, true)
		ratio("its peak memory at "+FormatSize(largeState), float64(p.PeakBytes)/float64(base.PeakBytes), 1.0/3, false)
	}
	for _, size := range r.Sizes {
		p, best := r.Point(subject, size), r.BestPeer(size)
		if p != nil && best != nil && size >= peersFrom {
			ratio("faster than "+r.title(best.Case)+" at "+FormatSize(size), best.Wall.Median/p.Wall.Median, 1, true)
		}
	}
	var bare, channel *RoundTrip
	for i := range r.RoundTrips {
		switch t := &r.RoundTrips[i]; {
		case t.Info.Role == Baseline && bare == nil:
			bare = t
		case t.Info.Role == Subject && channel == nil:
			channel = t
		}
	}
	if bare != nil && channel != nil {
		ratio("empty step, busy, against a bare socket", channel.Busy.Median/bare.Busy.Median, 0.5, false)
		ratio("empty step, idle before, against a bare socket", channel.Idle.Median/bare.Idle.Median, 1.5, false)
	}
	for _, f := range r.Figures {
		if f.Limit > 0 {
			all = append(all, f)
		}
	}
	return all
}

// first returns the name of the first case of a role and work that ran.
func (r *Result) first(role Role, work Work) string {
	for _, c := range r.Cases {
		if c.Role == role && c.Work == work {
			return c.Name
		}
	}
	return ""
}

func (r *Result) title(name string) string {
	for _, c := range r.Cases {
		if c.Name == name {
			return c.Title
		}
	}
	return name
}
