package conformance

import (
	"context"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// A sin is an executor that breaks one rule, and the case that must notice.
type sin struct {
	name, caught string // the case
	reason       string // part of what it says
}

var sins = []sin{
	{"none", "life/hang-up$", ""}, // the sinner is in order otherwise
	{"none", "state/set$", "the result has the keys"},
	{"stays after a hang-up", "life/hang-up$", "did not exit within"},
	{"stays after junk", "junk/unknown-type", "did not exit within"},
	{"dies of SIGINT", "life/sigint", "ping was not answered"},
	{"exits with 3", "life/shutdown$", "exited with 3"},
	{"crashes", "junk/oversized", "did not exit but crash"},
	{"never answers", "state/identity", "execute was not answered"},
	{"answers twice", "state/identity", "answered before"},
	{"no pong", "handshake/hello", "ping was not answered"},
	{"no times", "state/identity", "CLOCK_MONOTONIC"},
	{"adds a private key", "state/identity", "private or to be dropped"},
	{"keeps dropped keys", "state/private-kept-out", "private or to be dropped"},
	{"copies", "state/identity", "was not passed on as it was"},
	{"forgets a key", "state/identity", "the result has the keys"},
	{"block without segment", "state/identity", "never attached"},
	{"block of another", "state/identity", "another writer's"},
	{"block too long", "state/identity", "ends past"},
	{"block twice", "state/identity", "overlaps"},
	{"unpublished", "state/identity", "lies in no published block"},
	{"no JSON", "state/identity", "not valid JSON"},
	{"unsealed", "state/identity", "memfd has seals none"},
	{"foreign id", "state/identity", "ids are the welcome's executor number"},
	{"sends an execute", "state/identity", "may not send execute"},
	{"maps all", "memory/lazy", "is mapped"},
	{"wrong pid", "handshake/hello", "no process of the program's"},
	{"calls well", "call/pass-on$", ""},
	{"calls unasked", "state/identity", "without the capability calls"},
	{"calls with a copy", "call/pass-on", "was not passed on as it was"},
	{"calls with what is not published", "call/pass-on", "lies in no published block"},
	{"calls twice with one id", "call/pass-on", "used before"},
	{"calls and forgets another", "call/pass-on", "never made"},
	{"calls and writes the result anew", "call/pass-on", "was not passed on as it was"},
}

func TestMisbehaviourIsCaught(t *testing.T) {
	for _, s := range sins {
		t.Run(s.name+" "+strings.Trim(s.caught, "$"), func(t *testing.T) {
			var results []Result
			_, err := Run(t.Context(), Options{
				Argv: []string{"/proc/self/exe"}, Env: []string{"MILLRACE_TEST_ROLE=sinner", "MILLRACE_TEST_SIN=" + s.name, exitAtOnce},
				Kind: KindFunction, Match: regexp.MustCompile("^" + s.caught), Timeout: 8 * time.Second,
			}, func(r Result) { results = append(results, r) })
			if err != nil || len(results) != 1 {
				t.Fatalf("%d results, %v", len(results), err)
			}
			r := results[0]
			if want := s.reason != ""; (r.Outcome == Fail) != want || !strings.Contains(r.Reason, s.reason) {
				t.Fatalf("%s: %s, want a failure: %v, with %q", r.Outcome, r.Reason, want, s.reason)
			}
		})
	}
}

// sinner is an executor just good enough for those cases: it passes its state
// on and can do nothing else.
type sinner struct {
	*ipc.Channel
	sin     string
	welcome *ipc.Welcome
	inputs  map[shm.SegmentID]*shm.Segment
	kept    [][]byte
	made    uint64
	calling uint64 // the execute that waits for a call
}

func sinnerMain() {
	x := &sinner{sin: os.Getenv("MILLRACE_TEST_SIN"), inputs: make(map[shm.SegmentID]*shm.Segment)}
	if x.sin != "dies of SIGINT" {
		signal.Ignore(syscall.SIGINT)
	}
	conn, err := ipc.FromEnvironment()
	if err != nil {
		os.Exit(4)
	}
	x.Channel = ipc.NewChannel(conn)
	var names []string
	for _, b := range Behaviours() {
		names = append(names, b.Name)
	}
	hello := ipc.Hello{Language: "sin", Functions: names}
	if x.sin != "calls unasked" {
		hello.Capabilities = []string{ipc.CapabilityCalls}
	}
	if x.sin == "wrong pid" {
		hello.MinVersion, hello.MaxVersion, hello.PID = 1, 1, 1
		_ = x.Send(&ipc.Envelope{Message: &hello})
		time.Sleep(time.Minute)
	}
	if x.welcome, err = x.Greet(hello, 30*time.Second); err != nil {
		os.Exit(5)
	}
	for {
		e, err := x.Receive()
		switch {
		case err == nil:
			x.handle(e)
		case strings.HasPrefix(x.sin, "stays"):
			time.Sleep(time.Minute)
		case x.sin == "crashes":
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			time.Sleep(time.Minute)
		default:
			os.Exit(1)
		}
	}
}

func (x *sinner) reply(id uint64, m ipc.Message, t ipc.Table) {
	if err := x.Send(&ipc.Envelope{ID: id, Message: m, State: t}); err != nil {
		os.Exit(1)
	}
}

func (x *sinner) handle(e *ipc.Envelope) {
	switch m := e.Message.(type) {
	case *ipc.Attach:
		s, err := shm.Open(m.Segment, e.File, int64(m.Size))
		if err != nil {
			os.Exit(1)
		}
		x.inputs[m.Segment] = s
		if x.sin == "maps all" {
			b, _ := s.Bytes()
			x.kept = append(x.kept, b)
		}
	case *ipc.Ping:
		if x.sin != "no pong" {
			x.reply(e.ID, new(ipc.Pong), ipc.Table{})
		}
	case *ipc.Shutdown:
		os.Exit(map[bool]int{true: 3}[x.sin == "exits with 3"])
	case *ipc.Execute:
		if strings.HasPrefix(x.sin, "calls") {
			x.call(e)
			return
		}
		x.execute(e)
	case *ipc.Result:
		t := e.State
		done := &ipc.Done{Started: monotonic(), Finished: monotonic()}
		if x.sin == "calls and writes the result anew" {
			text := make([]byte, t.Rows[0].Size())
			ref := t.Rows[0].Spans[0]
			if _, err := x.inputs[ref.Segment].ReadAt(text, int64(ref.Offset)); err != nil {
				os.Exit(7)
			}
			copied := x.segment(string(text))
			t = t.With(ipc.Row{Key: t.Rows[0].Key, Spans: []shm.Ref{copied}})
			done.Blocks = []shm.Block{copied.Block()}
		}
		x.reply(x.calling, done, t)
	}
}

// call answers an execute with what comes of a call.
func (x *sinner) call(e *ipc.Envelope) {
	x.calling = e.ID
	m, t := &ipc.Call{Step: "other", Until: ipc.UntilStep}, e.State
	switch x.sin {
	case "calls with a copy", "calls with what is not published":
		ref := x.segment(`{"a":[1,2.5,null,true]}`)
		t = t.With(ipc.Row{Key: t.Rows[0].Key, Spans: []shm.Ref{ref}})
		if x.sin == "calls with a copy" {
			m.Blocks = []shm.Block{ref.Block()}
		}
	case "calls twice with one id":
		x.reply(1, m, t)
	case "calls and forgets another":
		x.reply(0, &ipc.Forget{Calls: []uint64{99}}, ipc.Table{})
	}
	x.reply(1, m, t)
}

// segment makes one of the given text, sealed unless that is the sin.
func (x *sinner) segment(text string) shm.Ref {
	x.made++
	id := uint64(x.welcome.Executor)<<32 | x.made
	if x.sin == "foreign id" {
		id += 1 << 32
	}
	if x.sin == "unsealed" {
		f, err := unsealed(4096)
		if err != nil {
			os.Exit(6)
		}
		_, _ = f.WriteString(text)
		_ = x.Send(&ipc.Envelope{Message: &ipc.Attach{Segment: shm.SegmentID(id), Size: 4096}, File: f})
		return shm.Ref{Segment: shm.SegmentID(id), Length: uint64(len(text)), Encoding: shm.JSON}
	}
	s, n, err := shm.Import(shm.SegmentID(id), strings.NewReader(text), shm.ImportOptions{})
	if err != nil {
		os.Exit(6)
	}
	_ = x.Send(&ipc.Envelope{Message: &ipc.Attach{Segment: s.ID(), Size: uint64(s.Size())}, File: s.File()})
	return shm.Ref{Segment: s.ID(), Length: uint64(n), Encoding: shm.JSON}
}

func (x *sinner) execute(e *ipc.Envelope) {
	now := monotonic()
	done := &ipc.Done{Started: now, Finished: now}
	t := e.State
	add := func(key, text string) shm.Ref {
		ref := x.segment(text)
		t = t.With(ipc.Row{Key: key, Spans: []shm.Ref{ref}})
		done.Blocks = append(done.Blocks, ref.Block())
		return ref
	}
	if x.sin != "keeps dropped keys" {
		t = t.Without(x.welcome.DropKeys...).Without("_secret", "__proto__")
	}
	switch x.sin {
	case "never answers":
		return
	case "answers twice":
		x.reply(e.ID, done, t)
	case "no times":
		done.Started, done.Finished = 0, 0
	case "adds a private key":
		add("_mine", "1")
	case "copies":
		add("n", "1")
	case "forgets a key":
		t = t.Without("text")
	case "block without segment":
		done.Blocks = []shm.Block{{Segment: shm.SegmentID(x.welcome.Executor)<<32 | 99, Length: 8}}
	case "block of another":
		done.Blocks = []shm.Block{t.Rows[0].Spans[0].Block()}
	case "block too long":
		add("n", "1")
		done.Blocks[0].Length = 1 << 40
	case "block twice":
		ref := add("n", "[12345]")
		done.Blocks = append(done.Blocks, shm.Block{Segment: ref.Segment, Offset: 2, Length: 3})
	case "unpublished":
		add("n", "1")
		done.Blocks = nil
	case "no JSON":
		add("n", "nope")
	case "unsealed", "foreign id":
		add("n", "1")
	case "maps all":
		add("value", `[1,"end"]`)
	case "sends an execute":
		x.reply(7, &ipc.Execute{Run: "r"}, ipc.Table{})
	}
	x.reply(e.ID, done, t)
}

func TestEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(300*time.Millisecond, cancel)
	started := time.Now()
	_, err := Run(ctx, Options{
		Argv: []string{"/proc/self/exe"}, Env: []string{"MILLRACE_TEST_ROLE=sinner", "MILLRACE_TEST_SIN=never answers"},
		Kind: KindFunction, Match: regexp.MustCompile("state/identity"), Timeout: time.Minute,
	}, func(Result) {})
	if err == nil || time.Since(started) > 10*time.Second {
		t.Fatalf("ended with %v after %v", err, time.Since(started))
	}
}

func TestProgramsThatAreNoExecutors(t *testing.T) {
	for _, c := range []struct {
		argv   []string
		reason string
	}{
		{[]string{"/no/such/program"}, "cannot be started"},
		{[]string{"true"}, "no handshake"},
		{[]string{"sh", "-c", "echo something is wrong >&2; exit 9"}, "something is wrong"},
	} {
		var got Result
		sum, err := Run(t.Context(), Options{Argv: c.argv, Kind: KindFunction, Match: regexp.MustCompile("handshake/hello")}, func(r Result) { got = r })
		if err != nil || sum.Failed != 1 || !strings.Contains(got.Reason, c.reason) {
			t.Errorf("%v: %+v, %v, want %q", c.argv, got, err, c.reason)
		}
	}
}

func TestUnusableOptions(t *testing.T) {
	for _, o := range []Options{
		{Kind: KindFunction},
		{Argv: []string{"true"}, Kind: "fortran"},
		{Argv: []string{"true"}, Kind: KindFunction, Match: regexp.MustCompile("no such case")},
	} {
		if _, err := Run(t.Context(), o, func(Result) {}); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}
