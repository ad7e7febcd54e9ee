package main

import (
	"encoding/json"
	"errors"
	"fmt"
)

const (
	linesASecond = 10_000
	// slice is how many lines, or pieces of work without one, are timed together.
	slice = linesASecond / 2
)

// logging works in slices of half a second, in turns without and with a log line
// after each tenth of a millisecond, and leaves how long each took. Turns within
// one step see the same machine, however busy it is.
const logging = `
const piece = (turns) => { for (let k = 0; k < turns; k++) x = (x * 48271) %% 2147483647; };
let x = 1;
for (let i = 0; i < 2000; i++) piece(1000);
const begin = Date.now();
for (let i = 0; i < 2000; i++) piece(10000);
const turns = Math.round(10000 * 200 / (Date.now() - begin));
const slice = (log) => {
  const begin = Date.now();
  for (let i = 0; i < %d; i++) { piece(turns); if (log) console.log('line', i, 'of a job that tells what it does'); }
  return Date.now() - begin;
};
slice(true);
state.slices = [];
for (let i = 0; i < %d; i++) {
  state.slices.push([slice(false), slice(true)]);
}
state.x = x`

// logs measures by how much 10,000 lines a second slow the step that logs them.
func (b *suite) logs() error {
	for _, batch := range []bool{true, false} {
		slices := b.pick(20, 6)
		if !batch {
			slices /= 5 // the server's acknowledgements set the pace
		}
		quiet, loud, err := b.logging(slices, batch)
		if err != nil {
			return err
		}
		name := "half a second's work, against the same without lines"
		if batch {
			name += ", --batch-logs"
		}
		row := b.report.add(fmt.Sprintf("A step that logs %d lines a second", linesASecond), name, inTime, loud).against(loud, quiet)
		if batch {
			row.atMost(1.1)
		}
	}
	return nil
}

func (b *suite) logging(slices int, batch bool) (quiet, loud []float64, err error) {
	s, err := b.serve(serverSpec{Keep: true}, fmt.Sprintf("WORKER_BATCH_LOGS=%t", batch))
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	run, err := lineOf([]byte(`{}`), nil, fmt.Sprintf(logging, slice, slices))
	if err != nil {
		return nil, nil, err
	}
	r, err := s.run(run)
	if err != nil {
		return nil, nil, err
	}
	if want := (slices + 1) * slice; r.LogLines < want {
		return nil, nil, fmt.Errorf("%d lines of %d arrived", r.LogLines, want)
	}
	var text json.RawMessage
	if err := s.call("final", r.ID, &text); err != nil {
		return nil, nil, err
	}
	var state struct{ Slices [][2]float64 }
	if err := json.Unmarshal(text, &state); err != nil {
		return nil, nil, err
	}
	for _, pair := range state.Slices {
		quiet, loud = append(quiet, pair[0]*1e6), append(loud, pair[1]*1e6)
	}
	return quiet, loud, nil
}
