package differential

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/engine/plan"
)

// outcome is what a runtime made of a flow.
type outcome struct {
	// State is the final document; nil for none.
	State any `json:"state"`
	// Error is what ended the run before its leaves.
	Error *failure `json:"error"`
	// Steps that were executed, in the order of their ends.
	Steps []execution `json:"steps"`
	// Edges taken, from and to.
	Edges [][2]string `json:"edges"`
	// Invalid says that the plan was refused before it ran.
	Invalid bool `json:"-"`
}

type execution struct {
	ID    string   `json:"id"`
	Error *failure `json:"error"`
}

type failure struct {
	Name     string `json:"name"`
	Subtype  string `json:"subtype"`
	Severity string `json:"severity"`
	Message  string `json:"message"`
}

// nodePackages installs the packages of a folder if they are missing, and
// skips the test where there is no Node.js.
func nodePackages(t *testing.T, dir string) {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s was not found: the reference needs Node.js 20 or later with npm", program)
		}
	}
	lock, err := os.Stat(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	if done, err := os.Stat(filepath.Join(dir, "node_modules", ".package-lock.json")); err == nil && !done.ModTime().Before(lock.ModTime()) {
		return
	}
	cmd := exec.Command("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm ci in %s: %v\n%s", dir, err, out)
	}
}

// workerFolder is where the JavaScript executor is.
const workerFolder = "../../worker/node"

// onReference runs all flows on @openfn/runtime, in one process.
func onReference(t *testing.T, flows []flow, options any) []outcome {
	t.Helper()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "cases.json"), filepath.Join(dir, "results.json")
	b, err := json.Marshal(flows)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(in, b, 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"--no-warnings", "--experimental-vm-modules", "reference.mjs", in, out}
	if options != nil {
		args = append(args, js(options))
	}
	cmd := exec.Command("node", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("the reference: %v\n%s", err, stderr.Bytes())
	}
	if b, err = os.ReadFile(out); err != nil {
		t.Fatal(err)
	}
	var results []outcome
	if err := json.Unmarshal(b, &results); err != nil {
		t.Fatal(err)
	}
	if len(results) != len(flows) {
		t.Fatalf("the reference ran %d of %d cases", len(results), len(flows))
	}
	return results
}

func newEngine(t *testing.T, repo string) *engine.Engine {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(workerFolder, "bin", "millrace-node-worker.js"))
	if err != nil {
		t.Fatal(err)
	}
	eng, err := engine.New(engine.Options{NodeExecutor: []string{path}, AdaptorRepo: repo})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := eng.Close(); err != nil {
			t.Error(err)
		}
	})
	return eng
}

// onMillrace runs one flow on the engine.
func onMillrace(t *testing.T, eng *engine.Engine, f flow) outcome {
	t.Helper()
	document := object{}
	if err := json.Unmarshal([]byte(js(f.Plan)), &document); err != nil {
		t.Fatal(err)
	}
	options, _ := document["options"].(object)
	if options == nil {
		options = object{}
		document["options"] = options
	}
	// Executors are used again for speed; a step's code cannot tell.
	options["reuse"] = true
	p, err := plan.Parse("plan.json", []byte(js(document)), "", engine.PlanOptions())
	if err != nil {
		return outcome{Invalid: true, Error: &failure{Name: "InvalidError", Message: err.Error()}}
	}
	input := engine.FromBytes([]byte(js(f.Input)))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var o outcome
	run, err := eng.Submit(ctx, p, input, engine.RunOptions{Observe: func(e engine.Event) {
		switch {
		case e.Type == engine.EventEdge && e.Taken:
			o.Edges = append(o.Edges, [2]string{e.Step, e.To})
		case e.Type == engine.EventStepComplete:
			o.Steps = append(o.Steps, execution{ID: e.Step, Error: failureOf(e.Err)})
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	result, err := run.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if result.Status != engine.StatusSuccess && result.Status != engine.StatusFail {
		o.Error = failureOf(result.Err)
		return o
	}
	var doc bytes.Buffer
	if err := result.WriteDocument(&doc); err != nil {
		t.Fatalf("seed %d: the final state: %v", f.Seed, err)
	}
	if err := json.Unmarshal(doc.Bytes(), &o.State); err != nil {
		t.Fatalf("seed %d: the final state is not JSON: %v\n%s", f.Seed, err, doc.Bytes())
	}
	// A step without code is no step to the reference's listeners.
	o.Edges = slices.DeleteFunc(o.Edges, func(e [2]string) bool { return p.Step(e[0]).Expression == nil })
	return o
}

func failureOf(err error) *failure {
	if err == nil {
		return nil
	}
	var step *engine.StepError
	if !errors.As(err, &step) {
		return &failure{Message: err.Error()}
	}
	f := &failure{Name: step.Name, Severity: string(step.Status), Message: step.Message}
	return f
}
