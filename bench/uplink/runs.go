package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/millrace/millrace/bench/measure"
	"github.com/millrace/millrace/engine/lightning/standin"
)

// What OpenFn's worker took for such a run on the same kind of machine, against
// the same kind of server: it is not on npm, so it cannot be measured here.
const (
	referenceWall   = 3.8e9
	referenceMemory = 325e6
)

// outputBytes is the size of each step's output.
const outputBytes = 9_660_000

// change is what each step does: every one decodes and encodes the whole.
const change = `state.data[state.data.length >> 1].changed = (state.data[state.data.length >> 1].changed || 0) + 1`

// sampleEvery is how often memory is read.
const sampleEvery = 5 * time.Millisecond

// stateOf is a state with records of about size bytes.
func stateOf(size int64) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(`{"data":`)
	if err := writeRecords(&b, size-int64(len(`{"data":}`))); err != nil {
		return nil, err
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// runs measures runs of three JavaScript steps from claim to end.
func (b *suite) runs() error {
	state, err := stateOf(outputBytes)
	if err != nil {
		return err
	}
	run, err := lineOf(state, map[string]any{"payload_limit_mb": 16}, change, change, change)
	if err != nil {
		return err
	}
	base, err := b.hops(state)
	if err != nil {
		return err
	}
	for _, compress := range []bool{false, true} {
		warm, host, all, err := b.warmRuns(run, compress)
		if err != nil {
			return err
		}
		cold, err := b.coldRuns(run, compress)
		if err != nil {
			return err
		}
		section := "Runs of three steps, 9.66 MB each"
		if compress {
			section += ", deflated"
		}
		third := fmt.Sprintf("≤ %s: ⅓ of the reference", show(referenceWall/3, inTime))
		for _, r := range []struct {
			name  string
			walls []float64
		}{{"start to end, warm", warm}, {"start to end, cold", cold}} {
			row := b.report.add(section, r.name, inTime, r.walls)
			base.against(row, r.walls, base.walls)
			row.target(third, row.Value.Median <= referenceWall/3)
		}
		row := b.report.add(section, "host memory, peak", inBytes, host)
		base.against(row, host, base.host)
		row.target("≤ 60 MB; reference 325 MB", row.Value.P90 <= 60e6)
		row = b.report.add(section, "memory of all processes, peak", inBytes, all)
		base.against(row, all, base.all)
	}
	return nil
}

// took is from the event that begins the run to the one that ends it, as the
// server received them.
func took(r *standin.RunRecord) (float64, error) {
	var begin, end time.Time
	for _, e := range r.Events {
		switch e.Event {
		case "run:start":
			begin = e.Time
		case "run:complete":
			end = e.Time
		}
	}
	if begin.IsZero() || end.IsZero() {
		return 0, errors.New("the server has no begin or no end of the run")
	}
	return float64(end.Sub(begin)), nil
}

func (b *suite) warmRuns(run standin.Run, compress bool) (walls, host, all []float64, err error) {
	s, err := b.serve(serverSpec{Compress: compress})
	if err != nil {
		return nil, nil, nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	for round := range b.pick(9, 4) + 1 {
		r, err := s.run(run)
		if err != nil {
			return nil, nil, nil, err
		}
		wall, err := took(r)
		if err != nil {
			return nil, nil, nil, err
		}
		if round > 0 { // the first warms up
			walls = append(walls, wall)
		}
		time.Sleep(settle)
	}
	for range b.pick(3, 1) {
		for pids, peaks := range map[*[]float64]func() []int{&host: s.host, &all: s.all} {
			peak, err := peakOf(peaks, func() error { _, err := s.run(run); return err })
			if err != nil {
				return nil, nil, nil, err
			}
			*pids = append(*pids, peak)
		}
	}
	return walls, host, all, nil
}

// settle is how long a worker has to start its next warm executor.
const settle = 700 * time.Millisecond

func peakOf(pids func() []int, f func() error) (float64, error) {
	s := measure.Sample(pids, sampleEvery)
	err := f()
	peak, _, serr := s.Stop()
	return float64(peak.Total()), errors.Join(err, serr)
}

// coldRuns are the first runs of workers that start no executor ahead.
func (b *suite) coldRuns(run standin.Run, compress bool) (walls []float64, err error) {
	for range b.pick(5, 2) {
		s, err := b.serve(serverSpec{Compress: compress}, "MILLRACE_WARM=0")
		if err != nil {
			return nil, err
		}
		r, err := s.run(run)
		if err = errors.Join(err, s.close()); err != nil {
			return nil, err
		}
		wall, err := took(r)
		if err != nil {
			return nil, err
		}
		walls = append(walls, wall)
	}
	return walls, nil
}

// hops are the figures of the baseline of the same run: the reference's runtime
// in a worker thread of a forked child, and its hops up to the message's text,
// without a websocket.
type hops struct{ walls, host, all []float64 }

// against compares where there is a baseline.
func (h *hops) against(r *row, values, base []float64) {
	if h.walls != nil {
		r.against(values, base)
	}
}

func (b *suite) hops(state []byte) (*hops, error) {
	runtime := filepath.Join(b.root, "engine/differential/node_modules/@openfn/runtime/dist/index.js")
	if _, err := os.Stat(runtime); err != nil {
		log.Print("the baseline of runs is left out: `make bench-uplink` installs it")
		return &hops{}, nil
	}
	var steps []any
	for i := range 3 {
		step := map[string]any{"id": fmt.Sprint("s", i), "expression": "export default [(state) => {" + change + "; return state; }];"}
		if i < 2 {
			step["next"] = map[string]any{fmt.Sprint("s", i+1): true}
		}
		steps = append(steps, step)
	}
	plan, err := json.Marshal(map[string]any{"workflow": map[string]any{"steps": steps}, "options": map[string]any{}})
	if err != nil {
		return nil, err
	}
	planPath, statePath := filepath.Join(b.dir, "plan.json"), filepath.Join(b.dir, "state.json")
	if err := errors.Join(os.WriteFile(planPath, plan, 0o600), os.WriteFile(statePath, state, 0o600)); err != nil {
		return nil, err
	}
	h := &hops{}
	for round := range b.pick(9, 3) {
		cmd := exec.Command("node", "--no-warnings", "--experimental-vm-modules", filepath.Join(b.root, "bench/openfn/peer/host.mjs"), runtime, planPath, statePath)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		peer := &served{worker: cmd}
		wait := func() error {
			if err := cmd.Wait(); err != nil {
				return fmt.Errorf("the baseline: %w\n%s", err, errs.Bytes())
			}
			return nil
		}
		switch { // memory in rounds of its own
		case round%3 == 1:
			peak, err := peakOf(peer.host, wait)
			if err != nil {
				return nil, err
			}
			h.host = append(h.host, peak)
			continue
		case round%3 == 2:
			peak, err := peakOf(peer.all, wait)
			if err != nil {
				return nil, err
			}
			h.all = append(h.all, peak)
			continue
		}
		if err := wait(); err != nil {
			return nil, err
		}
		var f struct{ Submitted, End float64 }
		if err := json.Unmarshal(out.Bytes(), &f); err != nil {
			return nil, err
		}
		h.walls = append(h.walls, f.End-f.Submitted)
	}
	return h, nil
}
