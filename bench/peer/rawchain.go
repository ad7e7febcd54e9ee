package peer

import (
	"fmt"
	"io"
	"os"

	"github.com/millrace/millrace/bench"
	"github.com/millrace/millrace/bench/child"
	"github.com/millrace/millrace/bench/workload"
)

// rawChain drives a chain over byte streams. The supervisor relays: it reads a
// step's frame into its one buffer, whole, and writes that to the next step.
type rawChain struct {
	payload   *workload.Payload
	processes []*child.Process
	links     [workload.Steps]io.ReadWriter
	input     []byte // frame of the initial state; never changed
	buf       []byte // frame of the latest result
}

// startRawChain starts the steps; connect makes one connection and returns the
// supervisor's end and the files that the step inherits.
func startRawChain(peer string, p *workload.Payload, connect func() (io.ReadWriter, []*os.File, error)) (*rawChain, error) {
	input, err := p.Load(headerSize)
	if err != nil {
		return nil, err
	}
	putHeader(input, stamp{})
	c := &rawChain{payload: p, input: input, buf: make([]byte, len(input))}
	for i := range c.links {
		process, link, err := startStep(newStepSpec(peer, p), connect)
		if err != nil {
			closeAll(c.processes)
			return nil, err
		}
		c.links[i] = link
		c.processes = append(c.processes, process)
	}
	return c, nil
}

// startStep connects and starts one step process.
func startStep(spec stepSpec, connect func() (io.ReadWriter, []*os.File, error)) (*child.Process, io.ReadWriter, error) {
	link, theirs, err := connect()
	if err != nil {
		return nil, nil, err
	}
	process, err := child.Start(roleStep, spec, theirs...)
	for _, f := range theirs {
		f.Close()
	}
	return process, link, err
}

func (c *rawChain) run() (bench.RunSample, error) {
	var stamps [workload.Steps]stamp
	begin := workload.Now()
	state := c.input
	for i, link := range c.links {
		if _, err := link.Write(state); err != nil {
			return bench.RunSample{}, fmt.Errorf("write to step %d: %w", i+1, err)
		}
		var err error
		if state, stamps[i], err = readFrame(link, &c.buf); err != nil {
			return bench.RunSample{}, fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	end := workload.Now()
	for i, s := range stamps {
		if err := checkFold(c.payload, i, s); err != nil {
			return bench.RunSample{}, err
		}
	}
	return sample(begin, end, &stamps), nil
}

func (c *rawChain) outcome() (workload.Outcome, error) {
	return workload.OutcomeOf(c.buf[headerSize:])
}

func (c *rawChain) steps() []*child.Process { return c.processes }
