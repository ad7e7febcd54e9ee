package peer

import (
	"io"
	"os"

	"github.com/millrace/millrace/bench"
	"github.com/millrace/millrace/bench/child"
	"github.com/millrace/millrace/bench/workload"
)

// unixRaw is (c): length-prefixed bytes over a Unix stream socket, buffers
// reused.
var unixRaw = transport{
	info: bench.Info{Name: "unix-raw", Title: "Unix socket, raw bytes", Role: bench.Peer, Work: bench.Rewrite},
	supervise: func(p *workload.Payload) (driver, error) {
		return startRawChain("unix-raw", p, func() (io.ReadWriter, []*os.File, error) { return socketPair() })
	},
	step: func(c *child.Control, spec stepSpec) error { return rewriteLoop(c.File(0), spec) },
}
