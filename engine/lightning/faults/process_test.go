package faults

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/engine/lightning/standin"
)

// programDir holds the real command, if a test needed it.
var programDir string

// program is the real command, built once.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "millrace-serve")
	if err != nil {
		return "", err
	}
	programDir = dir
	path := filepath.Join(dir, "millrace")
	out, err := exec.Command("go", "build", "-o", path, "github.com/millrace/millrace/cmd/millrace").CombinedOutput()
	if err != nil {
		os.Stderr.Write(out)
	}
	return path, err
})

// served is a `millrace serve` process that works for a stand-in.
type served struct {
	*exec.Cmd
	output lockedBuffer
	ended  chan error
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// process starts `millrace serve`, with the settings that an operator of the
// reference worker has in the environment.
func process(t *testing.T, s *standin.Server, env ...string) *served {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	worker, err := filepath.Abs("../../../worker/node/bin/millrace-node-worker.js")
	if err != nil {
		t.Fatal(err)
	}
	p := &served{Cmd: exec.Command(path, "serve"), ended: make(chan error, 1)}
	p.Env = append(os.Environ(), append([]string{
		"WORKER_LIGHTNING_SERVICE_URL=" + s.URL(), "WORKER_SECRET=" + s.Secret(), "WORKER_PORT=0", "WORKER_BACKOFF=0.01/0.1",
		"WORKER_LIGHTNING_PUBLIC_KEY=" + s.PublicKey(), "MILLRACE_NODE_EXECUTOR=" + worker,
	}, env...)...)
	p.Stdout, p.Stderr = &p.output, &p.output
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.ended <- p.Wait() }()
	t.Cleanup(func() {
		_ = p.Process.Kill() // it may have ended
		if t.Failed() {
			t.Log(p.output.String())
		}
	})
	return p
}

// wait waits for the process's end and returns its exit code.
func (p *served) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
	return p.ProcessState.ExitCode()
}

// alone is a server for a process of its own.
func alone(t *testing.T, o standin.Options) *rig {
	t.Helper()
	server, err := standin.New(o)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{Server: server, t: t}
	t.Cleanup(r.end)
	return r
}

// hears waits until the process has said something.
func (p *served) hears(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(patience); !strings.Contains(p.output.String(), text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not say %q", text)
		}
	}
}

// signal sends a SIGTERM and waits until the process has taken notice.
func (p *served) signal(t *testing.T) {
	t.Helper()
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.hears(t, "signal received")
}

// TestSignalDuringAnUpload: the run is finished and told of whole, and then the
// process ends with 0.
func TestSignalDuringAnUpload(t *testing.T) {
	uploading, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r := alone(t, standin.Options{Tap: func(piece []byte) {
		if bytes.Contains(piece, []byte(`"step:complete"`)) {
			once.Do(func() { close(uploading); <-goOn }) // the rest is not read meanwhile
		}
	}})
	p := process(t, r.Server, "WORKER_CAPACITY=1", "MILLRACE_COMPRESS=false") // so that no claim is on its way
	id := r.enqueue(line(nil, counting...))
	select {
	case <-uploading:
	case <-time.After(patience):
		close(goOn)
		t.Fatal("nothing is uploaded")
	}
	p.signal(t)
	later := r.enqueue(line(nil, counting...))
	close(goOn)
	record := r.finish(id)
	if record.Reason != "success" {
		t.Errorf("%s: %s", record.Reason, record.ErrorMessage)
	}
	r.wantWhole(record)
	if code := p.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if record, err := r.Run(later); err != nil || record.State != standin.StateAvailable {
		t.Errorf("a run was claimed after the signal: %+v %v", record, err)
	}
}

// TestASecondSignal: it ends at once, and leaves no process.
func TestASecondSignal(t *testing.T) {
	r := alone(t, standin.Options{})
	r.allowed = "left before run:complete"
	p := process(t, r.Server, "WORKER_MAX_RUN_DURATION_SECONDS=3600")
	id := r.enqueue(line(nil, `while (true);`))
	r.until("the step starts", func() bool {
		record, err := r.Run(id)
		return err == nil && len(record.Steps) == 1
	})
	p.signal(t)
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(t); code != 128+int(syscall.SIGTERM) {
		t.Errorf("exit code %d", code)
	}
}

// TestServeLogsNoSecret: what the process says of itself has no secret either.
func TestServeLogsNoSecret(t *testing.T) {
	r := alone(t, standin.Options{})
	p := process(t, r.Server, "WORKER_LOG_LEVEL=debug")
	run := runOf(object{
		"starting_node_id": "a", "triggers": []object{}, "edges": []object{},
		"jobs": []object{{"id": "a", "credential_id": "mine", "body": `export default [(state) => {
			console.log(state.configuration); throw new Error(state.configuration.password) }];`}},
	})
	run.Credentials = map[string]json.RawMessage{"mine": json.RawMessage(`{"password":"hunter2-is-secret"}`)}
	if record := r.finish(r.enqueue(run)); record.Reason != "fail" {
		t.Errorf("%s: %s", record.Reason, record.ErrorMessage)
	}
	if err := p.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, s := range []string{"hunter2-is-secret", r.Secret()} {
		if strings.Contains(p.output.String(), s) {
			t.Errorf("its output has %q", s)
		}
	}
}
