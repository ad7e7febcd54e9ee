package engine

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/millrace/millrace/engine/condition"
	"github.com/millrace/millrace/engine/demand"
	"github.com/millrace/millrace/engine/plan"
	"github.com/millrace/millrace/engine/pool"
)

// program is a plan made ready: executors named, code packed, conditions
// compiled. It is shared by all runs of the plan, and with it each step's
// concurrency limit.
type program struct {
	plan   *plan.Plan
	stages []*stage // by step index
}

// stage is one step of a program.
type stage struct {
	step   *plan.Step
	spec   *pool.Spec // nil: the step has no work
	code   pool.Code
	demand *demand.Stage
	edges  []edge
	next   *stage // the one that can be sent ahead; nil: none
	bets   bets   // on it
}

type edge struct {
	*plan.Edge
	to        int // the target's index
	condition *condition.Condition
}

// programs keeps the programs of plans that are in use or were lately.
type programs struct {
	mu   sync.Mutex
	made map[*plan.Plan]*entry
}

type entry struct {
	program *program
	users   int
	used    time.Time
}

// maxUnused is how many programs without a run are kept.
const maxUnused = 64

// get returns the plan's program, made by compile if need be; done gives it
// back.
func (p *programs) get(pl *plan.Plan, compile func(*plan.Plan) (*program, error)) (*program, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.made == nil {
		p.made = make(map[*plan.Plan]*entry)
	}
	e := p.made[pl]
	if e == nil {
		made, err := compile(pl)
		if err != nil {
			return nil, err
		}
		e = &entry{program: made}
		p.made[pl] = e
		p.evict()
	}
	e.users++
	return e.program, nil
}

func (p *programs) done(pr *program) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.made[pr.plan]; e != nil {
		e.users--
		e.used = time.Now()
	}
}

// evict drops the program that was not used for longest, if there are many.
func (p *programs) evict() {
	var oldest *plan.Plan
	unused := 0
	for pl, e := range p.made {
		if e.users > 0 || e.used.IsZero() {
			continue
		}
		unused++
		if oldest == nil || e.used.Before(p.made[oldest].used) {
			oldest = pl
		}
	}
	if unused > maxUnused {
		delete(p.made, oldest)
	}
}

// compile makes a plan's program. Conditions were checked when the plan was
// loaded, if PlanOptions were used; here they are compiled for good.
func (e *Engine) compile(p *plan.Plan) (*program, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	pr := &program{plan: p}
	for _, s := range p.Steps {
		st := &stage{step: s, demand: e.demand.NewStage(s.Concurrency, uint64(s.Reserve))}
		if err := e.pack(p, st); err != nil {
			return nil, fmt.Errorf("step %q: %w", s.ID, err)
		}
		for _, next := range s.Next {
			ed := edge{Edge: next, to: next.To.Index}
			if !next.Always() {
				var err error
				if ed.condition, err = condition.Compile(next.Condition); err != nil {
					return nil, &EdgeConditionError{From: s.ID, To: next.To.ID, Condition: next.Condition, Err: err}
				}
			}
			st.edges = append(st.edges, ed)
		}
		pr.stages = append(pr.stages, st)
	}
	pr.findNext()
	return pr, nil
}

// initialHeap is how far the heap of a JavaScript executor grows before the
// first collection of old objects. Node.js' own start is so low that the
// collection falls into the hand-over after the first step: 4 to 7 ms there, and
// none with this.
const initialHeap = 64 << 20

// pack chooses the executor for a step and packs its code.
func (e *Engine) pack(p *plan.Plan, st *stage) error {
	s := st.step
	reuse := func(standard bool) bool {
		if s.Reuse != nil {
			return *s.Reuse
		}
		return standard
	}
	switch {
	case s.Command != nil:
		c := s.Command
		env := make(map[string]string, len(c.Env))
		for _, v := range c.Env {
			env[v.Name] = v.Value
		}
		st.spec = &pool.Spec{Name: "command", Argv: e.options.CommandExecutor, DropKeys: p.Options.DropKeys, Reuse: reuse(true), PerTask: s.PerTask}
		return st.setCode("command", map[string]any{
			"argv": c.Argv, "env": env, "cwd": c.Dir, "state_fd": c.StateFD,
			"stdin": commandStdin(c.Stdin), "stdout": commandStdout(c.Stdout),
		})
	case s.Worker != nil:
		st.spec = &pool.Spec{Name: s.Worker.Argv[0], Argv: s.Worker.Argv, Dir: p.Dir, DropKeys: p.Options.DropKeys, Reuse: reuse(true), PerTask: s.PerTask}
		return st.setCode("function", map[string]any{"function": s.Worker.Function})
	case s.Python != nil:
		argv := append(orElse(p.Options.Python, e.options.Python), e.options.PythonExecutor...)
		st.spec = &pool.Spec{Name: "python", Argv: argv, Dir: p.Dir, DropKeys: p.Options.DropKeys, Reuse: reuse(false), PerTask: s.PerTask}
		return st.setCode("python", map[string]any{"path": s.Python.Path, "function": s.Python.Function})
	case s.Files != nil:
		st.spec = &pool.Spec{Name: "source", Argv: e.options.SourceExecutor, DropKeys: p.Options.DropKeys, Reuse: reuse(true), PerTask: s.PerTask}
		return st.setCode("source", sourceSpec(s.Files))
	case s.Expression != nil:
		argv := orElse(p.Options.Node, e.options.Node)
		if s.Memory == 0 || s.Memory >= 2*initialHeap {
			argv = append(argv, "--initial-old-space-size="+strconv.Itoa(initialHeap>>20))
		}
		if s.Memory > 0 {
			argv = append(argv, "--max-old-space-size="+strconv.FormatInt(max(s.Memory>>20, 16), 10))
		}
		argv = append(argv, e.options.NodeExecutor...)
		st.spec = &pool.Spec{Name: "node", Argv: argv, Dir: p.Dir, DropKeys: p.Options.DropKeys, Reuse: reuse(false), PerTask: s.PerTask}
		return st.setCode("javascript", e.javascript(p, s))
	}
	return nil
}

// sameSpec reports whether an executor of one stage can serve the other.
func (st *stage) sameSpec(other *stage) bool {
	return other.spec != nil && st.spec.Same(other.spec)
}

func orElse(a, b []string) []string {
	if len(a) == 0 {
		a = b
	}
	return append([]string(nil), a...)
}

func (e *Engine) javascript(p *plan.Plan, s *plan.Step) map[string]any {
	path := s.Expression.Path
	if path == "" {
		path = s.ID + ".js"
	}
	adaptors := []map[string]any{}
	for _, a := range s.Expression.Adaptors {
		name, version := splitSpecifier(a)
		adaptor := map[string]any{"name": name, "version": version}
		if m, ok := s.Expression.Linker[name]; ok {
			adaptor["path"], adaptor["version"] = m.Path, m.Version
		}
		adaptors = append(adaptors, adaptor)
	}
	spec := map[string]any{"source": s.Expression.Text, "path": path, "adaptors": adaptors, "repo_dir": e.options.AdaptorRepo}
	if p.Globals != nil {
		spec["globals"] = p.Globals.Text
	}
	return spec
}

// splitSpecifier splits "@scope/name@version".
func splitSpecifier(s string) (name, version string) {
	for i := len(s) - 1; i > 0; i-- {
		if s[i] == '@' {
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

func commandStdin(s plan.Stdin) any {
	switch s.From {
	case plan.ChannelKey:
		return map[string]string{"key": s.Key}
	case plan.ChannelStream:
		return map[string]string{"stream": s.Key}
	case plan.ChannelNone:
		return "none"
	}
	return "state"
}

func commandStdout(s plan.Stdout) any {
	switch s.To {
	case plan.ChannelKey:
		return map[string]string{"key": s.Key, "encoding": string(s.Encoding)}
	case plan.ChannelStream:
		return map[string]string{"stream": s.Key, "encoding": string(s.Encoding)}
	case plan.ChannelNone:
		return "ignore"
	}
	return "state"
}

// sourceSpec is a source step's work; what is not given is left out, for the
// executor's defaults.
func sourceSpec(f *plan.Files) map[string]any {
	spec := map[string]any{"paths": f.Paths, "skip_bad": f.SkipBad, "csv": map[string]any{
		"delimiter": f.Delimiter, "columns": f.Columns, "text": f.Text,
	}}
	for key, value := range map[string]string{"format": f.Format, "key": f.Key, "encoding": f.Encoding} {
		if value != "" {
			spec[key] = value
		}
	}
	if f.Batch > 0 {
		spec["batch"] = f.Batch
	}
	return spec
}

// setCode packs the code under an id that equal code has too, so that an
// executor is told it once whichever plan it came from.
func (st *stage) setCode(kind string, spec map[string]any) error {
	b, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(append([]byte(kind+"\x00"), b...))
	st.code = pool.Code{ID: binary.LittleEndian.Uint64(sum[:]), Kind: kind, Spec: string(b)}
	return nil
}
