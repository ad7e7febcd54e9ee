package subject

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/bench"
	"github.com/millrace/millrace/bench/child"
	"github.com/millrace/millrace/bench/workload"
	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/engine/document"
	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

const (
	roleCold = "subject-cold"
	opCPU    = "cpu" // -> time.Duration, of this process and its former children
)

func init() { child.Register(roleCold, superviseCold) }

// cold is the first run of an engine that was just made: its executors are
// started, every page of every segment is a new one, and the input is a file
// that was just read into shared memory.
type cold struct{}

func (cold) Info() bench.Info {
	return bench.Info{Name: "millrace-cold", Title: "millrace, first run", Role: bench.Subject, Work: bench.Rewrite}
}

func (cold) Start(ctx context.Context, p *workload.Payload) (bench.Session, error) {
	s, err := start(ctx, roleCold, p)
	if err != nil {
		return nil, err
	}
	return &coldSession{session: *s}, nil
}

// coldSession is a session whose executors come and go.
type coldSession struct{ session }

// PIDs returns the supervisor and its children of this moment.
func (s *coldSession) PIDs() []int {
	pids := []int{s.supervisor.PID()}
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pids[0])) // the pattern is good
	for _, path := range lists {
		list, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has gone
		}
		for _, field := range strings.Fields(string(list)) {
			if pid, err := strconv.Atoi(field); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// CPU implements [bench.CPUCounter].
func (s *coldSession) CPU(ctx context.Context) (d time.Duration, err error) {
	err = s.supervisor.Call(ctx, opCPU, nil, &d)
	return d, err
}

func superviseCold(c *child.Control) error {
	s := &coldSupervisor{payload: new(workload.Payload)}
	if err := c.Spec(s.payload); err != nil {
		return err
	}
	defer s.letGo()
	return c.Serve(map[string]child.Handler{
		opRun: func(arg json.RawMessage) (any, error) {
			var n int
			if err := json.Unmarshal(arg, &n); err != nil {
				return nil, err
			}
			samples := make([]bench.RunSample, n)
			for i := range samples {
				var err error
				if samples[i], err = s.once(); err != nil {
					return nil, err
				}
			}
			return samples, nil
		},
		opOutcome: func(json.RawMessage) (any, error) {
			if s.result == nil {
				return nil, fmt.Errorf("there was no run")
			}
			return outcome(s.result)
		},
		opCounters: func(json.RawMessage) (any, error) { return s.allocated.Add(ownCounters()), nil },
		opPIDs:     func(json.RawMessage) (any, error) { return []int{}, nil },
		opCPU:      func(json.RawMessage) (any, error) { return usedCPU() },
	})
}

// coldSupervisor makes an engine for each run.
type coldSupervisor struct {
	payload   *workload.Payload
	latest    *supervisor    // its engine and run, until the next one
	result    *engine.Result // of it
	allocated bench.Counters // by executors that are gone
}

func (s *coldSupervisor) once() (sample bench.RunSample, err error) {
	if err := s.letGo(); err != nil {
		return sample, err
	}
	p, err := chainPlan(s.payload, stage{"1", fnRewrite}, stage{"2", fnRewrite}, stage{"3", fnRewrite})
	if err != nil {
		return sample, err
	}
	counting, err := chainPlan(s.payload, stage{"1", fnCounters}, stage{"2", fnCounters}, stage{"3", fnCounters})
	if err != nil {
		return sample, err
	}
	eng, err := engine.New(engine.Options{})
	if err != nil {
		return sample, err
	}
	s.latest = &supervisor{engine: eng, plan: p, counters: counting}
	ctx := context.Background()
	var t timeline
	input := func(store document.Store) (ipc.Table, error) {
		table, err := importPayload(store, s.payload)
		t.begin = workload.Now()
		return table, err
	}
	run, err := eng.Submit(ctx, p, input, engine.RunOptions{Observe: func(e engine.Event) {
		if e.Type == engine.EventStepComplete && e.Step != "0" {
			t.handovers = append(t.handovers, time.Duration(e.Report.HandoverUS*1e3))
		}
	}})
	if err != nil {
		return sample, err
	}
	s.latest.run = run
	s.result, err = run.Wait(ctx)
	end := workload.Now()
	if err == nil {
		err = s.result.Err
	}
	sample.Wall = time.Duration(end - t.begin)
	copy(sample.Handovers[:], t.handovers)
	return sample, err
}

// letGo counts what the latest engine's executors allocated, and ends it.
func (s *coldSupervisor) letGo() error {
	if s.latest == nil {
		return nil
	}
	before := ownCounters()
	sum, err := s.latest.count()
	if err == nil {
		s.allocated = s.allocated.Add(bench.Counters{Mallocs: sum.Mallocs - before.Mallocs, Bytes: sum.Bytes - before.Bytes})
		err = s.latest.letGo()
	}
	closeErr := s.latest.engine.Close()
	s.latest, s.result = nil, nil
	if err == nil {
		err = closeErr
	}
	return err
}

// importPayload reads the payload's file into shared memory. Its parts are
// known, so that it is not scanned for them: the peers' input is not either.
func importPayload(s document.Store, p *workload.Payload) (ipc.Table, error) {
	f, err := os.Open(p.Path)
	if err != nil {
		return ipc.Table{}, err
	}
	defer f.Close()
	whole, err := s.Account.Import(f, shm.Raw)
	if err != nil {
		return ipc.Table{}, err
	}
	defer s.Account.Release(ipc.Table{Kind: ipc.KindValue, Rows: []ipc.Row{{Spans: []shm.Ref{whole}}}})
	part := func(key string, enc shm.Encoding, offset, length int) ipc.Row {
		ref := whole
		ref.Offset, ref.Length, ref.Encoding = ref.Offset+uint64(offset), uint64(length), enc
		return ipc.Row{Key: key, Spans: []shm.Ref{ref}}
	}
	digits := len(strconv.Itoa(p.Count))
	t := ipc.Table{Kind: ipc.KindObject, Rows: []ipc.Row{
		part(keyData, shm.Raw, p.DataOffset, p.DataLength),
		part(keyCount, shm.JSON, p.Size-1-digits, digits),
	}}
	return t, s.Account.Retain(t)
}

// usedCPU is what this process and the children that it waited for have used.
func usedCPU() (time.Duration, error) {
	var sum time.Duration
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			return 0, err
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return sum, nil
}
