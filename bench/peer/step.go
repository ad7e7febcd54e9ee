package peer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/millrace/millrace/bench/child"
	"github.com/millrace/millrace/bench/workload"
)

// stepSpec tells a step process what to do.
type stepSpec struct {
	Peer string `json:"peer"`
	Size int    `json:"size"` // bytes of the state, for sizing buffers
	Mark int    `json:"mark"` // offset of the byte to change
}

func newStepSpec(peer string, p *workload.Payload) stepSpec {
	return stepSpec{Peer: peer, Size: p.Size, Mark: p.Mark}
}

// runStep is a step process: the peer's loop on the data files, and the
// control channel beside it.
func runStep(c *child.Control) error {
	var spec stepSpec
	if err := c.Spec(&spec); err != nil {
		return err
	}
	t, err := transportNamed(spec.Peer)
	if err != nil {
		return err
	}
	go func() {
		if err := t.step(c, spec); err != nil && !hungUp(err) {
			fmt.Fprintf(os.Stderr, "millrace-bench: %s step: %v\n", spec.Peer, err)
			os.Exit(1)
		}
	}()
	return c.Serve(map[string]child.Handler{
		opCounters: func(json.RawMessage) (any, error) { return ownCounters(), nil },
	})
}

// hungUp tells that the supervisor has gone, in whatever way the data files say
// it; the control channel says so too.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// rewriteLoop serves a raw peer's step over a byte stream: read a frame, do
// the work into a second buffer, write that.
func rewriteLoop(rw io.ReadWriter, spec stepSpec) error {
	in := make([]byte, headerSize+spec.Size)
	out := make([]byte, headerSize+spec.Size)
	for {
		frame, _, err := readFrame(rw, &in)
		if err != nil {
			return err
		}
		var s stamp
		s.begin = workload.Now()
		s.fold = workload.Rewrite(out[headerSize:], frame[headerSize:], spec.Mark)
		s.end = workload.Now()
		putHeader(out, s)
		if _, err := rw.Write(out); err != nil {
			return fmt.Errorf("write the result: %w", err)
		}
	}
}
