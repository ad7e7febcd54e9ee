package peer

import (
	"fmt"

	"github.com/millrace/millrace/bench"
	"github.com/millrace/millrace/bench/child"
	"github.com/millrace/millrace/bench/workload"
)

// transport is one peer: how its supervisor drives the chain, and the loop
// that its step processes run.
type transport struct {
	info      bench.Info
	supervise func(*workload.Payload) (driver, error)
	step      func(*child.Control, stepSpec) error
}

// driver is the supervisor's end of a running chain.
type driver interface {
	// run passes the payload through the chain once.
	run() (bench.RunSample, error)
	// outcome identifies the final state of the latest run.
	outcome() (workload.Outcome, error)
	// steps returns the step processes, in the chain's order.
	steps() []*child.Process
}

// transports lists the peers in the order of the tables.
var transports = []transport{pipeJSON, pipeRaw, unixRaw, shmIPC}

// Cases returns the baselines, (a) to (d).
func Cases() []bench.Case {
	cases := make([]bench.Case, len(transports))
	for i, t := range transports {
		cases[i] = chain{t.info}
	}
	return cases
}

func transportNamed(name string) (transport, error) {
	for _, t := range transports {
		if t.info.Name == name {
			return t, nil
		}
	}
	return transport{}, fmt.Errorf("unknown peer %q", name)
}

// sample turns the steps' stamps and the supervisor's two into a sample.
func sample(begin, end int64, stamps *[workload.Steps]stamp) bench.RunSample {
	s := bench.RunSample{Wall: nanoseconds(end - begin)}
	for i := range s.Handovers {
		s.Handovers[i] = nanoseconds(stamps[i+1].begin - stamps[i].end)
	}
	return s
}

// checkFold reports a step which did not read what it was sent.
func checkFold(p *workload.Payload, step int, s stamp) error {
	if s.fold != p.Folds[step] {
		return fmt.Errorf("step %d read other bytes than it was sent: fold %#x, want %#x", step+1, s.fold, p.Folds[step])
	}
	return nil
}
