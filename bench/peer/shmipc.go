package peer

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/cloudwego/shmipc-go"

	"github.com/millrace/millrace/bench"
	"github.com/millrace/millrace/bench/child"
	"github.com/millrace/millrace/bench/workload"
)

// shmIPC is (d): github.com/cloudwego/shmipc-go. The steps work zero-copy: they
// read their input where it lies and reserve their output in shared memory. The
// supervisor is the client of one session a step; its three sessions share one
// arena, and it copies a result from one stream to the next, since the library
// cannot hand a slice from stream to stream.
var shmIPC = transport{
	info: bench.Info{Name: "shmipc-go", Title: "shmipc-go", Role: bench.Peer, Work: bench.Rewrite},
	supervise: func(p *workload.Payload) (driver, error) {
		return startShmChain(p)
	},
	step: shmLoop,
}

const (
	// shmSlices is how many slices the arena has: two are in use at most (a
	// step's input and its output, or a result and its copy), and the library
	// never gives out the last one. Its free list hands out the coldest slice
	// first, so any more would only spoil the caches.
	shmSlices = 3

	shmMinArena  = 1 << 20 // the library's minimum, bytes
	shmOverhead  = 1 << 12 // generous room for the arena's headers, bytes
	shmSliceHead = 20      // header of a slice, bytes

	shmPatience = 30 * time.Second // for the handshake, on a busy machine
	shmSilent   = 5                // log level above which nothing is printed
)

// The level is a bare global of the library, read by goroutines of every
// session.
func init() { shmipc.SetLogLevel(shmSilent) }

// shmConfig sizes the arena for states of size bytes.
func shmConfig(size int) *shmipc.Config {
	slice := max(headerSize+size, (shmMinArena-shmOverhead)/shmSlices-shmSliceHead)
	slice = (slice + 63) &^ 63
	conf := shmipc.DefaultConfig()
	conf.MemMapType = shmipc.MemMapTypeMemFd
	conf.ShareMemoryPathPrefix = "millrace-bench"
	conf.BufferSliceSizes = []*shmipc.SizePercentPair{{Size: uint32(slice), Percent: 100}}
	conf.ShareMemoryBufferCap = uint32(max(shmSlices*(slice+shmSliceHead)+shmOverhead, shmMinArena))
	conf.InitializeTimeout = shmPatience
	conf.LogOutput = io.Discard
	return conf
}

// shmLoop is a step process, the server of its session.
func shmLoop(c *child.Control, spec stepSpec) error {
	ln, err := net.FileListener(c.File(0))
	if err != nil {
		return fmt.Errorf("inherited listener: %w", err)
	}
	conn, err := ln.Accept()
	if err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	server, err := shmipc.Server(conn, shmConfig(spec.Size))
	if err != nil {
		return fmt.Errorf("shmipc server: %w", err)
	}
	stream, err := server.AcceptStream()
	if err != nil && server.IsClosed() {
		return io.EOF // the supervisor has gone before its first run
	}
	if err != nil {
		return fmt.Errorf("shmipc stream: %w", err)
	}
	r, w := stream.BufferReader(), stream.BufferWriter()
	size := headerSize + spec.Size
	for {
		in, err := r.ReadBytes(size)
		if err == shmipc.ErrEndOfStream || err == shmipc.ErrStreamClosed {
			return io.EOF
		}
		if err != nil {
			return fmt.Errorf("shmipc read: %w", err)
		}
		var s stamp
		s.begin = workload.Now()
		out, err := w.Reserve(size)
		if err != nil {
			return fmt.Errorf("shmipc reserve %d bytes: %w", size, err)
		}
		s.fold = workload.Rewrite(out[headerSize:], in[headerSize:], spec.Mark)
		s.end = workload.Now()
		putHeader(out, s)
		r.ReleasePreviousRead()
		if err := stream.Flush(false); err != nil {
			return fmt.Errorf("shmipc flush: %w", err)
		}
	}
}

// shmChain is the supervisor of (d).
type shmChain struct {
	payload   *workload.Payload
	processes []*child.Process
	streams   [workload.Steps]*shmipc.Stream
	input     []byte // frame of the initial state, in private memory
	latest    []byte // frame of the latest result, in shared memory
}

func startShmChain(p *workload.Payload) (*shmChain, error) {
	input, err := p.Load(headerSize)
	if err != nil {
		return nil, err
	}
	putHeader(input, stamp{})
	c := &shmChain{payload: p, input: input}
	for i := range c.streams {
		if err := c.startStep(i); err != nil {
			closeAll(c.processes)
			return nil, fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	return c, nil
}

// startStep starts the i-th step process, which inherits a listener, and
// connects to it.
func (c *shmChain) startStep(i int) error {
	name := "@millrace-bench-" + strconv.Itoa(os.Getpid()) + "-" + strconv.Itoa(i)
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return err
	}
	defer ln.Close()
	f, err := ln.File()
	if err != nil {
		return err
	}
	defer f.Close()
	process, err := child.Start(roleStep, newStepSpec("shmipc-go", c.payload), f)
	if err != nil {
		return err
	}
	c.processes = append(c.processes, process)
	conf := shmipc.DefaultSessionManagerConfig()
	conf.Config, conf.Network, conf.Address = shmConfig(c.payload.Size), "unix", name
	manager, err := shmipc.NewSessionManager(conf)
	if err != nil {
		return fmt.Errorf("shmipc client: %w", err)
	}
	if c.streams[i], err = manager.GetStream(); err != nil {
		return fmt.Errorf("shmipc stream: %w", err)
	}
	return nil
}

func (c *shmChain) run() (bench.RunSample, error) {
	var stamps [workload.Steps]stamp
	last := c.streams[workload.Steps-1].BufferReader()
	begin := workload.Now()
	last.ReleasePreviousRead() // the result of the run before
	state := c.input
	for i, stream := range c.streams {
		out, err := stream.BufferWriter().Reserve(len(c.input))
		if err != nil {
			return bench.RunSample{}, fmt.Errorf("shmipc reserve %d bytes: %w", len(c.input), err)
		}
		copy(out, state)
		if i > 0 {
			c.streams[i-1].BufferReader().ReleasePreviousRead()
		}
		if err := stream.Flush(false); err != nil {
			return bench.RunSample{}, fmt.Errorf("shmipc flush to step %d: %w", i+1, err)
		}
		if state, err = stream.BufferReader().ReadBytes(len(c.input)); err != nil {
			return bench.RunSample{}, fmt.Errorf("shmipc read from step %d: %w", i+1, err)
		}
		_, stamps[i] = getHeader(state)
	}
	end := workload.Now()
	c.latest = state
	for i, s := range stamps {
		if err := checkFold(c.payload, i, s); err != nil {
			return bench.RunSample{}, err
		}
	}
	return sample(begin, end, &stamps), c.checkShared()
}

// checkShared reports a state that did not fit into shared memory: the library
// then copies over its socket without a word, which would be measured as its
// speed.
func (c *shmChain) checkShared() error {
	for i, s := range c.streams {
		if _, stable, _ := s.Session().GetMetrics(); stable.FallbackWriteCount+stable.FallbackReadCount > 0 {
			return fmt.Errorf("shmipc fell back to its socket at step %d", i+1)
		}
	}
	return nil
}

func (c *shmChain) outcome() (workload.Outcome, error) {
	return workload.OutcomeOf(c.latest[headerSize:])
}

func (c *shmChain) steps() []*child.Process { return c.processes }
