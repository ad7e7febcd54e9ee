package subject

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"

	"github.com/millrace/millrace/bench"
	"github.com/millrace/millrace/bench/workload"
	"github.com/millrace/millrace/worker"
)

// subcommand marks a process as a worker. It is followed by a name, by which
// the pool tells the steps' processes apart, and by the payload as JSON.
const subcommand = "__bench-worker"

// The state's keys: the payload's own, and what the counters step adds.
const (
	keyData     = "data"
	keyCount    = "count"
	keyCounters = "counters"
)

// The functions of a worker.
const (
	fnSource     = "source"
	fnSourceJSON = "source-json"
	fnRewrite    = "rewrite"
	fnForward    = "forward"
	fnEmpty      = "empty"
	fnBlank      = "blank"
	fnCounters   = "counters"
	fnArrow      = "arrow-source"
	fnAttach     = "arrow-attach"
)

// Main runs this process as a worker, if its command line says that it is one,
// and exits; otherwise it returns at once.
func Main() {
	if len(os.Args) != 4 || os.Args[1] != subcommand {
		return
	}
	var p workload.Payload
	if err := json.Unmarshal([]byte(os.Args[3]), &p); err != nil {
		fmt.Fprintf(os.Stderr, "millrace-bench: worker %s: payload: %v\n", os.Args[2], err)
		os.Exit(2)
	}
	worker.Main(worker.Functions{
		fnSource:     func(_ context.Context, s *worker.State) error { return source(s, &p, worker.Raw) },
		fnSourceJSON: func(_ context.Context, s *worker.State) error { return source(s, &p, worker.JSON) },
		fnRewrite:    func(_ context.Context, s *worker.State) error { return rewrite(s, &p) },
		fnForward:    forward,
		fnEmpty:      func(context.Context, *worker.State) error { return nil },
		fnBlank:      func(_ context.Context, s *worker.State) error { return blank(s, &p) },
		fnCounters:   counters,
		fnArrow:      arrowSource,
		fnAttach:     arrowAttach,
	})
}

// source writes the payload's document as the state, straight from its file.
func source(s *worker.State, p *workload.Payload, enc worker.Encoding) error {
	f, err := os.Open(p.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	fill := func(dst []byte) error {
		_, err := f.ReadAt(dst, int64(p.DataOffset))
		return err
	}
	if err := write(s, keyData, enc, p.DataLength, fill); err != nil {
		return err
	}
	return s.Set(keyCount, p.Count)
}

// blank makes a large key of the payload's length out of nothing, one that no
// step will look at.
func blank(s *worker.State, p *workload.Payload) error {
	return write(s, keyData, worker.Raw, p.DataLength, func(dst []byte) error {
		clear(dst)
		return nil
	})
}

// rewrite is the work of a step that changes the large key, from shared memory
// into shared memory.
func rewrite(s *worker.State, p *workload.Payload) error {
	src, err := s.Raw(keyData)
	if err != nil {
		return err
	}
	return write(s, keyData, s.Encoding(keyData), len(src), func(dst []byte) error {
		workload.Rewrite(dst, src, p.Mark-p.DataOffset)
		return nil
	})
}

// write sets a key to n bytes that fill puts into shared memory.
func write(s *worker.State, key string, enc worker.Encoding, n int, fill func(dst []byte) error) error {
	w, err := s.Create(key, enc, int64(n))
	if err != nil {
		return err
	}
	defer w.Abort()
	dst, err := w.Reserve(n)
	if err != nil {
		return err
	}
	if err := fill(dst); err != nil {
		return err
	}
	if err := w.Advance(n); err != nil {
		return err
	}
	return w.Close()
}

// forward leaves the large key alone.
func forward(_ context.Context, s *worker.State) error {
	n, err := worker.Get[int](s, keyCount)
	if err != nil {
		return err
	}
	return s.Set(keyCount, n+1)
}

// counters adds what this process has allocated to what those before it have.
func counters(_ context.Context, s *worker.State) error {
	sum := ownCounters()
	if s.Has(keyCounters) {
		before, err := worker.Get[bench.Counters](s, keyCounters)
		if err != nil {
			return err
		}
		sum = sum.Add(before)
	}
	return s.Set(keyCounters, sum)
}

func ownCounters() bench.Counters {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return bench.Counters{Mallocs: m.Mallocs, Bytes: m.TotalAlloc}
}
