package command

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/worker"
)

// Main runs the process as an executor of commands, and never returns. See
// [worker.Main] for exit codes.
func Main() {
	worker.MainRunner(worker.Options{Language: "command", Capabilities: []string{ipc.CapabilityStreams}, Runner: NewRunner()})
}

// Runner runs steps of the kind "command".
type Runner struct{ starter starter }

var _ worker.Runner = (*Runner)(nil)

// NewRunner returns a Runner. The process becomes the reaper of its orphaned
// descendants; a process has one Runner.
func NewRunner() *Runner { return new(Runner) }

// Prepare implements [worker.Runner].
func (r *Runner) Prepare(kind, text string) (worker.Function, error) {
	if kind != "command" {
		return nil, &worker.Error{Name: "ValidationError", Severity: ipc.SeverityCrash,
			Message: fmt.Sprintf("this executor runs commands, not a step of kind %q", kind)}
	}
	s, err := parseSpec(text)
	if err != nil {
		return nil, &worker.Error{Name: "ValidationError", Severity: ipc.SeverityCrash, Message: "the step's command: " + err.Error(), Err: err}
	}
	return func(ctx context.Context, state *worker.State) error { return r.run(ctx, s, state) }, nil
}

// run executes a command once.
func (r *Runner) run(ctx context.Context, p *spec, s *worker.State) error {
	e := &execution{spec: p, ctx: ctx, state: s, info: worker.Info(ctx)}
	defer e.closeFiles()
	if err := e.prepare(); err != nil {
		return err
	}
	if err := e.run(&r.starter); err != nil {
		return err
	}
	if e.items != nil {
		return e.items.Close()
	}
	return e.takeOutput()
}

// environment returns what the command sees: what this process has, what the
// step adds, and the ids.
func (e *execution) environment() []string {
	env := make(map[string]string)
	for _, pair := range os.Environ() {
		if name, value, ok := strings.Cut(pair, "="); ok && name != "" {
			env[name] = value
		}
	}
	delete(env, ipc.FDVariable)
	delete(env, stateFDVariable)
	maps.Copy(env, e.spec.Env)
	env["MILLRACE_RUN_ID"], env["MILLRACE_STEP_ID"] = e.info.Run, e.info.Step
	if e.stateFile != nil {
		env[stateFDVariable] = fmt.Sprint(stateFD)
	}
	list := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, name+"="+env[name])
	}
	return list
}
