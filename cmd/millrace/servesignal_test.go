package main

import (
	"bytes"
	"context"
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

// lockedBuffer is what a process writes while it runs.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// serving is `millrace serve` with a run of one step under way, which ends when a
// file appears.
type serving struct {
	server *standin.Server
	cmd    *exec.Cmd
	log    *lockedBuffer
	run    string
	gate   string
}

func serveOneRun(t *testing.T) *serving {
	t.Helper()
	needsNode(t)
	s := &serving{log: &lockedBuffer{}, gate: filepath.Join(t.TempDir(), "gate")}
	var err error
	if s.server, err = standin.New(standin.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.server.Close() })
	adaptor := filepath.Join(t.TempDir(), "packages", "gate")
	if err := os.MkdirAll(adaptor, 0o755); err != nil {
		t.Fatal(err)
	}
	// A job has no file system; an adaptor has.
	for name, text := range map[string]string{
		"package.json": `{"name":"@openfn/language-gate","version":"1.0.0","type":"module","main":"index.js"}`,
		"index.js": `import { existsSync } from 'node:fs';
export const wait = () => async (state) => {
  while (!existsSync(` + string(mustJSON(t, s.gate)) + `)) await new Promise((r) => setTimeout(r, 10));
  return { ...state, secret: process.env.WORKER_SECRET ?? 'none' };
};`,
	} {
		if err := os.WriteFile(filepath.Join(adaptor, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	plan := `{"triggers":[],"jobs":[{"id":"a","body":"wait();","adaptor":"@openfn/language-gate@local"}],"edges":[]}`
	if s.run, err = s.server.Enqueue(standin.Run{Plan: json.RawMessage(plan), Dataclip: json.RawMessage(`{"n":1}`)}); err != nil {
		t.Fatal(err)
	}
	s.cmd = exec.Command(program, "serve", "--port", "0", "--log", "debug", "-l", s.server.URL(), "--backoff", "0.05/0.1",
		"-m", filepath.Dir(filepath.Dir(adaptor)), "-d", t.TempDir(), "--warm", "0")
	s.cmd.Env = append(append(os.Environ(), "WORKER_SECRET="+s.server.Secret()), libraries(t)...)
	s.cmd.Stderr = s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.cmd.ProcessState == nil {
			_ = s.cmd.Process.Kill() // the test has failed
			_ = s.cmd.Wait()
		}
		if t.Failed() {
			t.Log(s.log)
		}
	})
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	if err := s.server.Until(ctx, func() bool { return s.server.Count("step:start") > 0 }); err != nil {
		t.Fatalf("the step does not start: %v", err)
	}
	return s
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (s *serving) signal(t *testing.T, sig syscall.Signal, until string) {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(s.log.String(), until); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %q in the log", until)
		}
	}
}

func TestServeFinishesItsRuns(t *testing.T) {
	s := serveOneRun(t)
	s.signal(t, syscall.SIGTERM, "no more runs are claimed")
	if err := os.WriteFile(s.gate, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("exit: %v", err)
	}
	record, err := s.server.Run(s.run)
	if err != nil {
		t.Fatal(err)
	}
	if record.Reason != "success" || !record.Left {
		t.Errorf("the run ended with %q, left %v", record.Reason, record.Left)
	}
	if got := string(record.Final.Text); got != `{"n":1,"data":{},"secret":"none"}` && got != `{"data":{},"n":1,"secret":"none"}` {
		t.Errorf("final state %s", got)
	}
	for _, v := range s.server.Violations() {
		t.Error(v)
	}
	if strings.Contains(s.log.String(), s.server.Secret()) {
		t.Error("the secret is in the log")
	}
}

func TestServeStopsAtTheSecondSignal(t *testing.T) {
	s := serveOneRun(t)
	s.signal(t, syscall.SIGTERM, "no more runs are claimed")
	start := time.Now()
	s.signal(t, syscall.SIGTERM, "second signal received")
	if err := s.cmd.Wait(); s.cmd.ProcessState.ExitCode() != exitTerminate {
		t.Errorf("exit: %v", err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}
