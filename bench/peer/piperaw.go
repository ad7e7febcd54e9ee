package peer

import (
	"io"
	"os"

	"github.com/millrace/millrace/bench"
	"github.com/millrace/millrace/bench/child"
	"github.com/millrace/millrace/bench/workload"
)

// pipeRaw is (b): length-prefixed bytes over pipes of 1 MB, buffers reused.
var pipeRaw = transport{
	info: bench.Info{Name: "pipe-raw", Title: "pipes, raw bytes", Role: bench.Peer, Work: bench.Rewrite},
	supervise: func(p *workload.Payload) (driver, error) {
		return startRawChain("pipe-raw", p, func() (io.ReadWriter, []*os.File, error) { return pipePair() })
	},
	step: func(c *child.Control, spec stepSpec) error {
		return rewriteLoop(duplex{c.File(0), c.File(1)}, spec)
	},
}
