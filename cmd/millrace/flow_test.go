package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// TestFlows has the steps of testdata/flow call each other through the engine,
// in each language to the same effect: pages by each in the order of arrival, a
// thousand of them made one array by reference, pieces compressed under keys of
// their own, errors caught, collected and ending, calls that nest, results that
// are passed on, and a forward.
func TestFlows(t *testing.T) {
	steps := absolute(t, "testdata/flow")
	for _, language := range []struct {
		name, step string
		needs      func(*testing.T)
	}{
		{"Python", "python: " + steps + "/steps.py", func(t *testing.T) { needs(t, "python3") }},
		{"Node.js", "worker: [node, " + steps + "/steps.mjs]", needsNode},
	} {
		t.Run(language.name, func(t *testing.T) {
			language.needs(t)
			testFlow(t, language.step)
		})
	}
}

// TestJobsCall has jobs call each other: what functions get with their context
// is there by name.
func TestJobsCall(t *testing.T) {
	needsNode(t)
	flow := file(t, "flow.yaml", `
steps:
  - id: start
    expression: |
      export default [
        async (state) => {
          for await (const page of each(state.pages, 'double', { concurrency: 2, until: 'leaf' })) append(state, 'all', page.state.data);
          const { data } = await call('double', { data: [21] });
          return { ...state, data };
        },
        ({ all, data }) => forward('last', { all, data, head: 'new' }),
      ];
  - id: double
    expression: "export default [(state) => ({ data: state.data.map((n) => 2 * n) })];"
    next: more
  - id: more
    expression: "export default [(state) => ({ data: state.data.map((n) => n + 1) })];"
  - id: last
    expression: "export default [({ all, data, head }) => ({ all: all.sort((a, b) => a - b), data, head })];"
`)
	cmd := start(t, "run", flow, "-i", "pages="+file(t, "pages.json", `[[1, 2], [3], [4, 5]]`), "-o", "-")
	cmd.Env = append(os.Environ(), libraries(t)...)
	got := finish(t, cmd, "")
	const want = `{"all":[3,5,7,9,11],"data":[42],"head":"new"}`
	if got.code != exitOK || strings.TrimSpace(got.stdout) != want {
		t.Errorf("exit %d with %s, want %s: %s", got.code, got.stdout, want, got.err)
	}
}

// flowPages is how many pages become one array, and flowItems how many items
// each has.
const flowPages, flowItems = 1000, 1000

func testFlow(t *testing.T, step string) {
	dir := t.TempDir()
	write := writer(t, dir)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	fmt.Fprintln(&text, "options: {max_iterations: 100}\nsteps:")
	for _, id := range []string{"main", "aggregate", "page", "late", "odd", "fails", "sizes", "nests", "shard"} {
		fmt.Fprintf(&text, "  - {id: %s, %s, function: %s, concurrency: 3", id, step, id)
		switch id {
		case "main":
			fmt.Fprint(&text, ", next: {aggregate: true}") // never taken: it forwards
		case "shard":
			fmt.Fprint(&text, ", next: pack")
		}
		fmt.Fprintln(&text, "}")
	}
	fmt.Fprintf(&text, "  - {id: pack, worker: [%q], function: pack}\n", self)
	flow := write("flow.yaml", text.String())
	big := write("big.json", `["`+strings.Repeat("9", 300_000)+`"]`)
	config := write("config.json", fmt.Sprintf(`{"gate": %q, "pages": %d, "items": %d}`, filepath.Join(dir, "gate"), flowPages, flowItems))
	out, stats := filepath.Join(dir, "out.json"), filepath.Join(dir, "stats.json")
	cmd := start(t, "run", flow, "-i", "big="+big, "-i", "given="+config, "-o", out, "--stats", stats)
	cmd.Env = append(append(os.Environ(), asWorker+"=1"), libraries(t)...)
	if got := finish(t, cmd, ""); got.code != exitOK {
		t.Fatalf("exit %d: %s", got.code, got.err)
	}
	checkFlow(t, out)
	checkFlowStats(t, stats)
}

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func checkFlow(t *testing.T, out string) {
	type packed struct{ Encoding, Base64 string }
	var state struct {
		Order, Late    []int
		First, Collect []string
		Error          []string
		Sizes          []int
		Nested         int
		Big            json.RawMessage
		Head           string
		All            []int
		Shard0         json.RawMessage `json:"shard-0"`
		Shard1         json.RawMessage `json:"shard-1"`
		Shard2         json.RawMessage `json:"shard-2"`
	}
	readJSON(t, out, &state)
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"order of arrival", state.Order, []int{1, 2, 0}},
		{"results at the first error", state.First, []string{"0", "CallError odd"}},
		{"results and errors", state.Collect, []string{"0", "1 CallError odd", "2", "3 CallError odd", "4"}},
		{"error", state.Error, []string{"JobError", "fail", "fails"}},
		{"sizes", state.Sizes, []int{300_004, 7}},
		{"nested calls", state.Nested, 10},
		{"head", state.Head, "new"},
		{"untouched key", len(state.Big), 300_004},
		{"items", len(state.All), flowPages * flowItems},
	} {
		if fmt.Sprint(c.got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v, want %v", c.what, c.got, c.want)
		}
	}
	seen := make(map[int]bool)
	for i, n := range state.All {
		if seen[n] || n < 0 || n >= flowPages*flowItems || i%flowItems > 0 && n != state.All[i-1]+1 {
			t.Fatalf("item %d of the array is %d", i, n)
		}
		seen[n] = true
	}
	decoder, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer decoder.Close()
	for i, shard := range []json.RawMessage{state.Shard0, state.Shard1, state.Shard2} {
		var p packed
		err := json.Unmarshal(bytes.ReplaceAll(shard, []byte("@encoding"), []byte("encoding")), &p)
		if err != nil || p.Encoding != "raw" {
			t.Fatalf("shard %d is %.60s: %v", i, shard, err)
		}
		frame, err := base64.StdEncoding.DecodeString(p.Base64)
		if err != nil {
			t.Fatal(err)
		}
		text, err := decoder.DecodeAll(frame, nil)
		var items []string
		if err == nil {
			err = json.Unmarshal(text, &items)
		}
		if err != nil || len(items) != 1000 || items[999] != fmt.Sprintf("shard %d", i) {
			t.Errorf("shard %d holds %.60s: %v", i, text, err)
		}
	}
}

// checkFlowStats checks that the step which made the array wrote next to nothing
// of it.
func checkFlowStats(t *testing.T, path string) {
	var stats struct {
		Steps []struct {
			ID       string
			Output   uint64 `json:"output_bytes"`
			Reused   uint64 `json:"reused_bytes"`
			Decoded  uint64 `json:"decoded_bytes"`
			Encoded  uint64 `json:"encoded_bytes"`
			Attempts int
		}
	}
	readJSON(t, path, &stats)
	count := make(map[string]int)
	for _, s := range stats.Steps {
		count[s.ID]++
		if s.ID != "aggregate" {
			continue
		}
		if s.Output < 5_000_000 || s.Output-s.Reused > 100_000 || s.Encoded > 100_000 || s.Decoded > 100_000 {
			t.Errorf("the array of the pages was not made by reference: %+v", s)
		}
	}
	if count["page"] != flowPages || count["aggregate"] != 1 || count["pack"] != 3 || count["nests"] != 5 {
		t.Errorf("steps were executed so often: %v", count)
	}
}
