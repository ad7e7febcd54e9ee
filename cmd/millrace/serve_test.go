package main

import (
	"bytes"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/engine/lightning"
)

// serveOptions reads a command line and an environment as serve does.
func serveOptions(t *testing.T, environment map[string]string, args ...string) (lightning.Options, *serveFlags, error) {
	t.Helper()
	var f serveFlags
	cmd := &cobra.Command{Use: "serve"}
	f.register(cmd)
	if err := cmd.ParseFlags(args); err != nil {
		return lightning.Options{}, nil, err
	}
	if err := fromEnvironment(cmd.Flags(), func(name string) (string, bool) { v, ok := environment[name]; return v, ok }); err != nil {
		return lightning.Options{}, nil, err
	}
	f.node = "true" // --version of it says nothing
	o, err := f.options(cmd.Flags().Changed, slog.New(slog.DiscardHandler))
	return o, &f, err
}

func TestServeDefaultsAreTheReferences(t *testing.T) {
	o, f, err := serveOptions(t, map[string]string{"WORKER_SECRET": "s"})
	if err != nil {
		t.Fatal(err)
	}
	if o.URL != "ws://localhost:4000/worker" || o.Secret != "s" || f.port != 2222 || o.MessageTimeout != 30*time.Second || o.ClaimTimeout != time.Hour ||
		o.MinBackoff != time.Second || o.MaxBackoff != 10*time.Second || o.NoLoop || o.BatchLogs || o.BatchInterval != 10*time.Millisecond || o.BatchLimit != 50 {
		t.Errorf("%+v", o)
	}
	if want := (lightning.Limits{RunTimeout: 5 * time.Minute, RunMemory: 500 << 20, Payload: 10 << 20, LogPayload: 1 << 20}); o.Limits != want {
		t.Errorf("limits %+v", o.Limits)
	}
	if o.Workloops[0].String() != "manual>*:5" || len(o.Workloops) != 1 || o.Encoding != lightning.EncodingString || o.NoFinalState {
		t.Errorf("%+v", o)
	}
	if !slices.Equal(o.StatePropsToRemove, []string{"configuration", "response"}) {
		t.Errorf("%q", o.StatePropsToRemove)
	}
}

func TestServeEnvironment(t *testing.T) {
	environment := map[string]string{
		"WORKER_SECRET": "s", "WORKER_LIGHTNING_SERVICE_URL": "ws://a/worker", "WORKER_PORT": "0", "WORKER_WORKLOOPS": "fast_lane:1 manual>*:4",
		"WORKER_BACKOFF": "0.5/2", "WORKER_MAX_RUN_MEMORY_MB": "100", "WORKER_MAX_PAYLOAD_MB": "2.5", "WORKER_MAX_LOG_PAYLOAD_MB": "2",
		"WORKER_MAX_RUN_DURATION_SECONDS": "60", "WORKER_STATE_PROPS_TO_REMOVE": "configuration,x", "WORKER_MESSAGE_TIMEOUT_SECONDS": "5",
		"WORKER_CLAIM_TIMEOUT_SECONDS": "7", "WORKER_BATCH_LOGS": "1", "WORKER_BATCH_INTERVAL": "20", "WORKER_BATCH_LIMIT": "9",
		"WORKER_COLLECTIONS_URL": "http://c", "WORKER_COLLECTIONS_VERSION": "1.0.0", "OPENFN_ADAPTORS_REPO": "/m", "WORKER_REPO_DIR": "/r",
		"WORKER_VALIDATION_TIMEOUT_MS": "1", "WORKER_VALIDATION_RETRIES": "1", "WORKER_PROFILE": "true", "WORKER_PROFILE_POLL_INTERVAL_MS": "1",
		"WORKER_TIMEOUT_RETRY_COUNT": "1", "WORKER_TIMEOUT_RETRY_DELAY_MS": "1", "WORKER_SENTRY_DSN": "x", "WORKER_SENTRY_ENV": "x", "WORKER_LOG_LEVEL": "default",
	}
	o, f, err := serveOptions(t, environment, "-l", "ws://b/worker")
	if err != nil {
		t.Fatal(err)
	}
	if o.URL != "ws://b/worker" {
		t.Errorf("the variable went before the flag: %s", o.URL)
	}
	if o.Workloops[1].String() != "manual>*:4" || o.MinBackoff != 500*time.Millisecond || o.MaxBackoff != 2*time.Second ||
		o.Limits != (lightning.Limits{RunTimeout: time.Minute, RunMemory: 100 << 20, Payload: 5 << 19, LogPayload: 2 << 20}) ||
		!slices.Equal(o.StatePropsToRemove, []string{"configuration", "x"}) || o.MessageTimeout != 5*time.Second || o.ClaimTimeout != 7*time.Second ||
		!o.BatchLogs || o.BatchInterval != 20*time.Millisecond || o.BatchLimit != 9 || o.CollectionsURL != "http://c" || o.CollectionsVersion != "1.0.0" ||
		o.MonorepoDir != "/m" || f.repoDir != "/r" {
		t.Errorf("%+v", o)
	}
	if _, err := f.logger(io.Discard); err != nil {
		t.Error(err)
	}
}

// TestServeCompresses: by default across a network, never on one host.
func TestServeCompresses(t *testing.T) {
	secret := map[string]string{"WORKER_SECRET": "s"}
	for _, c := range []struct {
		environment map[string]string
		args        []string
		want        bool
	}{
		{secret, nil, false},
		{secret, []string{"-l", "ws://127.0.0.2:4000/worker"}, false},
		{secret, []string{"-l", "wss://[::1]/worker"}, false},
		{secret, []string{"-l", "wss://lightning.example/worker"}, true},
		{secret, []string{"-l", "wss://lightning.example/worker", "--compress=false"}, false},
		{secret, []string{"--compress"}, true},
		{map[string]string{"WORKER_SECRET": "s", "MILLRACE_COMPRESS": "true"}, nil, true},
	} {
		o, _, err := serveOptions(t, c.environment, c.args...)
		if err != nil {
			t.Fatal(err)
		}
		if o.Socket.Compress != c.want {
			t.Errorf("%v %v: compress is %t", c.environment, c.args, o.Socket.Compress)
		}
	}
}

func TestServeRefuses(t *testing.T) {
	secret := map[string]string{"WORKER_SECRET": "s"}
	for _, c := range []struct {
		environment map[string]string
		args        []string
		want        string
	}{
		{nil, nil, "WORKER_SECRET"},
		{secret, []string{"--capacity", "3", "--workloops", "a:1"}, "exclude each other"},
		{map[string]string{"WORKER_SECRET": "s", "WORKER_CAPACITY": "3", "WORKER_WORKLOOPS": "a:1"}, nil, "exclude each other"},
		{secret, []string{"--workloops", "a"}, "no :<capacity>"},
		{secret, []string{"--capacity", "0"}, "at least 1"},
		{secret, []string{"--backoff", "10/1"}, "MIN/MAX"},
		{secret, []string{"--backoff", "1"}, "MIN/MAX"},
		{secret, []string{"--dataclip-encoding", "xml"}, "string, object or auto"},
		{secret, []string{"--framing", "x"}, "fragmented or whole"},
		{secret, []string{"--lightning-public-key", "x"}, "base64"},
		{secret, []string{"--run-state", "x"}, "--run-state"},
		{map[string]string{"WORKER_SECRET": "s", "WORKER_PORT": "x"}, nil, "WORKER_PORT"},
	} {
		if _, _, err := serveOptions(t, c.environment, c.args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v %v: %v; want %q", c.environment, c.args, err, c.want)
		}
	}
}

func TestServeHelpHasEveryFlag(t *testing.T) {
	cmd := serveCommand()
	var help bytes.Buffer
	cmd.SetOut(&help)
	if err := groupedUsage(&help, cmd); err != nil {
		t.Fatal(err)
	}
	variables := make(map[string]bool)
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && !strings.Contains(help.String(), "--"+f.Name) {
			t.Errorf("--%s is in no group", f.Name)
		}
		for _, v := range f.Annotations[environmentAnnotation] {
			if variables[v] {
				t.Errorf("%s is the variable of two flags", v)
			}
			variables[v] = true
		}
	})
	for _, v := range []string{"WORKER_PORT", "WORKER_LIGHTNING_SERVICE_URL", "WORKER_SECRET", "WORKER_REPO_DIR", "OPENFN_ADAPTORS_REPO",
		"WORKER_CAPACITY", "WORKER_WORKLOOPS", "WORKER_BACKOFF", "WORKER_SOCKET_TIMEOUT_SECONDS", "WORKER_SENTRY_DSN"} {
		if !variables[v] {
			t.Errorf("no flag for %s, only %v", v, slices.Sorted(maps.Keys(variables)))
		}
	}
}

func TestServeHTTP(t *testing.T) {
	eng, err := engine.New(engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close()
	worker, err := lightning.New(lightning.Options{Engine: eng, Secret: "s"})
	if err != nil {
		t.Fatal(err)
	}
	defer worker.Stop()
	handler := serveHandler(worker)
	for _, c := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/", 200, "OK"}, {"GET", "/livez", 200, "OK"}, {"GET", "/other", 404, ""},
		{"GET", "/metrics", 200, "millrace_lightning_capacity 5"}, {"POST", "/claim", 204, ""}, {"GET", "/claim", 405, ""},
	} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(c.method, c.path, http.NoBody))
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.body) {
			t.Errorf("%s %s: %d %.200s", c.method, c.path, w.Code, w.Body)
		}
	}
}
