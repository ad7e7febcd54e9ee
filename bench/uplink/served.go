package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coder/websocket"

	"github.com/millrace/millrace/bench/child"
	"github.com/millrace/millrace/engine/lightning/standin"
)

const serverRole = "uplink-server"

func init() { child.Register(serverRole, serverRun) }

// serverSpec says how the stand-in for Lightning is set.
type serverSpec struct {
	Compress bool
	Keep     bool // what it receives
}

// serverAt is where it listens.
type serverAt struct{ URL, Secret string }

// serverRun is a stand-in in a process of its own. It checks everything that the
// worker sends, and keeps none of it unless it is to.
func serverRun(c *child.Control) error {
	var spec serverSpec
	if err := c.Spec(&spec); err != nil {
		return err
	}
	o := standin.Options{CountOnly: !spec.Keep, MaxFrame: 32 << 20}
	if spec.Compress {
		o.Compression = websocket.CompressionContextTakeover
	}
	if spec.Keep {
		// A hundred thousand lines that it keeps would have its collector at work
		// most of the time, on the core that the worker has.
		debug.SetGCPercent(400)
	}
	s, err := standin.New(o)
	if err != nil {
		return err
	}
	defer s.Close()
	return c.Serve(map[string]child.Handler{
		"address": func(json.RawMessage) (any, error) { return serverAt{s.URL(), s.Secret()}, nil },
		"enqueue": func(arg json.RawMessage) (any, error) {
			var run standin.Run
			if err := json.Unmarshal(arg, &run); err != nil {
				return nil, err
			}
			return s.Enqueue(run)
		},
		"wait": func(arg json.RawMessage) (any, error) {
			var id string
			if err := json.Unmarshal(arg, &id); err != nil {
				return nil, err
			}
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
			defer cancel()
			record, err := s.Wait(ctx, id)
			if record != nil {
				record.Logs = nil // they may be many
			}
			if err == nil && record.Reason != "success" {
				err = fmt.Errorf("the run ended with %s: %s: %s", record.Reason, record.ErrorType, record.ErrorMessage)
			}
			return record, err
		},
		"final": func(arg json.RawMessage) (any, error) {
			var id string
			if err := json.Unmarshal(arg, &id); err != nil {
				return nil, err
			}
			record, err := s.Run(id)
			if err != nil || record.Final == nil {
				return nil, fmt.Errorf("no final state: %w", err)
			}
			return record.Final.Text, nil
		},
		"violations": func(json.RawMessage) (any, error) {
			var all []error
			for _, v := range s.Violations() {
				all = append(all, errors.New(v.String()))
			}
			return nil, errors.Join(all...)
		},
	})
}

// served is a stand-in and a `millrace serve` process that works for it.
type served struct {
	server *child.Process
	worker *exec.Cmd
	output bytes.Buffer
}

// serve starts both. settings are variables of the worker's environment.
func (b *suite) serve(spec serverSpec, settings ...string) (*served, error) {
	if err := b.build(); err != nil {
		return nil, err
	}
	s := &served{}
	var err error
	if s.server, err = child.Start(serverRole, spec); err != nil {
		return nil, err
	}
	var at serverAt
	if err := s.call("address", nil, &at); err != nil {
		return nil, errors.Join(err, s.server.Close())
	}
	s.worker = exec.Command(b.millrace, "serve")
	s.worker.Env = append(os.Environ(), append([]string{
		"WORKER_LIGHTNING_SERVICE_URL=" + at.URL, "WORKER_SECRET=" + at.Secret, "WORKER_PORT=0", "WORKER_LOG_LEVEL=warn",
		"WORKER_BACKOFF=0.01/0.1", "MILLRACE_COMPRESS=" + strconv.FormatBool(spec.Compress), "MILLRACE_NO_INSTALL=true",
		"MILLRACE_NODE_EXECUTOR=" + filepath.Join(b.root, "worker/node/bin/millrace-node-worker.js"),
	}, settings...)...)
	s.worker.Stdout, s.worker.Stderr = &s.output, &s.output
	if err := s.worker.Start(); err != nil {
		return nil, errors.Join(err, s.server.Close())
	}
	return s, nil
}

// close ends both, and says what either has to complain of.
func (s *served) close() error {
	err := s.worker.Process.Signal(syscall.SIGTERM)
	if werr := s.worker.Wait(); werr != nil {
		err = fmt.Errorf("millrace serve: %w\n%s", werr, s.output.Bytes())
	}
	return errors.Join(err, s.call("violations", nil, nil), s.server.Close())
}

func (s *served) call(op string, arg, value any) error {
	return s.server.Call(context.Background(), op, arg, value)
}

func (s *served) enqueue(run standin.Run) (id string, err error) {
	return id, s.call("enqueue", run, &id)
}

func (s *served) wait(id string) (*standin.RunRecord, error) {
	var r standin.RunRecord
	return &r, s.call("wait", id, &r)
}

// run runs one and returns what the server knows of it.
func (s *served) run(run standin.Run) (*standin.RunRecord, error) {
	id, err := s.enqueue(run)
	if err != nil {
		return nil, err
	}
	return s.wait(id)
}

// host is the worker's own process; all are its executors' too.
func (s *served) host() []int { return []int{s.worker.Process.Pid} }

func (s *served) all() []int {
	all := s.host()
	for i := 0; i < len(all); i++ {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", all[i]))
		if err != nil {
			return all
		}
		for _, path := range tasks {
			text, err := os.ReadFile(path)
			if err != nil {
				continue // the thread has ended
			}
			for _, f := range strings.Fields(string(text)) {
				if pid, err := strconv.Atoi(f); err == nil {
					all = append(all, pid)
				}
			}
		}
	}
	return all
}

// lineOf is a run whose jobs follow each other. Bodies are what a job's function
// does with state.
func lineOf(dataclip []byte, options map[string]any, bodies ...string) (standin.Run, error) {
	type object = map[string]any
	var jobs, edges []object
	for i, body := range bodies {
		id := fmt.Sprint("job-", i)
		jobs = append(jobs, object{"id": id, "name": id, "body": "export default [(state) => {" + body + "; return state; }];"})
		edge := object{"id": "to-" + id, "target_job_id": id, "condition": "always"}
		if i == 0 {
			edge["source_trigger_id"] = "trigger"
		} else {
			edge["source_job_id"] = fmt.Sprint("job-", i-1)
		}
		edges = append(edges, edge)
	}
	plan, err := json.Marshal(object{
		"starting_node_id": "trigger", "triggers": []object{{"id": "trigger", "type": "webhook"}},
		"jobs": jobs, "edges": edges, "options": options,
	})
	return standin.Run{Plan: plan, Dataclip: dataclip}, err
}
