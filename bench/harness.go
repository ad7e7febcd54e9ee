package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/millrace/millrace/bench/workload"
)

// Config is a benchmark to run.
type Config struct {
	Cases    []Case
	Pings    []PingCase
	Figures  []FigureCase
	Sizes    []int // bytes, ascending
	Records  []workload.Record
	Data     string // where Records come from, for the report
	Quick    bool
	Progress func(format string, args ...any) // called between passes; may be nil

	budget func(size int, quick bool) budget // nil for budgetOf
}

// Run measures everything in cfg. A case that fails at a size is left out
// there and noted in the result; an error means that there is no result.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	if cfg.Progress == nil {
		cfg.Progress = func(string, ...any) {}
	}
	if cfg.budget == nil {
		cfg.budget = budgetOf
	}
	dir, err := os.MkdirTemp("", "millrace-bench-")
	if err != nil {
		return nil, fmt.Errorf("folder for the payloads: %w", err)
	}
	defer os.RemoveAll(dir)
	h := &harness{Config: cfg, dir: dir, result: &Result{
		Started: time.Now(), Quick: cfg.Quick, Machine: ThisMachine(), Data: cfg.Data, Sizes: cfg.Sizes,
	}}
	for _, c := range cfg.Cases {
		h.result.Cases = append(h.result.Cases, c.Info())
	}
	if err := h.roundTrips(ctx); err != nil {
		return nil, err
	}
	if err := h.figures(ctx); err != nil {
		return nil, err
	}
	for _, size := range cfg.Sizes {
		if err := h.size(ctx, size); err != nil {
			return nil, err
		}
	}
	h.result.Elapsed = time.Since(h.result.Started)
	return h.result, nil
}

// harness is the state of one benchmark.
type harness struct {
	Config
	dir    string
	result *Result
}

func (h *harness) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	h.result.Notes = append(h.result.Notes, text)
	h.Progress("note: %s", text)
}

// size measures all cases at one size.
func (h *harness) size(ctx context.Context, size int) error {
	label := FormatSize(size)
	cases := h.fitting(size)
	if len(cases) == 0 {
		return nil
	}
	h.Progress("%s: building the payload", label)
	payload, err := workload.Build(h.dir, size, h.Records)
	if err != nil {
		return err
	}
	defer func() { _ = payload.Remove() }() // the folder goes too
	lanes, err := h.start(ctx, cases, payload)
	defer func() {
		for _, l := range lanes {
			// What it measured stands, however it ends.
			_ = l.session.Close()
		}
	}()
	if err != nil {
		return err
	}
	if err := h.timed(ctx, lanes, label, h.budget(size, h.Quick)); err != nil {
		return err
	}
	for _, l := range lanes {
		if l.err == nil {
			h.Progress("%s: memory of %s", label, l.info.Title)
			l.memoryPass(ctx)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if l.err != nil {
			h.note("%s left out at %s: %v", l.info.Title, label, l.err)
			continue
		}
		h.result.Points = append(h.result.Points, l.point(payload))
	}
	return nil
}

// start brings up the cases and checks that each delivers the payload.
func (h *harness) start(ctx context.Context, cases []Case, payload *workload.Payload) ([]*lane, error) {
	var lanes []*lane
	for _, c := range cases {
		info := c.Info()
		h.Progress("%s: starting %s", FormatSize(payload.Nominal), info.Title)
		session, err := c.Start(ctx, payload)
		if err == nil {
			if err = verify(ctx, session, info, payload); err != nil {
				err = errors.Join(err, session.Close())
			}
		}
		if ctx.Err() != nil {
			return lanes, ctx.Err()
		}
		if err != nil {
			h.note("%s left out at %s: %v", info.Title, FormatSize(payload.Nominal), err)
			continue
		}
		lanes = append(lanes, &lane{info: info, session: session})
	}
	return lanes, nil
}

// verify makes one run, which also warms the case, and compares its outcome.
func verify(ctx context.Context, s Session, info Info, p *workload.Payload) error {
	if _, err := s.Run(ctx, 1); err != nil {
		return err
	}
	got, err := s.Outcome(ctx)
	if err != nil {
		return err
	}
	want := p.Rewritten
	if info.Work == Forward {
		want = p.Untouched
	}
	if got != want {
		return fmt.Errorf("the final state is wrong: %+v, want %+v", got, want)
	}
	return nil
}
