package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/edsrzf/mmap-go"

	"github.com/millrace/millrace/worker"
)

func init() { maps.Copy(testFunctions, worker.Functions{"act": act}) }

// tallyVariable names the file in which the steps of all processes count.
const tallyVariable = "MILLRACE_TEST_TALLY"

// A tally is what steps count by themselves, whatever the engine says, in memory
// that all executors share: who works now, and how many have started.
type tally struct {
	host      atomic.Int64
	runs      [maxFlowRuns]atomic.Int64
	steps     [maxFlowSteps]atomic.Int64
	started   [maxFlowSteps]atomic.Int64
	exceeded  atomic.Int64 // how often a limit was
	corrupted atomic.Int64 // how often a value was not what was written
}

func openTally(path string) (*tally, mmap.MMap, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	if err := f.Truncate(int64(unsafe.Sizeof(tally{}))); err != nil {
		return nil, nil, err
	}
	m, err := mmap.Map(f, mmap.RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	return (*tally)(unsafe.Pointer(&m[0])), m, nil
}

var executorTally = sync.OnceValues(func() (*tally, error) {
	t, _, err := openTally(os.Getenv(tallyVariable))
	return t, err
})

// actor is one execution of a flowProgram.
type actor struct {
	*tally
	flowProgram
	state   *worker.State
	run     int
	acc     uint32
	working bool // it is counted
	gone    bool // it may have no place any more
}

func (a *actor) limits(yield func(*atomic.Int64, int) bool) {
	_ = yield(&a.host, a.Slots) && yield(&a.runs[a.run], a.RunLimit) && yield(&a.steps[a.Index], a.Limit)
}

// work counts the execution as one that works, from its start and again when its
// calls have been answered.
func (a *actor) work() {
	if a.working || a.gone {
		return
	}
	a.working = true
	for count, limit := range a.limits {
		if now := count.Add(1); limit > 0 && now > int64(limit) {
			a.exceeded.Add(1)
		}
	}
}

// pause ends that, before it calls and at its end.
func (a *actor) pause() {
	if !a.working {
		return
	}
	a.working = false
	for count := range a.limits {
		count.Add(-1)
	}
}

// act does as its configuration says.
func act(ctx context.Context, s *worker.State) error {
	program, err := worker.Get[flowProgram](s, "configuration")
	fuel, err1 := worker.Get[int](s, "fuel")
	acc, err2 := worker.Get[uint32](s, "acc")
	run, err3 := worker.Get[int](s, "run")
	counts, err4 := executorTally()
	if err := errors.Join(err, err1, err2, err3, err4); err != nil {
		return err
	}
	a := &actor{tally: counts, flowProgram: program, state: s, run: run}
	a.started[a.Index].Add(1)
	a.work()
	defer a.pause()
	a.acc = mix(acc, uint32(a.Index)<<16|uint32(fuel))
	if a.Grow > 0 {
		if err := s.Set("blob", blob(a.Grow)); err != nil {
			return err
		}
	}
	callee, rest := a.shares(fuel)
	for _, c := range a.Calls {
		if callee == 0 {
			break
		}
		if err := a.calls(ctx, c, callee); err != nil {
			return err
		}
		a.work()
	}
	if _, err := a.blobOf(s); err != nil { // its payload is still there
		return err
	}
	if err := errors.Join(s.Set("fuel", rest), s.Set("acc", a.acc)); err != nil {
		return err
	}
	if a.End.How == endWell || fuel%a.End.Mod != a.End.Rest {
		return nil
	}
	switch {
	case a.End.How == endFail:
		return errors.New("as it should")
	case a.End.How == endCrash:
		a.pause()
		os.Exit(7)
	case rest > 0:
		return s.Forward(stepID(a.End.To))
	}
	return nil
}

func blob(size int) string { return strings.Repeat(string(rune('a'+size%26)), size) }

// blobOf returns the length of a state's blob, having looked at all of it.
func (a *actor) blobOf(s *worker.State) (int, error) {
	if !s.Has("blob") {
		return 0, nil
	}
	text, err := worker.Get[string](s, "blob")
	if err == nil && text != blob(len(text)) {
		err = errors.New("the blob is not what was written")
	}
	if err != nil {
		a.corrupted.Add(1)
	}
	return len(text), err
}

// calls makes calls and enters what comes of them. An error is the step's.
func (a *actor) calls(ctx context.Context, c flowCalls, fuel int) error {
	before := a.acc
	values, failures := make([]uint32, c.N), make([]error, c.N)
	seen := make([]bool, c.N)
	// take enters one answer. It returns what ends the step.
	take := func(i int, reply *worker.Reply, err error) error {
		if seen[i] {
			a.corrupted.Add(1)
			return fmt.Errorf("call %d was answered twice", i)
		}
		seen[i] = true
		var failed *worker.CallError
		switch {
		case errors.As(err, &failed) && failed.Severity != "cancel":
			values[i], failures[i] = failedCall, err
			return nil
		case err != nil: // the step itself is being ended
			a.gone = true
			return err
		}
		defer reply.Close()
		values[i], err = a.value(reply.State())
		if err == nil && c.Adopt && i == c.N-1 && reply.State().Has("blob") {
			err = a.state.SetFrom("blob", reply.State(), "blob")
		}
		return err
	}
	options := worker.CallOptions{Until: c.Until}
	ended := false
	switch c.How {
	case inTurn:
		for i := range c.N {
			arg, err := a.argument(c, before, i, fuel)
			if err != nil {
				return err
			}
			a.pause()
			reply, err := worker.Call(ctx, stepID(c.To), arg, options)
			if err := take(i, reply, err); err != nil {
				return err
			}
			a.work()
		}
	case together:
		var group sync.WaitGroup
		replies, errs := make([]*worker.Reply, c.N), make([]error, c.N)
		a.pause()
		for i := range c.N {
			arg, err := a.argument(c, before, i, fuel)
			if err != nil {
				return err
			}
			group.Go(func() { replies[i], errs[i] = worker.Call(ctx, stepID(c.To), arg, options) })
		}
		group.Wait()
		for i := range c.N {
			if err := take(i, replies[i], errs[i]); err != nil {
				return err
			}
		}
	default:
		a.pause()
		var wrong error
		items := iter.Seq[*worker.State](func(yield func(*worker.State) bool) {
			for i := range c.N {
				arg, err := a.argument(c, before, i, fuel)
				if wrong = err; err != nil || !yield(arg) {
					return
				}
			}
		})
		for reply, err := range worker.Each(ctx, a.state, stepID(c.To), items, worker.EachOptions{
			Concurrency: c.Concurrency, Until: c.Until, Collect: c.How == eachCollect,
		}) {
			if reply == nil {
				a.gone = true
				return err
			}
			if err := take(reply.Index(), reply, err); err != nil {
				return err
			}
			ended = ended || err != nil && c.How == eachFirst
		}
		if wrong != nil {
			return wrong
		}
	}
	if ended {
		// Calls that are being cancelled may still hold its place.
		a.gone = true
		a.acc = mix(a.acc, failedCall)
		return nil
	}
	for i, v := range values {
		if !seen[i] {
			a.corrupted.Add(1)
			return fmt.Errorf("call %d was not answered", i)
		}
		a.acc = mix(a.acc, v)
	}
	if c.Propagate {
		for _, err := range failures {
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// argument makes a call's state.
func (a *actor) argument(c flowCalls, acc uint32, i, fuel int) (*worker.State, error) {
	var arg *worker.State
	if c.Inherit {
		arg = a.state.Fork()
	} else {
		arg = a.state.New()
	}
	return arg, errors.Join(arg.Set("run", a.run), arg.Set("fuel", fuel), arg.Set("acc", mix(acc, uint32(i))))
}

// value is flowToken.value, added up over the leaves that a call's result has.
func (a *actor) value(s *worker.State) (uint32, error) {
	if s.Has("acc") {
		acc, err := worker.Get[uint32](s, "acc")
		size, err1 := a.blobOf(s)
		return flowToken{Acc: acc, Blob: size}.value(), errors.Join(err, err1)
	}
	var sum uint32
	for _, leaf := range s.Keys() {
		got, err := worker.Get[struct {
			Acc  uint32
			Blob string
		}](s, leaf)
		if err != nil {
			return 0, err
		}
		if got.Blob != blob(len(got.Blob)) {
			a.corrupted.Add(1)
		}
		sum = (sum + flowToken{Acc: got.Acc, Blob: len(got.Blob)}.value()) & accMask
	}
	return sum, nil
}
