package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/millrace/millrace/worker"
)

func init() { maps.Copy(testFunctions, worker.Functions{"stage": streamStage, "answer": answer}) }

// streamWorld is a line of steps, each of which reads the stream of the one
// before while it feeds one to the next.
type streamWorld struct {
	Slots, Concurrency int
	Stages             []streamStep
	cancelAt           int // cancelled when so many steps have started; 0: never
}

// streamStep is what a step of the line does. It is its configuration.
type streamStep struct {
	Index       int
	Items, Size int    // of the first: how many, and their length in bytes
	Keep        uint32 // of the others: which items go on, those whose number it does not divide; 0: all
	Calls       int    // a step is called for each so many items; 0: none
	Pass        bool   // it does not read the stream, but passes it on
	Last        bool   // it feeds none
	// At which item, from 1, it ends in a way of its own; 0: never.
	At  int
	How streamEndHow
	// Of its reading.
	maxDemand int
	manual    bool
}

type streamEndHow string

const (
	stopHere streamEndHow = "stop"
	failHere streamEndHow = "fail"
	exitHere streamEndHow = "exit"
)

// errEnough ends a loop over items well.
var errEnough = errors.New("enough")

// streamStage does as its configuration says.
func streamStage(ctx context.Context, s *worker.State) error {
	p, err := worker.Get[streamStep](s, "configuration")
	if err != nil || p.Pass {
		return err
	}
	items := p.items
	if p.Index > 0 {
		r, err := s.OpenStream(ctx, "items")
		if err != nil {
			return err
		}
		items = func(yield func([]byte) error) error {
			for item, err := range r.All() {
				if err == nil {
					err = yield(item.Bytes)
				}
				if err != nil {
					return err
				}
			}
			return nil
		}
	}
	var sum, count uint32
	emit := func(number uint32, _ []byte) error {
		sum = mix(sum, number)
		count++
		return nil
	}
	if !p.Last {
		w, err := s.Stream(ctx, "items", worker.StreamOptions{Encoding: worker.Raw, Capacity: 64 << 10})
		if err != nil {
			return err
		}
		emit = func(number uint32, item []byte) error {
			b, err := w.Reserve(len(item))
			if err != nil {
				return err
			}
			copy(b, item)
			binary.LittleEndian.PutUint32(b, number)
			return w.Commit(len(item))
		}
	}
	n := 0
	err = items(func(item []byte) error {
		n++
		if err := p.fault(n); err != nil {
			return err
		}
		number, err := p.number(ctx, s, n, item)
		if err != nil || p.Index > 0 && p.Keep > 0 && number%p.Keep == 0 {
			return err
		}
		return emit(number, item)
	})
	switch {
	case errors.Is(err, errEnough), errors.Is(err, worker.ErrReaderDone):
		err = nil
	case err != nil:
		return err
	}
	if p.Last {
		return errors.Join(s.Set("sum", sum), s.Set("count", count))
	}
	return nil
}

// items are those of the first step.
func (p *streamStep) items(yield func([]byte) error) error {
	item := []byte(strings.Repeat("x", p.Size))
	for i := range p.Items {
		binary.LittleEndian.PutUint32(item, uint32(i))
		if err := yield(item); err != nil {
			return err
		}
	}
	return nil
}

func (p *streamStep) fault(n int) error {
	if n != p.At {
		return nil
	}
	switch p.How {
	case failHere:
		return errors.New("as it should")
	case exitHere:
		os.Exit(7)
	}
	return errEnough
}

// number is an item's, which a step that is called may change.
func (p *streamStep) number(ctx context.Context, s *worker.State, n int, item []byte) (uint32, error) {
	if strings.Trim(string(item[4:]), "x") != "" {
		return 0, errors.New("the item is not what was written")
	}
	number := binary.LittleEndian.Uint32(item)
	if p.Calls == 0 || n%p.Calls != 0 {
		return number, nil
	}
	arg := s.New()
	if err := arg.Set("n", number); err != nil {
		return 0, err
	}
	reply, err := worker.Call(ctx, "answer", arg, worker.CallOptions{})
	if err != nil {
		return 0, err
	}
	defer reply.Close()
	return worker.Get[uint32](reply.State(), "n")
}

func answer(_ context.Context, s *worker.State) error {
	n, err := worker.Get[uint32](s, "n")
	if err != nil {
		return err
	}
	return s.Set("n", answerTo(n))
}

func answerTo(n uint32) uint32 { return mix(n, 77) }

// expected plays the line with nothing at once.
func (w *streamWorld) expected() (sum, count uint32, status Status) {
	var items []uint32
	for i := range w.Stages[0].Items {
		items = append(items, uint32(i))
	}
	for _, p := range w.Stages {
		if p.Pass {
			continue
		}
		var out []uint32
	reading:
		for i, number := range items {
			if n := i + 1; n == p.At {
				switch p.How {
				case failHere:
					return 0, 0, StatusFail
				case exitHere:
					return 0, 0, StatusCrash
				}
				break reading
			} else if p.Calls > 0 && n%p.Calls == 0 {
				number = answerTo(number)
			}
			if p.Index == 0 || p.Keep == 0 || number%p.Keep != 0 {
				out = append(out, number)
			}
		}
		items = out
	}
	for _, number := range items {
		sum = mix(sum, number)
		count++
	}
	return sum, count, StatusSuccess
}

func drawStreamWorld(t *rapid.T, slots []int) streamWorld {
	number := func(label string, low, high int) int { return rapid.IntRange(low, high).Draw(t, label) }
	w := streamWorld{Slots: rapid.SampledFrom(slots).Draw(t, "slots"), Concurrency: number("concurrency", 0, 2)}
	steps := number("steps", 2, 4)
	for i := range steps {
		p := streamStep{Index: i, Last: i == steps-1, maxDemand: number("demand", 1, 40), manual: rapid.Bool().Draw(t, "manual")}
		if i == 0 {
			p.Items, p.Size = number("items", 0, 300), number("size", 4, 3000)
		} else {
			p.Keep = uint32(number("keep", 0, 4))
			p.Pass = !p.Last && number("pass?", 0, 3) == 0
		}
		if rapid.Bool().Draw(t, "calls") {
			p.Calls = number("each", 10, 60)
		}
		w.Stages = append(w.Stages, p)
	}
	// One of them ends in its own way: who fails first would depend on time.
	if which := number("who ends", -1, steps-1); which >= 0 {
		p := &w.Stages[which]
		p.At = number("at", 1, 100)
		p.How = rapid.SampledFrom([]streamEndHow{stopHere, stopHere, failHere, failHere, exitHere}).Draw(t, "how")
	}
	if number("cancel?", 0, 5) == 0 {
		w.cancelAt = number("cancelAt", 1, steps)
	}
	return w
}

func (w *streamWorld) text() string {
	var text strings.Builder
	if w.Concurrency > 0 {
		fmt.Fprintf(&text, "options: {concurrency: %d}\n", w.Concurrency)
	}
	fmt.Fprintln(&text, "steps:")
	for i, p := range w.Stages {
		fmt.Fprintf(&text, "  - id: s%d\n    configuration: {Index: %d, Items: %d, Size: %d, Keep: %d, Calls: %d, Pass: %v, Last: %v, At: %d, How: %q}\n    @stage\n    max_demand: %d\n",
			i, p.Index, p.Items, p.Size, p.Keep, p.Calls, p.Pass, p.Last, p.At, p.How, p.maxDemand)
		if p.manual {
			fmt.Fprintln(&text, "    demand: manual")
		}
		if !p.Last {
			fmt.Fprintf(&text, "    next: {s%d: true, answer: false}\n", i+1)
		}
	}
	fmt.Fprintln(&text, "  - id: answer\n    @answer\n    concurrency: 1")
	return text.String()
}

// Whatever lines of steps stream to each other, call meanwhile, and end with, at
// any number of slots: what comes of it is what the model says, no item is lost
// or doubled, none waits for ever, and nothing is held in the end.
func TestRandomStreams(t *testing.T) {
	engines := make(map[int]*Engine)
	for slots := 1; slots <= 3; slots++ {
		engines[slots] = newEngine(t, Options{MaxExecutors: slots, GracePeriod: time.Minute})
	}
	checkWorlds(t, 60, 3000, func(rt *rapid.T) {
		w := drawStreamWorld(rt, []int{1, 2, 3})
		if err := w.play(t.Context(), engines[w.Slots]); err != nil {
			rt.Fatalf("%v\n%s", err, w.text())
		}
	})
}

func (w *streamWorld) play(ctx context.Context, e *Engine) error {
	sum, count, status := w.expected()
	p, err := parseFlow(w.text())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var started atomic.Int64
	r, err := e.Submit(ctx, p, FromBytes([]byte(`{"head":1}`)), RunOptions{Observe: func(ev Event) {
		if ev.Type == EventStepStart && ev.Step != "answer" && started.Add(1) == int64(w.cancelAt) {
			cancel()
		}
	}})
	if err != nil {
		return err
	}
	got, err := endOf(ctx, e, r)
	switch {
	case err != nil:
		return err
	case got.Status == StatusCancel && w.cancelAt > 0:
		return nil
	case got.Status != status:
		return fmt.Errorf("it ended %s (%v), want %s", got.Status, got.Err, status)
	}
	if want := fmt.Sprintf(`"sum":%d,"count":%d}`, sum, count); status == StatusSuccess && !strings.HasSuffix(got.document, want) {
		return fmt.Errorf("it ended with %s, want %s", got.document, want)
	}
	return nil
}

// Steps of a line that stream to each other are killed at random.
func TestKilledStreams(t *testing.T) {
	rounds := 15
	if soak() {
		rounds = 1000
	}
	e := newEngine(t, Options{MaxExecutors: 4})
	p := flow(t, `
steps:
  - {id: s0, worker: [/proc/self/exe], function: stage, configuration: {Index: 0, Items: 100000000, Size: 500}, next: s1}
  - {id: s1, worker: [/proc/self/exe], function: stage, configuration: {Index: 1, Keep: 3}, next: s2}
  - {id: s2, worker: [/proc/self/exe], function: stage, configuration: {Index: 2, Calls: 1000, Last: true}, next: {answer: false}}
  - {id: answer, worker: [/proc/self/exe], function: answer}
`)
	for round := range rounds {
		var all sync.WaitGroup
		ready := make(chan struct{})
		r, err := e.Submit(t.Context(), p, FromBytes([]byte(`{}`)), RunOptions{Observe: func(ev Event) {
			if ev.Type == EventStepStart && ev.Step == "s2" {
				close(ready)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			select {
			case <-ready:
			case <-r.Done(): // an executor that was killed in the last round was given to it
				return
			}
			time.Sleep(time.Duration(round%7) * time.Millisecond)
			pids := e.pool.PIDs()
			for i := range pids { // one that is at work ends the run; another may be idle
				_ = syscall.Kill(pids[(round+i)%len(pids)], syscall.SIGKILL)
				time.Sleep(time.Millisecond)
			}
		})
		got, err := endOf(t.Context(), e, r)
		all.Wait()
		if err != nil {
			t.Fatal(err)
		}
		if got.Status != StatusCrash {
			t.Fatalf("round %d: it ended %s: %v", round, got.Status, got.Err)
		}
	}
}
