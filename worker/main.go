package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/millrace/millrace/ipc"
)

// Function is a step's code. The state it is given is its input, and what it
// has made of it when it returns nil is its result; an error fails the step
// (see [Error]). ctx ends when the step is cancelled or out of time. Both are
// valid until the function returns.
type Function func(ctx context.Context, s *State) error

// Functions are a program's functions by name: the `function` of a step in a
// workflow file.
type Functions map[string]Function

// Main runs the program as an executor and never returns. It exits with 0 when
// the supervisor is done with it, with 1 when the control channel failed, and
// with 2 when the program was not started by a supervisor. With the argument
// --functions it prints the functions' names instead, one a line.
func Main(functions Functions) {
	names := functions.names()
	if len(os.Args) == 2 && os.Args[1] == "--functions" {
		for _, name := range names {
			fmt.Println(name)
		}
		os.Exit(0)
	}
	MainRunner(Options{
		Language:     "go",
		Functions:    names,
		Capabilities: []string{ipc.CapabilityCalls, ipc.CapabilityStreams},
		Runner:       &functionRunner{functions: functions, names: names},
	})
}

// MainRunner is [Main] for another kind of step.
func MainRunner(options Options) {
	conn, err := ipc.FromEnvironment()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", program(), err)
		if len(options.Functions) > 0 {
			fmt.Fprintf(os.Stderr, "functions: %s\n", strings.Join(options.Functions, ", "))
		}
		os.Exit(2)
	}
	// The terminal's Ctrl-C is the supervisor's to act on. Caught and dropped,
	// not ignored: a child would inherit that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT)
	if err := Serve(conn, options); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", program(), err)
		os.Exit(1)
	}
	os.Exit(0)
}

func program() string {
	if len(os.Args) == 0 {
		return "worker"
	}
	return os.Args[0][strings.LastIndexByte(os.Args[0], '/')+1:]
}

func (f Functions) names() []string { return slices.Sorted(maps.Keys(f)) }

// functionRunner runs steps of the kind "function".
type functionRunner struct {
	functions Functions
	names     []string
}

func (r *functionRunner) Prepare(kind, spec string) (Function, error) {
	if kind != "function" {
		return nil, &Error{Name: "ValidationError", Severity: ipc.SeverityCrash,
			Message: fmt.Sprintf("this executor runs functions, not a step of kind %q", kind)}
	}
	var s struct {
		Function string `json:"function"`
	}
	if err := json.Unmarshal([]byte(spec), &s); err != nil {
		return nil, &Error{Name: "ValidationError", Severity: ipc.SeverityException, Message: "the step's specification: " + err.Error()}
	}
	f, ok := r.functions[s.Function]
	if !ok || f == nil {
		return nil, &Error{
			Name: "ValidationError", Severity: ipc.SeverityCrash,
			Message: fmt.Sprintf("%s has no function %q; it has %s", program(), s.Function, quoteList(r.names)),
			Details: map[string]any{"function": s.Function, "functions": r.names},
		}
	}
	return f, nil
}

// quoteList names up to twenty names for an error message.
func quoteList(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	more := ""
	if len(names) > 20 {
		more = fmt.Sprintf(" and %d more", len(names)-20)
		names = names[:20]
	}
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = fmt.Sprintf("%q", name)
	}
	return strings.Join(quoted, ", ") + more
}
