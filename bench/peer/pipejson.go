package peer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/millrace/millrace/bench"
	"github.com/millrace/millrace/bench/child"
	"github.com/millrace/millrace/bench/workload"
)

// pipeJSON is (a), what hosts do today: each process holds the state decoded,
// so that every crossing of a pipe encodes on one side and decodes on the
// other. In JSON's favour the records are decoded into structs, which a host
// that does not know its users' data cannot do, the text's buffers are reused,
// and the pipes are as large as in (b).
var pipeJSON = transport{
	info: bench.Info{Name: "pipe-json", Title: "pipes, JSON", Role: bench.Baseline, Work: bench.Rewrite},
	supervise: func(p *workload.Payload) (driver, error) {
		return startJSONChain(p)
	},
	step: func(c *child.Control, spec stepSpec) error {
		return jsonLoop(duplex{c.File(0), c.File(1)})
	},
}

// jsonLink is one end of a connection on which decoded states travel.
type jsonLink struct {
	rw  io.ReadWriter
	in  []byte       // frame received
	out bytes.Buffer // frame to send
}

func (l *jsonLink) send(s *workload.State, st stamp) error {
	l.out.Reset()
	l.out.Write(make([]byte, headerSize))
	if err := json.NewEncoder(&l.out).Encode(s); err != nil {
		return fmt.Errorf("encode the state: %w", err)
	}
	frame := l.out.Bytes()
	putHeader(frame, st)
	if _, err := l.rw.Write(frame); err != nil {
		return fmt.Errorf("write the state: %w", err)
	}
	return nil
}

func (l *jsonLink) receive() (*workload.State, stamp, error) {
	frame, st, err := readFrame(l.rw, &l.in)
	if err != nil {
		return nil, stamp{}, err
	}
	s := new(workload.State)
	if err := json.Unmarshal(frame[headerSize:], s); err != nil {
		return nil, stamp{}, fmt.Errorf("decode a state of %d bytes: %w", len(frame)-headerSize, err)
	}
	return s, st, nil
}

// jsonLoop is a step process.
func jsonLoop(rw io.ReadWriter) error {
	link := jsonLink{rw: rw}
	for {
		state, _, err := link.receive()
		if err != nil {
			return err
		}
		var st stamp
		st.begin = workload.Now()
		workload.RewriteState(state)
		st.end = workload.Now()
		if err := link.send(state, st); err != nil {
			return err
		}
	}
}

// jsonChain is the supervisor of (a).
type jsonChain struct {
	processes []*child.Process
	links     [workload.Steps]jsonLink
	input     *workload.State
	latest    *workload.State
}

func startJSONChain(p *workload.Payload) (*jsonChain, error) {
	doc, err := p.Load(0)
	if err != nil {
		return nil, err
	}
	c := &jsonChain{input: new(workload.State)}
	if err := json.Unmarshal(doc, c.input); err != nil {
		return nil, fmt.Errorf("decode the payload: %w", err)
	}
	for i := range c.links {
		process, link, err := startStep(newStepSpec("pipe-json", p), func() (io.ReadWriter, []*os.File, error) { return pipePair() })
		if err != nil {
			closeAll(c.processes)
			return nil, err
		}
		c.links[i].rw = link
		c.processes = append(c.processes, process)
	}
	return c, nil
}

func (c *jsonChain) run() (bench.RunSample, error) {
	var stamps [workload.Steps]stamp
	c.latest = nil // the previous run's result is garbage from here on
	begin := workload.Now()
	state := c.input
	for i := range c.links {
		if err := c.links[i].send(state, stamp{}); err != nil {
			return bench.RunSample{}, fmt.Errorf("step %d: %w", i+1, err)
		}
		var err error
		if state, stamps[i], err = c.links[i].receive(); err != nil {
			return bench.RunSample{}, fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	end := workload.Now()
	c.latest = state
	return sample(begin, end, &stamps), nil
}

func (c *jsonChain) outcome() (workload.Outcome, error) {
	doc, err := json.Marshal(c.latest)
	if err != nil {
		return workload.Outcome{}, fmt.Errorf("encode the final state: %w", err)
	}
	return workload.OutcomeOf(doc)
}

func (c *jsonChain) steps() []*child.Process { return c.processes }
