package pool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/engine/ledger"
	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// The test binary is its own executor: with this variable it behaves as the
// value says, on the bare control channel, so that it can misbehave.
const behaviour = "MILLRACE_TEST_BEHAVIOUR"

func TestMain(m *testing.M) {
	if b := os.Getenv(behaviour); b != "" {
		executor(b)
		return
	}
	before := openFiles()
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(goleak.IgnoreTopFunction("github.com/millrace/millrace/engine/pool.forkThread")); err != nil {
			fmt.Println(err)
			code = 1
		}
		if after := openFiles(); len(after) > len(before) {
			fmt.Println("descriptors left open:", after)
			code = 1
		}
		if kids := descendants(os.Getpid()); len(kids) > 0 {
			fmt.Println("processes left:", kids)
			code = 1
		}
	}
	os.Exit(code)
}

func openFiles() []string {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil &&
			!strings.HasPrefix(target, "/proc/") && !strings.HasPrefix(target, "anon_inode:[event") { // the runtime's poller
			names = append(names, target)
		}
	}
	return names
}

// rogue is the executor's side, by hand.
type rogue struct {
	*ipc.Channel
	prefix uint64
	arena  *shm.Arena
}

func executor(b string) {
	name, argument, _ := strings.Cut(b, ":")
	switch name {
	case "silent": // never says hello
		time.Sleep(time.Minute)
	case "quit": // ends before the handshake
		fmt.Fprintln(os.Stderr, "cannot find my configuration")
		os.Exit(3)
	case "garbage":
		os.NewFile(3, "control").WriteString(strings.Repeat("this is no frame", 100))
		time.Sleep(time.Minute)
	}
	conn, err := ipc.FromEnvironment()
	check(err)
	r := &rogue{Channel: ipc.NewChannel(conn)}
	if name == "old" {
		oldVersion(conn)
	}
	welcome, err := r.Greet(ipc.Hello{Language: "test", Capabilities: []string{ipc.CapabilityRing}}, 30*time.Second)
	check(err)
	r.prefix = uint64(welcome.Executor)
	n := uint64(0)
	r.arena = shm.NewArena(shm.ArenaOptions{
		NextID: func() shm.SegmentID { n++; return shm.SegmentID(r.prefix<<32 | n) },
		OnSegment: func(s *shm.Segment) error {
			return r.Send(&ipc.Envelope{Message: &ipc.Attach{Segment: s.ID(), Size: uint64(s.Size())}, File: s.File()})
		},
	})
	for {
		e, err := r.Receive()
		if err != nil {
			os.Exit(0)
		}
		switch m := e.Message.(type) {
		case *ipc.Ping:
			if name == "deaf" {
				continue
			}
			check(r.Send(&ipc.Envelope{ID: e.ID, Message: new(ipc.Pong)}))
		case *ipc.Shutdown:
			os.Exit(0)
		case *ipc.Cancel:
			if name == "polite" {
				check(r.Send(&ipc.Envelope{ID: e.ID, Message: &ipc.Fail{Severity: ipc.SeverityCancel, Name: "CancelError", Message: m.Reason}}))
			}
		case *ipc.Execute:
			r.execute(name, argument, e, m)
		}
	}
}

func oldVersion(conn *net.UnixConn) {
	b, err := ipc.AppendFrame(nil, &ipc.Envelope{Message: &ipc.Hello{MinVersion: 90, MaxVersion: 99}})
	check(err)
	_, err = conn.Write(b)
	check(err)
	time.Sleep(time.Minute)
}

func (r *rogue) done(id uint64, blocks []shm.Block, refs ...shm.Ref) {
	e := &ipc.Envelope{ID: id, Message: &ipc.Done{Blocks: blocks}, State: ipc.Table{Kind: ipc.KindObject}}
	for i, ref := range refs {
		e.State.Rows = append(e.State.Rows, ipc.Row{Key: "k" + strconv.Itoa(i), Spans: []shm.Ref{ref}})
	}
	check(r.Send(e))
}

func (r *rogue) execute(name, argument string, e *ipc.Envelope, m *ipc.Execute) {
	good := func() shm.Ref {
		ref, err := r.arena.Write(shm.JSON, []byte(`"value"`))
		check(err)
		return ref
	}
	switch name {
	case "good":
		check(r.Send(&ipc.Envelope{ID: e.ID, Message: &ipc.Log{Level: "info", Source: "job", Message: "hello"}}))
		ref := good()
		r.done(e.ID, []shm.Block{ref.Block()}, ref)
	case "exit":
		fmt.Fprintln(os.Stderr, "last words")
		code, err := strconv.Atoi(argument)
		check(err)
		os.Exit(code)
	case "abort":
		check(syscall.Kill(os.Getpid(), syscall.SIGKILL))
		time.Sleep(time.Minute)
	case "hang", "polite", "deaf":
	case "out-of-bounds":
		ref := good()
		block := ref.Block()
		block.Length = 1 << 62
		r.done(e.ID, []shm.Block{block}, ref)
	case "unpublished":
		r.done(e.ID, nil, good())
	case "twice":
		ref := good()
		r.done(e.ID, []shm.Block{ref.Block()}, ref)
		r.done(e.ID, nil, ref)
	case "unknown-request":
		r.done(e.ID+1000, nil)
	case "wrong-message":
		check(r.Send(&ipc.Envelope{Message: new(ipc.Shutdown)}))
	case "verdicts":
		check(r.Send(&ipc.Envelope{ID: e.ID, Message: &ipc.Done{Verdicts: make([]ipc.Verdict, 3)}}))
	case "no-descriptor":
		check(r.Send(&ipc.Envelope{Message: &ipc.Attach{Segment: shm.SegmentID(r.prefix<<32 | 77), Size: 4096}}))
	case "regular-file":
		f, err := os.CreateTemp("", "millrace")
		check(err)
		defer os.Remove(f.Name())
		check(f.Truncate(4096))
		check(r.Send(&ipc.Envelope{Message: &ipc.Attach{Segment: shm.SegmentID(r.prefix<<32 | 77), Size: 4096}, File: f}))
	case "memory":
		hog := make([]byte, 300<<20)
		for i := 0; i < len(hog); i += 4096 {
			hog[i] = 1
		}
		time.Sleep(time.Minute)
	case "shared-memory":
		w := r.arena.NewBlock(300 << 20)
		for range 300 {
			_, err := w.Write(make([]byte, 1<<20))
			check(err)
		}
		ref, err := w.Commit(shm.Raw)
		check(err)
		_ = ref
		time.Sleep(time.Minute)
	case "child": // leaves the process group, and a child in it
		for _, detached := range []bool{false, true} {
			cmd := exec.Command("sleep", "300")
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: detached}
			check(cmd.Start())
			check(os.WriteFile(argument+strconv.FormatBool(detached), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600))
		}
		time.Sleep(time.Minute)
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "executor:", err)
		os.Exit(99)
	}
}

type fixture struct {
	*Pool
	ledger  *ledger.Ledger
	account *ledger.Account
}

func newFixture(t *testing.T, o Options) *fixture {
	t.Helper()
	l := ledger.New()
	o.Ledger = l
	if o.GracePeriod == 0 {
		o.GracePeriod = 100 * time.Millisecond
	}
	f := &fixture{Pool: New(o), ledger: l, account: l.Open("run", 0)}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if err := f.account.Close(); err != nil {
			t.Error(err)
		}
		if l.Segments() != 0 || l.Bytes() != 0 {
			t.Errorf("%d segments and %d bytes left", l.Segments(), l.Bytes())
		}
	})
	return f
}

func spec(b string) *Spec {
	return &Spec{Name: b, Argv: []string{"/proc/self/exe"}, Env: []string{behaviour + "=" + b}, Reuse: true}
}

func (f *fixture) task() *Task {
	return &Task{Code: Code{ID: 1, Kind: "test"}, Account: f.account, Execute: ipc.Execute{Run: "run", Step: "step", Attempt: 1}}
}

// execute has an executor execute a task, and waits for its end.
func execute(ctx context.Context, x *Executor, t *Task) (*Result, error) {
	e, err := x.Start(ctx, t)
	if err != nil {
		return nil, err
	}
	return e.Wait(ctx)
}

// execute runs one task on a fresh or idle executor of the behaviour.
func (f *fixture) execute(ctx context.Context, t *testing.T, b string, change func(*Task)) (*Result, error) {
	t.Helper()
	x, err := f.Acquire(ctx, spec(b), "run", "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Release(x)
	task := f.task()
	if change != nil {
		change(task)
	}
	return execute(ctx, x, task)
}

func TestExecute(t *testing.T) {
	f := newFixture(t, Options{})
	for range 3 { // the second and third time on the same executor
		var logged []string
		result, err := f.execute(t.Context(), t, "good", func(task *Task) {
			task.OnLog = func(l *ipc.Log) { logged = append(logged, l.Message) }
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(logged) != 1 || logged[0] != "hello" {
			t.Errorf("logged %q", logged)
		}
		if result.Sent >= result.Received {
			t.Errorf("sent at %d, received at %d", result.Sent, result.Received)
		}
		f.account.Release(result.State)
	}
	if s := f.Stats(); s.Executors != 1 || s.Idle != 1 || s.ControlBytes == 0 {
		t.Errorf("stats %+v, want one executor that served all three", s)
	}
}

// Whatever an executor does wrong, the step gets a clear error and the executor
// is gone.
func TestMisbehaviour(t *testing.T) {
	for b, want := range map[string]string{
		"exit:3":          "Process exited with code: 3",
		"abort":           "signal: killed",
		"out-of-bounds":   "ends past the segment",
		"unpublished":     "no published block holds it",
		"unknown-request": "never made",
		"wrong-message":   "an executor may not send shutdown",
		"verdicts":        "3 verdicts for 0 conditions",
		"no-descriptor":   "descriptor",
		"regular-file":    "memfd",
	} {
		t.Run(b, func(t *testing.T) {
			f := newFixture(t, Options{})
			_, err := f.execute(t.Context(), t, b, nil)
			var exit *ExitError
			if !errors.As(err, &exit) || !strings.Contains(err.Error(), want) {
				t.Fatalf("got %v, want an *ExitError with %q", err, want)
			}
			if b == "exit:3" && !strings.Contains(err.Error(), "last words") {
				t.Errorf("%v does not show the end of standard error", err)
			}
			if s := f.Stats(); s.Executors != 0 {
				t.Errorf("the executor is still there: %+v", s)
			}
		})
	}
}

func TestReplyTwice(t *testing.T) {
	f := newFixture(t, Options{})
	result, err := f.execute(t.Context(), t, "twice", nil)
	if err == nil {
		f.account.Release(result.State)
	}
	eventually(t, "the executor is gone", func() bool { return f.Stats().Executors == 0 })
}

func TestStartFailures(t *testing.T) {
	for name, c := range map[string]struct {
		spec *Spec
		want string
	}{
		"not found":      {&Spec{Argv: []string{"/no/such/program"}}, "no such file"},
		"not in PATH":    {&Spec{Argv: []string{"no-such-program-anywhere"}}, "executable file not found"},
		"not executable": {&Spec{Argv: []string{"/etc/passwd"}}, "permission denied"},
		"no program":     {&Spec{}, "no program named"},
		"no worker":      {&Spec{Argv: []string{"true"}}, "without saying hello"},
		"silent":         {spec("silent"), "did not say hello"},
		"quits":          {spec("quit"), "cannot find my configuration"},
		"garbage":        {spec("garbage"), "frame"},
		"other version":  {spec("old"), "versions 90 to 99"},
	} {
		t.Run(name, func(t *testing.T) {
			var options Options
			if name == "silent" { // the others end by themselves
				options.StartTimeout = 500 * time.Millisecond
			}
			f := newFixture(t, options)
			_, err := f.Acquire(t.Context(), c.spec, "run", "")
			var start *StartError
			if !errors.As(err, &start) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want a *StartError with %q", err, c.want)
			}
		})
	}
}

func TestStartBackoff(t *testing.T) {
	f := newFixture(t, Options{})
	begin := time.Now()
	for range 3 {
		if _, err := f.Acquire(t.Context(), spec("quit"), "run", ""); err == nil {
			t.Fatal("started")
		}
	}
	if d := time.Since(begin); d < firstBackoff+2*firstBackoff {
		t.Errorf("three starts in %v: the second and third did not wait", d)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := f.Acquire(ctx, spec("quit"), "run", ""); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v: the wait does not end with its context", err)
	}
}

func TestTimeout(t *testing.T) {
	for b, survives := range map[string]bool{"hang": false, "polite": true} {
		f := newFixture(t, Options{})
		_, err := f.execute(t.Context(), t, b, func(task *Task) { task.Execute.Timeout = 50 * time.Millisecond })
		var timeout *TimeoutError
		if !errors.As(err, &timeout) || timeout.Limit != 50*time.Millisecond || timeout.Step != "step" {
			t.Fatalf("%s: got %v", b, err)
		}
		if got := f.Stats().Executors == 1; got != survives {
			t.Errorf("%s: executor survives: %v", b, got)
		}
	}
}

func TestCancel(t *testing.T) {
	f := newFixture(t, Options{})
	reason := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	soon := func(*Task) { time.AfterFunc(50*time.Millisecond, func() { cancel(reason) }) }
	if _, err := f.execute(ctx, t, "hang", soon); !errors.Is(err, reason) {
		t.Fatalf("got %v", err)
	}
}

// An executor hears of a cancellation while the goroutine that waits for it is
// at other work, which may go on until the executor has answered.
func TestCancelDuringWork(t *testing.T) {
	f := newFixture(t, Options{GracePeriod: time.Hour})
	ctx, cancel := context.WithCancelCause(t.Context())
	work, answered := make(chan func(), 1), make(chan struct{})
	work <- func() {
		cancel(errors.New("not needed any more"))
		<-answered
	}
	_, err := f.execute(ctx, t, "polite", func(task *Task) {
		task.Work, task.OnAnswer = work, func() { close(answered) }
	})
	if err == nil || err.Error() != "not needed any more" {
		t.Fatal(err)
	}
}

func TestMemoryLimit(t *testing.T) {
	for _, b := range []string{"memory", "shared-memory"} {
		t.Run(b, func(t *testing.T) {
			f := newFixture(t, Options{})
			_, err := f.execute(t.Context(), t, b, func(task *Task) { task.Execute.MemoryLimit = 100 << 20 })
			var memory *MemoryError
			if !errors.As(err, &memory) || memory.Limit != 100<<20 || memory.Used < memory.Limit {
				t.Fatalf("got %v", err)
			}
		})
	}
}

// Cancelled means gone: descendants too, even those in a session of their own.
func TestDescendantsDie(t *testing.T) {
	f := newFixture(t, Options{})
	base := t.TempDir() + "/pid"
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		x, err := f.Acquire(ctx, spec("child:"+base), "run", "")
		if err == nil {
			_, err = execute(ctx, x, f.task())
			f.Release(x)
		}
		result <- err
	}()
	var pids []int
	for _, name := range []string{"false", "true"} {
		eventually(t, "a child was started", func() bool {
			b, err := os.ReadFile(base + name)
			pid, perr := strconv.Atoi(string(b))
			if err != nil || perr != nil {
				return false
			}
			pids = append(pids, pid)
			return true
		})
	}
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	for _, pid := range pids {
		eventually(t, fmt.Sprintf("descendant %d is gone", pid), func() bool { return !running(pid) })
	}
}

// running reports whether a process exists and is more than a zombie.
func running(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func TestDeadIdleExecutorIsNotHandedOut(t *testing.T) {
	f := newFixture(t, Options{})
	if err := f.Warm(t.Context(), spec("good"), 1, nil); err != nil {
		t.Fatal(err)
	}
	pid := f.PIDs()[0]
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its death was noticed", func() bool { return f.Stats().Executors == 0 })
	result, err := f.execute(t.Context(), t, "good", nil)
	if err != nil {
		t.Fatal(err)
	}
	f.account.Release(result.State)
}

func TestHealthCheck(t *testing.T) {
	deaf := newFixture(t, Options{HealthInterval: 50 * time.Millisecond})
	if err := deaf.Warm(t.Context(), spec("deaf"), 1, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the one that does not answer is killed", func() bool { return deaf.Stats().Executors == 0 })

	// It may take its time to answer, so rounds are made here.
	good := newFixture(t, Options{HealthInterval: time.Minute, IdleTimeout: 2 * time.Hour})
	if err := good.Warm(t.Context(), spec("good"), 1, nil); err != nil {
		t.Fatal(err)
	}
	before := good.Stats()
	good.round(time.Now().Add(time.Hour))
	if s := good.Stats(); s.Executors != 1 || s.Idle != 1 || s.ControlBytes <= before.ControlBytes {
		t.Errorf("the one that answers is gone or was not asked: %+v, before %+v", s, before)
	}
}

func TestWarmExecutorsAreReplaced(t *testing.T) {
	f := newFixture(t, Options{})
	single := spec("good")
	single.Reuse = false
	if err := f.Warm(t.Context(), single, 1, []Code{{ID: 1, Kind: "test"}}); err != nil {
		t.Fatal(err)
	}
	warm := f.PIDs()[0]
	x, err := f.Acquire(t.Context(), single, "run", "acme")
	if err != nil {
		t.Fatal(err)
	}
	if x.process.pid() != warm {
		t.Error("the warm executor was not used")
	}
	eventually(t, "a replacement is ready", func() bool { s := f.Stats(); return s.Executors == 2 && s.Idle == 1 })
	f.Release(x)
}

func TestIdleTimeout(t *testing.T) {
	f := newFixture(t, Options{HealthInterval: 20 * time.Millisecond, IdleTimeout: 60 * time.Millisecond})
	if err := f.Warm(t.Context(), spec("good"), 2, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both were let go", func() bool { return f.Stats().Executors == 0 })
}

func TestTenantsAndRunsAreKeptApart(t *testing.T) {
	f := newFixture(t, Options{})
	acquire := func(s *Spec, run, tenant string) *Executor {
		t.Helper()
		x, err := f.Acquire(t.Context(), s, run, tenant)
		if err != nil {
			t.Fatal(err)
		}
		task := f.task()
		task.Execute.Run = run
		result, err := execute(t.Context(), x, task)
		if err != nil {
			t.Fatal(err)
		}
		f.account.Release(result.State)
		f.Release(x)
		return x
	}
	shared := spec("good")
	a := acquire(shared, "1", "acme")
	if acquire(shared, "2", "acme") != a {
		t.Error("a reusable executor was not used for its tenant's next run")
	}
	if acquire(shared, "3", "other") == a {
		t.Error("an executor went to another tenant")
	}
	single := spec("good")
	single.Reuse = false
	b := acquire(single, "1", "acme")
	if acquire(single, "1", "acme") != b {
		t.Error("an executor was not used for its own run's next step")
	}
	if acquire(single, "2", "acme") == b {
		t.Error("an executor without reuse went to another run")
	}
	f.EndRun("1")
	eventually(t, "it is gone after its run", func() bool { return !b.alive() })
}

// No executor outlives its supervisor, however that ends.
func TestSupervisorKilled(t *testing.T) {
	if os.Getenv("MILLRACE_TEST_SUPERVISOR") != "" {
		f := newFixture(t, Options{})
		if err := f.Warm(t.Context(), spec("deaf"), 2, nil); err != nil {
			t.Fatal(err)
		}
		for _, pid := range f.PIDs() {
			fmt.Printf("executor %d\n", pid)
		}
		time.Sleep(time.Minute)
		return
	}
	cmd := exec.Command("/proc/self/exe", "-test.run", "^TestSupervisorKilled$")
	cmd.Env = append(os.Environ(), "MILLRACE_TEST_SUPERVISOR=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []int
	for len(pids) < 2 {
		var pid int
		if _, err := fmt.Fscanf(out, "executor %d\n", &pid); err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for _, pid := range pids {
		eventually(t, fmt.Sprintf("executor %d is gone", pid), func() bool { return !running(pid) })
	}
}

// A pool with nothing to do costs nothing.
func TestIdlePoolSleeps(t *testing.T) {
	f := newFixture(t, Options{})
	result, err := f.execute(t.Context(), t, "good", nil)
	if err != nil {
		t.Fatal(err)
	}
	f.account.Release(result.State)
	time.Sleep(100 * time.Millisecond)
	before := cpuTime(t, f.PIDs()[0])
	time.Sleep(time.Second)
	if used := cpuTime(t, f.PIDs()[0]) - before; used > 20*time.Millisecond {
		t.Errorf("an idle executor used %v in a second", used)
	}
}

func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within 10 s: %s", what)
}
