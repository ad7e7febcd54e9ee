package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// task is one workload: a plan for both runtimes and the state it starts with.
type task struct {
	name  string
	plan  string // path of an execution plan, JSON
	state string // path of the state, JSON
	big   bool   // every step changes the big key
}

// touch reads and writes one small key. change writes into the big one as well,
// so that it is decoded and encoded by every step.
const (
	touch  = `state.small = { n: state.small.n + 1 };`
	change = touch + ` state.data[state.data.length >> 1].changed = state.small.n;`
)

// job stamps its begin and end inside of the user's code.
func job(work string) string {
	return "import { now } from 'millrace-bench-stamp';\nexport default [(state) => {\n  const begin = now();\n  " + work +
		"\n  state.stamps = [...state.stamps, [begin, now()]];\n  return state;\n}];"
}

// planOf is a line of n steps that run the same job.
func planOf(work string, n int, stamp string) map[string]any {
	steps := make([]any, n)
	for i := range steps {
		step := map[string]any{
			"id": fmt.Sprintf("s%d", i), "expression": job(work),
			"adaptors": []string{"millrace-bench-stamp"},
			"linker":   map[string]any{"millrace-bench-stamp": map[string]any{"path": stamp}},
		}
		if i+1 < n {
			step["next"] = map[string]any{fmt.Sprintf("s%d", i+1): true}
		}
		steps[i] = step
	}
	return map[string]any{"workflow": map[string]any{"steps": steps}, "options": map[string]any{}}
}

func writePlan(dir, name string, plan map[string]any) (string, error) {
	b, err := json.Marshal(plan)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name+".json")
	return path, os.WriteFile(path, b, 0o600)
}

// writeState writes a state whose data is a list of records of about size bytes.
func writeState(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	var n int64
	put := func(format string, args ...any) {
		k, _ := fmt.Fprintf(w, format, args...) // Flush reports its error
		n += int64(k)
	}
	put(`{"small":{"n":0},"stamps":[],"data":[`)
	for i := 0; n < size; i++ {
		if i > 0 {
			put(",")
		}
		put(`{"id":%d,"name":"Patient %d","born":"19%02d-%02d-%02d","active":%t,"weight":%d.%d,"visits":[{"clinic":"north-%d","code":"A%d"},{"clinic":"süd-%d","code":"B%d"}],"note":"seen by the nurse, no further action; call again in %d days"}`,
			i, i, i%100, i%12+1, i%28+1, i%3 == 0, 40+i%60, i%10, i%17, i%900, i%13, i%700, i%90)
	}
	put("]}")
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}
