package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/engine/uplink/frames"
)

const twoSteps = `
name: two
steps:
  - id: first
    command: [jq, -c, '.n += 1']
    next: second
  - id: second
    command: [jq, '.n *= 2']
`

func TestUplinkLines(t *testing.T) {
	workflow := file(t, "flow.yaml", twoSteps)
	for _, address := range []string{"-", "ndjson:-"} {
		got := millrace(t, `{"n":4}`, "run", workflow, "-i", "-", "-q", "--uplink", address)
		if got.code != 0 {
			t.Fatalf("%+v", got)
		}
		var types []string
		for line := range strings.Lines(got.stdout) {
			var e struct {
				frames.Meta
				State struct{ N int }
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			types = append(types, strings.TrimSpace(fmt.Sprintf("%s %s %d", e.Type, e.Step, e.State.N)))
		}
		want := "run:start  0, step:start first 0, step:complete first 5, step:start second 0, step:complete second 10, run:complete  10"
		if strings.Join(types, ", ") != want {
			t.Errorf("got %s", strings.Join(types, ", "))
		}
	}
	if got := millrace(t, `{}`, "run", workflow, "-i", "-", "-o", "-", "--uplink", "-"); got.code != exitUsage {
		t.Errorf("both on standard output: %+v", got)
	}
}

func TestUplinkFrames(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	received := make(chan string, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			received <- err.Error()
			return
		}
		defer conn.Close()
		var all []string
		r := frames.NewReader(conn)
		for {
			m, err := r.Next()
			if err != nil {
				received <- strings.Join(append(all, err.Error()), ", ")
				return
			}
			var doc bytes.Buffer
			for i := range m.States {
				if err := r.Document(&doc, i); err != nil {
					t.Error(err)
				}
			}
			all = append(all, m.Type+strings.Join(strings.Fields(doc.String()), ""))
		}
	}()
	got := millrace(t, `{"n":4}`, "run", file(t, "flow.yaml", twoSteps), "-i", "-", "-q", "-o", "out.json", "--uplink", "unix:"+l.Addr().String())
	if got.code != 0 {
		t.Fatalf("%+v", got)
	}
	want := `run:start, step:start, step:complete{"n":5}, step:start, step:complete{"n":10}, run:complete{"n":10}, EOF`
	if all := <-received; all != want {
		t.Errorf("received %s", all)
	}
}

func TestUplinkFails(t *testing.T) {
	workflow := file(t, "flow.yaml", twoSteps)
	for address, code := range map[string]int{"unix:/nowhere/at/all": exitOutput, "carrier-pigeon": exitOutput, "ndjson:/dev/full": exitOutput} {
		got := millrace(t, `{"n":4}`, "run", workflow, "-i", "-", "-o", "out.json", "--uplink", address)
		if got.code != code || !strings.Contains(got.err, "uplink") {
			t.Errorf("%s: %+v", address, got)
		}
	}
}

// The reader that the documentation names understands what is sent.
func TestUplinkExample(t *testing.T) {
	python := needs(t, "python3")
	socket := filepath.Join(t.TempDir(), "s")
	listen := exec.Command(python, "../../examples/uplink/listen.py", socket)
	out, err := listen.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	listen.Stderr = os.Stderr
	if err := listen.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if first, err := lines.ReadString('\n'); err != nil || !strings.HasPrefix(first, "listening") {
		t.Fatal(first, err)
	}
	if got := millrace(t, `{"n":4}`, "run", file(t, "flow.yaml", twoSteps), "-i", "-", "-q", "--uplink", "unix:"+socket); got.code != exitOK {
		t.Errorf("%+v", got)
	}
	shown, err := io.ReadAll(lines)
	if err := errors.Join(err, listen.Wait()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"step:start first", "step:complete first success\n  n: 1 bytes of json: b'5'", "run:complete  success\n  n: 2 bytes of json: b'10'"} {
		if !strings.Contains(string(shown), want) {
			t.Errorf("%s lacks %q", shown, want)
		}
	}
}
