package conformance

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

const nodeDir = "../node"

// node returns the interpreter, with the worker's dependencies installed.
func node(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("node")
	if err != nil {
		t.Fatal("Node.js 20 or later is needed to test its executor: ", err)
	}
	if _, err := os.Stat(filepath.Join(nodeDir, "node_modules")); err != nil {
		install := exec.CommandContext(t.Context(), "npm", "ci", "--no-audit", "--no-fund")
		install.Dir = nodeDir
		if out, err := install.CombinedOutput(); err != nil {
			t.Fatalf("npm ci in worker/node: %v\n%s", err, out)
		}
	}
	return path
}

func TestJavaScriptExecutor(t *testing.T) {
	conform(t, Options{
		Argv: []string{node(t), nodeDir + "/bin/millrace-node-worker.js"}, Kind: KindJavaScript,
	}, "handshake/ring", "step/noise")
}

func TestNodeWorker(t *testing.T) {
	if testing.Short() {
		t.Skip("the library is the one that its executor has")
	}
	conform(t, Options{
		Argv: []string{node(t), "testdata/worker.mjs"}, Kind: KindFunction,
	}, "handshake/ring")
}

// python returns the interpreter.
func python(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err != nil {
		t.Fatal("Python 3.9 or later is needed to test its executor: ", err)
	}
	return path
}

func TestPythonExecutor(t *testing.T) {
	conform(t, Options{
		Argv: []string{python(t), "../python/millrace_worker.py"}, Kind: KindPython,
	}, append(namesOf(aheadCases), "handshake/ring", "state/nothing", "step/conditions")...)
}

func TestPythonWorker(t *testing.T) {
	if testing.Short() {
		t.Skip("the library is the one that its executor has")
	}
	conform(t, Options{
		Argv: []string{python(t), "testdata/worker.py"}, Kind: KindFunction,
	}, append(namesOf(aheadCases), "handshake/ring", "state/nothing", "step/conditions")...)
}
