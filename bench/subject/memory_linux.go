package subject

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"

	"github.com/millrace/millrace/bench"
	"github.com/millrace/millrace/bench/measure"
	"github.com/millrace/millrace/bench/workload"
	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/engine/plan"
)

// gigabyte is the state that passes through the supervisor.
const gigabyte = 1 << 30

func ownPID() int { return os.Getpid() }

// measureMemory passes a state of 1 GB through this process in both ways there
// are: as a JSON document from a reader through three steps to a writer, and as
// a key that a step wrote. The peak is the kernel's, not a sampled one.
func measureMemory(ctx context.Context, eng *engine.Engine, _ bool) (r reading, err error) {
	if free, err := measure.Available(); err == nil && free < 3*gigabyte {
		r.Notes = []string{fmt.Sprintf("the supervisor's memory at 1 GB left out: %d MB are available", free>>20)}
		return r, nil
	}
	through, err := chainPlan(&workload.Payload{}, stage{"1", fnEmpty}, stage{"2", fnEmpty}, stage{"3", fnEmpty})
	if err != nil {
		return r, err
	}
	made, err := casePlan(&workload.Payload{DataLength: gigabyte}, fnBlank, fnEmpty)
	if err != nil {
		return r, err
	}
	// The same on a small scale first: what stays after that is idle size.
	for _, c := range []struct {
		title string
		pass  func(size int) error
	}{
		{"supervisor above idle, 1 GB of JSON in and out", func(size int) error {
			return pass(ctx, eng, through, engine.FromReader(newDocument(size)))
		}},
		{"supervisor above idle, 1 GB key of a step", func(int) error {
			return pass(ctx, eng, made, engine.EmptyInput())
		}},
	} {
		if err := pass(ctx, eng, through, engine.FromReader(newDocument(1<<20))); err != nil {
			return r, err
		}
		debug.FreeOSMemory()
		if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil { // VmHWM starts anew
			return r, err
		}
		idle, err := ownStatus("VmRSS:")
		if err != nil {
			return r, err
		}
		if err := c.pass(gigabyte); err != nil {
			return r, err
		}
		peak, err := ownStatus("VmHWM:")
		if err != nil {
			return r, err
		}
		r.Figures = append(r.Figures, bench.Figure{
			Title: c.title, Spread: measure.Spread{Median: float64(peak - idle)}, Unit: bench.Bytes, Limit: 30 << 20,
		})
	}
	return r, nil
}

// pass runs a plan and reads all of its final state as a host would send it.
func pass(ctx context.Context, eng *engine.Engine, p *plan.Plan, input engine.Input) error {
	run, err := eng.Submit(ctx, p, input, engine.RunOptions{})
	if err != nil {
		return err
	}
	defer run.Close()
	result, err := run.Wait(ctx)
	if err != nil {
		return err
	}
	if result.Err != nil {
		return result.Err
	}
	return result.WriteKey(io.Discard, keyData)
}

// ownStatus reads a size from this process's status, bytes.
func ownStatus(name string) (int64, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(text) {
		if fields := bytes.Fields(line); len(fields) > 1 && string(fields[0]) == name {
			kb, err := strconv.ParseInt(string(fields[1]), 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("no %s in /proc/self/status", name)
}

// newDocument returns a reader of {"data":[…]} of about size bytes, made as it
// is read.
func newDocument(size int) io.Reader {
	const record = `{"delay":14,"distance":405,"time":8.333333},`
	return io.MultiReader(bytes.NewReader([]byte(`{"data":[`)),
		&repeat{text: []byte(record), left: size / len(record)}, bytes.NewReader([]byte(`0]}`)))
}

// repeat reads as text, again and again.
type repeat struct {
	text []byte
	at   int
	left int // times to go
}

func (r *repeat) Read(p []byte) (n int, err error) {
	for n < len(p) && r.left > 0 {
		c := copy(p[n:], r.text[r.at:])
		n += c
		if r.at += c; r.at == len(r.text) {
			r.at = 0
			r.left--
		}
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}
