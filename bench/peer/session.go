package peer

import (
	"context"

	"github.com/millrace/millrace/bench"
	"github.com/millrace/millrace/bench/child"
	"github.com/millrace/millrace/bench/workload"
)

// chain is a peer as the harness sees it.
type chain struct{ info bench.Info }

func (c chain) Info() bench.Info { return c.info }

func (c chain) Start(ctx context.Context, p *workload.Payload) (bench.Session, error) {
	sup, err := child.Start(roleSupervisor, supervisorSpec{Peer: c.info.Name, Payload: p})
	if err != nil {
		return nil, err
	}
	s := &session{supervisor: sup}
	if err := sup.Call(ctx, opPIDs, nil, &s.pids); err != nil {
		_ = sup.Close() // the error above says more
		return nil, err
	}
	s.pids = append(s.pids, sup.PID())
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
