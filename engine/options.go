package engine

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"github.com/millrace/millrace/engine/pool"
)

// Options configure an Engine. Zero values mean the defaults named.
type Options struct {
	// Logger gets what belongs to no run. Default: discarded.
	Logger *slog.Logger
	// MaxExecutors is how many executors work at once, over all runs.
	// Default: twice the processors, at least 4.
	MaxExecutors int
	// Memory is how many bytes of state all runs may hold. Above it steps wait
	// until others end; it is back-pressure, not an error. Default: none.
	Memory uint64
	// RunMemory is each run's budget of state in bytes, where its plan has
	// none; a step that passes it fails. Default: none.
	RunMemory uint64
	// CommandExecutor starts the executor for command steps. Default: this
	// program if it is millrace, else the millrace found in PATH, with the
	// argument command-executor.
	CommandExecutor []string
	// SourceExecutor starts the executor for source steps. Default: the program
	// millrace-source beside this one, else in PATH.
	SourceExecutor []string
	// NodeExecutor and PythonExecutor are the programs' arguments after the
	// interpreter: the path of the worker library's entry. Default: found
	// beside this program; see FindExecutor.
	NodeExecutor, PythonExecutor []string
	// Node and Python are the interpreters, where a plan names none.
	// Default: node and python3.
	Node, Python []string
	// AdaptorRepo is the folder in which OpenFn adaptors are installed.
	AdaptorRepo string

	// StartTimeout, GracePeriod, IdleTimeout, RetainBytes, PrefaultBytes: see
	// pool.Options. With a limit on Memory, RetainBytes is by default so small
	// that what all executors at work keep is a quarter of it at most.
	StartTimeout, GracePeriod, IdleTimeout time.Duration
	RetainBytes, PrefaultBytes             uint64
	// ConditionTimeout is how long one edge condition may take. Default 1 s.
	ConditionTimeout time.Duration
}

// CommandExecutorArgument is the sub-command that makes millrace an executor of
// commands.
const CommandExecutorArgument = "command-executor"

// sourceProgram is the executor of source steps.
const sourceProgram = "millrace-source"

// minRetain is the least that executors keep of freed memory by default: an
// arena's segment.
const minRetain = 1 << 20

func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MaxExecutors <= 0 {
		o.MaxExecutors = max(4, 2*runtime.GOMAXPROCS(0))
	}
	if o.RetainBytes == 0 && o.Memory > 0 {
		o.RetainBytes = max(min(pool.DefaultRetainBytes, o.Memory/uint64(4*o.MaxExecutors)), minRetain)
	}
	if o.ConditionTimeout <= 0 {
		o.ConditionTimeout = time.Second
	}
	if len(o.CommandExecutor) == 0 {
		o.CommandExecutor = []string{millraceProgram(), CommandExecutorArgument}
	}
	if len(o.SourceExecutor) == 0 {
		o.SourceExecutor = []string{beside(sourceProgram)}
	}
	if len(o.Node) == 0 {
		o.Node = []string{"node"}
	}
	if len(o.Python) == 0 {
		o.Python = []string{"python3"}
	}
	if len(o.NodeExecutor) == 0 {
		o.NodeExecutor = []string{FindExecutor("MILLRACE_NODE_EXECUTOR", "node/bin/millrace-node-worker.js")}
	}
	if len(o.PythonExecutor) == 0 {
		o.PythonExecutor = []string{FindExecutor("MILLRACE_PYTHON_EXECUTOR", "python/millrace_worker.py")}
	}
}

// millraceProgram returns the path of the millrace command.
func millraceProgram() string {
	self, err := os.Executable()
	if err == nil && filepath.Base(self) == "millrace" {
		return self
	}
	if path, err := exec.LookPath("millrace"); err == nil {
		return path
	}
	return "millrace" // not found: the error names it
}

// beside returns the path of a program that stands in the folder of this one, or
// its name, to be looked up in PATH, when there is none.
func beside(name string) string {
	self, err := os.Executable()
	if err != nil {
		return name
	}
	path := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(path); err != nil {
		return name
	}
	return path
}

// FindExecutor returns the path of a worker library's entry: what the
// environment variable says, else the first that exists of worker/ beside this
// program or one folder up, and ../share/millrace/worker. When there is none
// it returns the first of these, for an error to name.
func FindExecutor(variable, path string) string {
	if s := os.Getenv(variable); s != "" {
		return s
	}
	self, err := os.Executable()
	if err != nil {
		return path
	}
	if real, err := filepath.EvalSymlinks(self); err == nil {
		self = real
	}
	dir := filepath.Dir(self)
	var candidates []string
	for _, base := range []string{"worker", "../worker", "../share/millrace/worker"} {
		candidates = append(candidates, filepath.Join(dir, base, path))
	}
	for _, c := range candidates {
		if _, err := os.Stat(c); err == nil {
			return c
		}
	}
	return candidates[0]
}
