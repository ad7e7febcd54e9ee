package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A workflow's steps in other languages run with this tree's libraries.

// needs returns the path of an interpreter. Without it the tests of its language
// fail, as they do in worker/conformance: a skip would pass for a success.
func needs(t *testing.T, interpreter string) string {
	t.Helper()
	path, err := exec.LookPath(interpreter)
	if err != nil {
		t.Fatalf("%s is needed to test the steps that it runs: %v", interpreter, err)
	}
	return path
}

// needsNode is needs for Node.js, and installs what its library needs, unless it
// is there.
func needsNode(t *testing.T) {
	t.Helper()
	needs(t, "node")
	const dir = "../../worker/node"
	if _, err := os.Stat(dir + "/node_modules"); err == nil {
		return
	}
	install := exec.CommandContext(t.Context(), "npm", "ci", "--no-audit", "--no-fund")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm ci in worker/node: %v\n%s", err, out)
	}
}

// libraries is the environment in which the engine finds the executors.
func libraries(t *testing.T) []string {
	t.Helper()
	return []string{
		"MILLRACE_PYTHON_EXECUTOR=" + absolute(t, "../../worker/python/millrace_worker.py"),
		"MILLRACE_NODE_EXECUTOR=" + absolute(t, "../../worker/node/bin/millrace-node-worker.js"),
	}
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	a, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// writer returns a function that writes a file in a folder and returns its path.
func writer(t *testing.T, dir string) func(name, content string) string {
	return func(name, content string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
}
