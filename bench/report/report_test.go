package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/bench"
	"github.com/millrace/millrace/bench/measure"
)

var update = flag.Bool("update", false, "write the golden files anew")

// example is a made-up result with every feature: all roles, a case that is
// missing at a size, a case without spread, notes.
func example() *bench.Result {
	r := &bench.Result{
		Elapsed: 83 * time.Second, Data: "example records", Sizes: []int{1 << 10, 1 << 20, 64 << 20},
		Machine: bench.Machine{CPU: "Example CPU", Cores: 2, MemoryBytes: 24 << 30, Kernel: "6.18.0", Go: "go1.26"},
		Cases: []bench.Info{
			{Name: "pipe-json", Title: "pipes, JSON", Role: bench.Baseline},
			{Name: "pipe-raw", Title: "pipes, raw bytes", Role: bench.Peer},
			{Name: "unix-raw", Title: "Unix socket, raw bytes", Role: bench.Peer},
			{Name: "rewritten", Title: "subject, rewritten <&>", Role: bench.Subject, Work: bench.Rewrite},
			{Name: "untouched", Title: "subject, untouched", Role: bench.Subject},
		},
		RoundTrips: []bench.RoundTrip{
			{Info: bench.Info{Title: "Unix socket", Role: bench.Baseline}, Busy: around(14.5e3), Idle: around(54e3), Pause: 2 * time.Millisecond},
			{Info: bench.Info{Title: "subject", Role: bench.Subject}, Busy: around(2e3), Idle: around(60e3), Pause: 2 * time.Millisecond, Resting: 0.0012},
		},
		Figures: []bench.Figure{
			{Title: "hand-over", Spread: around(25e3), Unit: bench.Nanoseconds, Limit: 20e3},
			{Title: "steps", Spread: around(14e4), Unit: bench.PerSecond, Limit: 5000, AtLeast: true},
			{Title: "memory", Spread: measure.Spread{Median: 3 << 20}, Unit: bench.Bytes},
			{Title: "CPU", Spread: measure.Spread{Median: 0.001}, Unit: bench.Cores, Limit: 0.005},
		},
		Notes: []string{"something left out"},
	}
	perByte := map[string]float64{"pipe-json": 70, "pipe-raw": 1.6, "unix-raw": 0.9, "rewritten": 0.5}
	for _, c := range r.Cases {
		for _, size := range r.Sizes {
			if c.Name == "unix-raw" && size == 64<<20 {
				continue
			}
			wall := 30e3 + perByte[c.Name]*float64(size)
			r.Points = append(r.Points, bench.Point{
				Case: c.Name, Size: size, Runs: 1234, Wall: around(wall), Handover: around(wall / 3), CPU: around(wall * 1.1),
				PeakBytes: int64(8<<20 + 4*size), Mallocs: 12, AllocBytes: 4096,
			})
		}
	}
	return r
}

func around(v float64) measure.Spread { return measure.Spread{Median: v, P10: v * 0.8, P90: v * 1.5} }

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs; if that is meant, run with -update (-want +got):\n%s", path, diff)
	}
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	if err := Table(&b, example()); err != nil {
		t.Fatal(err)
	}
	golden(t, "table.txt", b.Bytes())
}

func TestPlots(t *testing.T) {
	plots := Plots(example())
	if len(plots) != 3 {
		t.Fatalf("Plots() gave %d pictures, want 3", len(plots))
	}
	for _, p := range plots {
		golden(t, p.Name, p.SVG)
		wellFormed(t, p)
		for _, label := range []string{"subject, rewritten &lt;&amp;&gt;", "pipes, JSON", "64 MB"} {
			if !strings.Contains(string(p.SVG), label) {
				t.Errorf("%s lacks %q", p.Name, label)
			}
		}
	}
}

func wellFormed(t *testing.T, p Plot) {
	t.Helper()
	for dec := xml.NewDecoder(bytes.NewReader(p.SVG)); ; {
		if _, err := dec.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("%s is not well-formed: %v", p.Name, err)
		}
	}
}

func TestLabelsKeepApartAndInside(t *testing.T) {
	c := chart{xFormat: formatBytes, yFormat: duration}
	for range 8 { // all ending at one point, at the bottom of the scale
		c.series = append(c.series, series{label: "same", class: "p1", points: []dot{{x: 1, y: 10}, {x: 2, y: 10}}})
	}
	var at []float64
	dec := xml.NewDecoder(bytes.NewReader(c.render()))
	for {
		token, err := dec.Token()
		if err != nil {
			break
		}
		e, ok := token.(xml.StartElement)
		if !ok || e.Name.Local != "text" || attr(e, "class") != "label p1" {
			continue
		}
		var y float64
		if err := json.Unmarshal([]byte(attr(e, "y")), &y); err != nil {
			t.Fatal(err)
		}
		at = append(at, y)
	}
	if len(at) != 8 {
		t.Fatalf("%d labels, want 8", len(at))
	}
	for i, y := range at {
		if y < top || y > height-bottom+5 {
			t.Errorf("label %d at %g is outside the chart", i, y)
		}
		if i > 0 && y-at[i-1] < labelGap-0.5 {
			t.Errorf("labels %d and %d are %g apart, want %d", i-1, i, y-at[i-1], labelGap)
		}
	}
}

func attr(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

func TestNothingToShow(t *testing.T) {
	if plots := Plots(&bench.Result{}); len(plots) != 0 {
		t.Errorf("Plots() of nothing gave %d pictures", len(plots))
	}
	if err := Table(io.Discard, &bench.Result{}); err != nil {
		t.Error(err)
	}
}

func TestFilesCanBeReadBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	want := example()
	if err := Files(dir, want); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "results.json"))
	if err != nil {
		t.Fatal(err)
	}
	got := new(bench.Result)
	if err := json.Unmarshal(text, got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("results.json (-want +got):\n%s", diff)
	}
	for _, name := range []string{"results.txt", "wall.svg", "handover.svg", "memory.svg"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestNumbers(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{duration(0), "–"}, {duration(7), "7 ns"}, {duration(999.6), "1 µs"}, {duration(14_512), "14.5 µs"},
		{duration(999_600), "1 ms"}, {duration(123_456_789), "123 ms"}, {duration(4.7e9), "4.7 s"}, {duration(75e9), "75 s"},
		{spread(1e6, 2.5e6), "1–2.5 ms"}, {spread(800e3, 1.2e6), "800 µs–1.2 ms"}, {spread(0, 0), "–"},
		{ratio(10, 5), "2×"}, {ratio(1, 30), "0.033×"}, {ratio(0, 5), "–"}, {ratio(1000, 1), "1000×"}, {ratio(156_588, 1), "157k×"},
		{count(0.4), "0"}, {count(9_999), "9999"}, {count(14_800), "14.8k"}, {count(3_200_000), "3.2M"},
		{size(110), "110 B"}, {size(10_900), "10.6 KB"}, {size(25 << 20), "25 MB"}, {size(2867 << 20), "2.8 GB"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}
