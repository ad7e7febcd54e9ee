package bench

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/bench/measure"
	"github.com/millrace/millrace/bench/workload"
)

// fake is a case without processes of its own: its session runs in the test.
type fake struct {
	info    Info
	each    time.Duration // a run takes this long
	wrong   bool          // it delivers another payload
	startup error
	failsAt int // run that fails, 0 for none
	log     *[]string
	closed  int
}

func (f *fake) Info() Info { return f.info }

func (f *fake) Start(_ context.Context, p *workload.Payload) (Session, error) {
	if f.startup != nil {
		return nil, f.startup
	}
	return &fakeSession{fake: f, payload: p}, nil
}

type fakeSession struct {
	*fake
	payload *workload.Payload
	runs    int
}

func (s *fakeSession) Run(ctx context.Context, n int) ([]RunSample, error) {
	*s.log = append(*s.log, s.info.Name)
	samples := make([]RunSample, n)
	for i := range samples {
		if s.runs++; s.runs == s.failsAt {
			return nil, errors.New("step 2 fell over")
		}
		time.Sleep(s.each)
		samples[i] = RunSample{Wall: s.each, Handovers: [workload.Steps - 1]time.Duration{s.each / 4, s.each / 2}}
	}
	return samples, ctx.Err()
}

func (s *fakeSession) Outcome(context.Context) (workload.Outcome, error) {
	o := s.payload.Rewritten
	if s.info.Work == Forward {
		o = s.payload.Untouched
	}
	if s.wrong {
		o.DataCRC++
	}
	return o, nil
}

func (s *fakeSession) Counters(context.Context) (Counters, error) {
	return Counters{Mallocs: uint64(10 * s.runs), Bytes: uint64(1000 * s.runs)}, nil
}

func (s *fakeSession) PIDs() []int { return []int{os.Getpid()} }

func (s *fakeSession) Close() error { s.closed++; return nil }

// brief is a budget for tests.
func brief(int, bool) budget {
	return budget{warm: 50 * time.Millisecond, timed: 600 * time.Millisecond, rounds: 2}
}

// measured runs the harness over the fakes for one size.
func measured(t *testing.T, fakes ...*fake) (*Result, []string) {
	t.Helper()
	var log []string
	cfg := Config{Sizes: []int{1 << 10}, Records: workload.GenerateRecords(10), budget: brief}
	for _, f := range fakes {
		f.log = &log
		cfg.Cases = append(cfg.Cases, f)
	}
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r, log
}

func TestResultOfTwoCases(t *testing.T) {
	a := &fake{info: Info{Name: "a", Role: Baseline, Work: Rewrite}, each: 3 * time.Millisecond}
	b := &fake{info: Info{Name: "b", Role: Peer, Work: Forward}, each: time.Millisecond}
	r, log := measured(t, a, b)
	if len(r.Notes) > 0 || len(r.Points) != 2 || r.BaselineName() != "a" || r.BestPeer(1<<10).Case != "b" {
		t.Fatalf("result %+v", r)
	}
	p := r.Point("a", 1<<10)
	if got := time.Duration(p.Wall.Median); got != a.each {
		t.Errorf("median %v, want %v", got, a.each)
	}
	if got := time.Duration(p.Handover.Median); got != a.each*3/8 {
		t.Errorf("median of the hand-overs %v, want %v", got, a.each*3/8)
	}
	if p.Mallocs != 10 || p.AllocBytes != 1000 || p.PeakBytes <= 0 || p.CPU.Median <= 0 {
		t.Errorf("point %+v", p)
	}
	// Once warm, the cases take turns: no long stretch of one alone.
	log = log[len(log)/4 : len(log)*3/4]
	if longest(log) > 4 || !slices.Contains(log, "a") || !slices.Contains(log, "b") {
		t.Errorf("turns are not interleaved: %v", log)
	}
	if a.closed != 1 || b.closed != 1 {
		t.Errorf("sessions were closed %d and %d times", a.closed, b.closed)
	}
}

func longest(log []string) (most int) {
	for i, n := 0, 0; i < len(log); i++ {
		if i > 0 && log[i] != log[i-1] {
			n = 0
		}
		n++
		most = max(most, n)
	}
	return most
}

func TestBadCasesAreLeftOutAndNoted(t *testing.T) {
	good := &fake{info: Info{Name: "good", Role: Baseline, Work: Rewrite}, each: time.Millisecond}
	bad := []*fake{
		{info: Info{Name: "1", Title: "liar", Work: Rewrite}, wrong: true},
		{info: Info{Name: "2", Title: "sleeper"}, startup: errors.New("no such program")},
		{info: Info{Name: "3", Title: "faller"}, failsAt: 4, each: time.Millisecond},
	}
	r, _ := measured(t, append([]*fake{good}, bad...)...)
	if len(r.Points) != 1 || r.Points[0].Case != "good" {
		t.Errorf("points %+v, want the good case's only", r.Points)
	}
	notes := strings.Join(r.Notes, "\n")
	for _, want := range []string{"liar left out", "the final state is wrong", "sleeper left out", "no such program", "faller left out", "step 2 fell over"} {
		if !strings.Contains(notes, want) {
			t.Errorf("notes lack %q:\n%s", want, notes)
		}
	}
	if bad[0].closed != 1 || bad[2].closed != 1 {
		t.Error("a bad case's session was not closed")
	}
}

func TestCancelEndsTheBenchmark(t *testing.T) {
	var log []string
	f := &fake{info: Info{Name: "a", Work: Rewrite}, each: time.Millisecond, log: &log}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := Run(ctx, Config{Cases: []Case{f}, Sizes: []int{1 << 10}, Records: workload.GenerateRecords(10)})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Run() = %v, want %v", err, context.DeadlineExceeded)
	}
	if f.closed != 1 {
		t.Errorf("the session was closed %d times", f.closed)
	}
}

func TestASizeThatDoesNotFitIsLeftOut(t *testing.T) {
	var log []string
	f := &fake{info: Info{Name: "a", Title: "giant", Work: Rewrite}, log: &log}
	r, err := Run(t.Context(), Config{Cases: []Case{f}, Sizes: []int{1 << 40}, Records: workload.GenerateRecords(10)})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Points) != 0 || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "giant left out at 1024 GB") {
		t.Errorf("points %v, notes %q", r.Points, r.Notes)
	}
}

func TestTheHungriestIsLeftOutFirst(t *testing.T) {
	free, err := measure.Available()
	if err != nil {
		t.Fatal(err)
	}
	size := int(free / 100) // nothing to tell from yet: the baseline takes 48 of them, the others 9 each
	h := &harness{result: &Result{}, Config: Config{Progress: func(string, ...any) {}, Cases: []Case{
		&fake{info: Info{Name: "thrifty", Role: Peer}},
		&fake{info: Info{Name: "usual", Role: Baseline}},
		&fake{info: Info{Name: "greedy", Role: Subject}},
	}}}
	names := func() (names []string) {
		for _, c := range h.fitting(size) {
			names = append(names, c.Info().Name)
		}
		return names
	}
	if got := names(); len(got) != 3 {
		t.Errorf("%v fit, want all", got)
	}
	h.result.Points = []Point{
		{Case: "thrifty", Size: tellingSize, PeakBytes: tellingSize},
		{Case: "greedy", Size: tellingSize, PeakBytes: 80 * tellingSize},
		{Case: "usual", Size: tellingSize / 2, PeakBytes: 1000 * tellingSize}, // too small to tell
	}
	if got := names(); !slices.Equal(got, []string{"thrifty", "usual"}) {
		t.Errorf("%v fit, want all but the greedy", got)
	}
}

// fakePing pretends that each round trip took a fixed time.
type fakePing struct{ closed bool }

func (*fakePing) Info() Info                                       { return Info{Name: "ping", Role: Baseline} }
func (f *fakePing) StartPing(context.Context) (PingSession, error) { return f, nil }
func (*fakePing) PIDs() []int                                      { return []int{os.Getpid()} }
func (f *fakePing) Close() error                                   { f.closed = true; return nil }
func (*fakePing) Ping(_ context.Context, n int, idle time.Duration) ([]time.Duration, error) {
	return slices.Repeat([]time.Duration{10*time.Microsecond + idle/1000}, n), nil
}

func TestRoundTrips(t *testing.T) {
	f := &fakePing{}
	r, err := Run(t.Context(), Config{Pings: []PingCase{f}, Quick: true})
	if err != nil || len(r.RoundTrips) != 1 {
		t.Fatalf("Run() = %+v, %v", r, err)
	}
	trip := r.RoundTrips[0]
	if trip.Busy.Median != 10_000 || trip.Idle.Median != 12_000 || trip.Resting < 0 || trip.Resting > 2 {
		t.Errorf("round trip %+v", trip)
	}
	if !f.closed {
		t.Error("the session was not closed")
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int{"1KB": 1 << 10, " 64 mb ": 64 << 20, "2G": 2 << 30, "300": 300, "16M": 16 << 20} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "MB", "-1KB", "0", "1.5MB", "99999999999GB", "1TB"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", text, got)
		}
	}
	for n, want := range map[int]string{5: "5 B", 1 << 10: "1 KB", 1536: "1.5 KB", 256 << 20: "256 MB", 3 << 30: "3 GB"} {
		if got := FormatSize(n); got != want {
			t.Errorf("FormatSize(%d) = %q, want %q", n, got, want)
		}
	}
}
