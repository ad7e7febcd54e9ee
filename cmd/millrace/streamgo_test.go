package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/worker"
)

// item is one of the streams' of streamflow_test.go.
type item struct {
	I    int    `json:"i"`
	Text string `json:"text"`
}

func init() {
	testFunctions["make"] = func(ctx context.Context, s *worker.State) error {
		n, err := worker.Get[int](s, "n")
		if err != nil {
			return err
		}
		if err := s.Set("head", 1); err != nil {
			return err
		}
		w, err := s.Stream(ctx, "items", worker.StreamOptions{Capacity: 1 << 16})
		for i := 0; i < n && err == nil; i++ {
			err = w.Encode(item{i, strings.Repeat("x", 200)})
		}
		return err
	}
	testFunctions["total"] = func(ctx context.Context, s *worker.State) error {
		r, err := s.OpenStream(ctx, "items")
		if err != nil {
			return err
		}
		sum := 0
		for item, err := range worker.Items[item](r) {
			if err != nil {
				return err
			}
			sum += item.I
		}
		return s.Set("sum", sum)
	}
	testFunctions["first"] = func(ctx context.Context, s *worker.State) error {
		r, err := s.OpenStream(ctx, "items")
		if err != nil {
			return err
		}
		for item, err := range worker.Items[item](r) {
			return errors.Join(err, s.Set("first", item.I))
		}
		return errors.New("there is no item")
	}
	testFunctions["fails at once"] = func(ctx context.Context, s *worker.State) error {
		_, err := s.OpenStream(ctx, "items")
		return errors.Join(err, &worker.Error{Name: "TooMuch", Message: "it is too much"})
	}
	// pages has each batch of a source counted by another step.
	testFunctions["pages"] = func(ctx context.Context, s *worker.State) error {
		r, err := s.OpenStream(ctx, "batches")
		if err != nil {
			return err
		}
		var records, sum int
		for reply, err := range worker.EachStream(ctx, s, "page", r, worker.EachOptions{Concurrency: 3}) {
			if err != nil {
				return err
			}
			n, nerr := worker.Get[int](reply.State(), "records")
			add, aerr := worker.Get[int](reply.State(), "sum")
			if err := errors.Join(nerr, aerr); err != nil {
				return err
			}
			records, sum = records+n, sum+add
		}
		return errors.Join(s.Set("records", records), s.Set("sum", sum))
	}
	testFunctions["page"] = func(_ context.Context, s *worker.State) error {
		records, err := worker.Get[[]item](s, "data")
		if err != nil {
			return err
		}
		sum := 0
		for _, r := range records {
			sum += r.I
		}
		return errors.Join(s.Clear(), s.Set("records", len(records)), s.Set("sum", sum))
	}
}

// goStep is the work of a step in Go, a function of this binary's.
func goStep(t *testing.T, function string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("worker: [%q], function: %s", self, function)
}

func TestStreamsOfGoEnd(t *testing.T) {
	run := streamFlow(t)
	flow := func(reader string) string {
		return fmt.Sprintf("steps:\n  - {id: make, %s, next: reads}\n  - {id: reads, %s}\n", goStep(t, "make"), goStep(t, reader))
	}
	got, out := run(flow("first"), `{"n": 1000000}`)
	if got.code != exitOK || out != `{"n":1000000,"head":1,"first":0}` || !strings.Contains(got.err, "✓ make") {
		t.Errorf("the reader wants no more: exit %d: %s\n%s", got.code, out, got.err)
	}
	got, _ = run(flow("fails at once"), `{"n": 1000000}`)
	if got.code != exitFailed || !strings.Contains(got.err, "✗ reads fail: TooMuch: it is too much") || !strings.Contains(got.err, `step "reads", which reads the stream, failed`) {
		t.Errorf("the reader fails: exit %d\n%s", got.code, got.err)
	}
	got, _ = run(fmt.Sprintf("steps:\n  - {id: make, python: steps.py, function: make, next: reads}\n  - {id: reads, %s}\n", goStep(t, "total")), `{"n": 1000, "fails_at": 300}`)
	if got.code != exitFailed || !strings.Contains(got.err, "✗ make fail: JobError: ValueError: no item 300") {
		t.Errorf("the feeder fails: exit %d\n%s", got.code, got.err)
	}
}

// sourceFile writes n records, one a line.
func sourceFile(t *testing.T, n int) string {
	t.Helper()
	var lines strings.Builder
	for i := range n {
		fmt.Fprintf(&lines, "{\"i\":%d,\"text\":\"x\"}\n", i)
	}
	return file(t, "records.ndjson", lines.String())
}

const pagesJavaScript = `export default [async (state) => {
  let records = 0, sum = 0;
  for await (const page of each(state.batches, 'page', { concurrency: 3 })) { records += page.state.records; sum += page.state.sum; }
  return { records, sum };
}]`

// A source's batches fan out to another step, in each language that can.
func TestSources(t *testing.T) {
	const records = 5000
	run := streamFlow(t)
	path := sourceFile(t, records)
	script := file(t, "pages.js", pagesJavaScript)
	python := file(t, "pages.py", `
def step(state):
    pages = list(state.each(state["batches"], "page", 3))
    return {"records": sum(p["records"] for p in pages), "sum": sum(p["sum"] for p in pages)}
`)
	for language, pages := range map[string]string{"go": goStep(t, "pages"), "javascript": "expression: " + script, "python": "python: " + python} {
		t.Run(language, func(t *testing.T) {
			got, out := run(fmt.Sprintf(`
steps:
  - {id: read, source: {file: %s, batch: 70}, next: pages}
  - {id: pages, %s}
  - {id: page, %s, concurrency: 2}
`, path, pages, goStep(t, "page")), `{}`)
			if got.code != exitOK || out != fmt.Sprintf(`{"records":%d,"sum":%d}`, records, records*(records-1)/2) {
				t.Fatalf("exit %d: %s\n%s", got.code, out, got.err)
			}
			if !strings.Contains(got.err, "read 5000 records in 72 batches") {
				t.Errorf("the log does not say what was read: %s", got.err)
			}
		})
	}
}

func TestSourcesThatFail(t *testing.T) {
	run := streamFlow(t)
	bad := file(t, "bad.ndjson", `{"i":1}`+"\n{\n"+`{"i":2}`+"\n")
	flow := func(source string) string {
		return fmt.Sprintf("steps:\n  - {id: read, source: %s, next: pages}\n  - {id: pages, %s}\n  - {id: page, %s}\n", source, goStep(t, "pages"), goStep(t, "page"))
	}
	for name, c := range map[string]struct {
		source string
		code   int
		want   []string
	}{
		"a record that is none": {fmt.Sprintf("{file: %s, batch: 1}", bad), exitFailed, []string{"SourceError: ", bad + ":2: not a JSON value: ", "(byte 9 of the file)", "✗ pages fail"}},
		"no file":               {filepath.Join(filepath.Dir(bad), "none.csv"), exitFailed, []string{"SourceError: ", "none.csv: there is no such file"}},
		"passed over":           {fmt.Sprintf("{file: %s, on_error: skip}", bad), exitOK, []string{"passed over a record: " + bad + ":2: ", "read 2 records in 1 batches", "passed over 1 records"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := run(flow(c.source), `{}`)
			missing := slices.DeleteFunc(c.want, func(want string) bool { return strings.Contains(got.err, want) })
			if got.code != c.code || len(missing) > 0 {
				t.Errorf("exit %d, the report lacks %q: %s", got.code, missing, got.err)
			}
		})
	}
}
