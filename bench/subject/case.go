package subject

import (
	"context"

	"github.com/millrace/millrace/bench"
	"github.com/millrace/millrace/bench/child"
	"github.com/millrace/millrace/bench/workload"
)

// Cases returns what is compared with the peers.
func Cases() []bench.Case {
	return []bench.Case{
		chain{
			info:   bench.Info{Name: "millrace", Title: "millrace, rewritten", Role: bench.Subject, Work: bench.Rewrite},
			source: fnSource, function: fnRewrite,
		},
		chain{
			info:   bench.Info{Name: "millrace-json", Title: "millrace, checked JSON", Role: bench.Subject, Work: bench.Rewrite},
			source: fnSourceJSON, function: fnRewrite,
		},
		chain{
			info:   bench.Info{Name: "millrace-forward", Title: "millrace, untouched", Role: bench.Subject, Work: bench.Forward},
			source: fnSource, function: fnForward,
		},
		cold{},
	}
}

// chain is millrace as the harness sees it.
type chain struct {
	info             bench.Info
	source, function string
}

func (c chain) Info() bench.Info { return c.info }

func (c chain) Start(ctx context.Context, p *workload.Payload) (bench.Session, error) {
	s, err := start(ctx, roleSupervisor, supervisorSpec{Source: c.source, Function: c.function, Payload: p})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// start starts a supervisor process and asks for its executors.
func start(ctx context.Context, role string, spec any) (*session, error) {
	p, err := child.Start(role, spec)
	if err != nil {
		return nil, err
	}
	s := &session{supervisor: p}
	if err := p.Call(ctx, opPIDs, nil, &s.pids); err != nil {
		_ = p.Close() // the error above says more
		return nil, err
	}
	s.pids = append(s.pids, p.PID())
	return s, nil
}

// session is the harness's end of a supervisor process.
type session struct {
	supervisor *child.Process
	pids       []int // immutable once started
}

func (s *session) Run(ctx context.Context, n int) (samples []bench.RunSample, err error) {
	err = s.supervisor.Call(ctx, opRun, n, &samples)
	return samples, err
}

func (s *session) Outcome(ctx context.Context) (o workload.Outcome, err error) {
	err = s.supervisor.Call(ctx, opOutcome, nil, &o)
	return o, err
}

func (s *session) Counters(ctx context.Context) (c bench.Counters, err error) {
	err = s.supervisor.Call(ctx, opCounters, nil, &c)
	return c, err
}

func (s *session) PIDs() []int { return s.pids }

func (s *session) Close() error { return s.supervisor.Close() }
