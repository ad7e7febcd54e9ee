package engine

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/engine/plan"
)

// interpreter is a language that steps are written in.
type interpreter struct {
	name         string // for people
	argv         []string
	library      string // the executor library's entry
	major, minor int    // the oldest release that will do
	flag         string // the engine's option, for messages
}

// InterpreterError is an interpreter that steps need and that is missing or too
// old.
type InterpreterError struct {
	// Step is one that needs it.
	Step string
	// Name is the language's, Program what was to be started.
	Name, Program string
	Msg           string
}

// Error implements error.
func (e *InterpreterError) Error() string {
	return fmt.Sprintf("step %q needs %s: %s %s", e.Step, e.Name, e.Program, e.Msg)
}

// interpreter returns the one that a step needs, or nil.
func (e *Engine) interpreter(p *plan.Plan, s *plan.Step) *interpreter {
	switch {
	case s.Expression != nil:
		return &interpreter{"Node.js", orElse(p.Options.Node, e.options.Node), e.options.NodeExecutor[0], 20, 0, "--node"}
	case s.Python != nil:
		return &interpreter{"Python", orElse(p.Options.Python, e.options.Python), e.options.PythonExecutor[0], 3, 9, "--python"}
	}
	return nil
}

// check starts the interpreter to ask for its version.
func (i *interpreter) check(step string) error {
	fail := func(format string, args ...any) error {
		return &InterpreterError{Step: step, Name: i.name, Program: strings.Join(i.argv, " "), Msg: fmt.Sprintf(format, args...)}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, i.argv[0], append(i.argv[1:len(i.argv):len(i.argv)], "--version")...).Output()
	if err != nil {
		return fail("cannot be started (%v); install it, or name another with %s", err, i.flag)
	}
	major, minor, ok := parseVersion(string(out))
	switch {
	case !ok:
		return fail("does not say its version (%q)", strings.TrimSpace(string(out)))
	case major < i.major || major == i.major && minor < i.minor:
		return fail("is version %d.%d, and %d.%d or later is needed", major, minor, i.major, i.minor)
	}
	if _, err := os.Stat(i.library); err != nil {
		return fail("is there, but millrace's library for it is not (%v)", err)
	}
	return nil
}

// parseVersion finds the version in what "node --version" (v20.1.2) or
// "python3 --version" (Python 3.11.2) prints.
func parseVersion(s string) (major, minor int, ok bool) {
	s = s[strings.LastIndexAny(strings.TrimSpace(s), " v")+1:]
	parts := strings.SplitN(strings.TrimSpace(s), ".", 3)
	if len(parts) < 2 {
		return 0, 0, false
	}
	major, err := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	return major, minor, err == nil && err2 == nil
}
