package engine

import (
	"encoding/json"
	"fmt"
	"strings"

	"pgregory.net/rapid"

	"github.com/millrace/millrace/worker"
)

// A flowWorld is a random plan and the runs of it that are under way at once.
// Its steps do as their programs say: they call each other, one by one, together
// or by Each, forward, loop along edges that go back, fail, and crash. All of it
// ends, because each execution spends one unit of fuel and divides the rest
// among those it causes; so a run of fuel n executes n steps at most.
type flowWorld struct {
	Slots, RunLimit int
	Steps           []flowProgram
	Runs            []flowRun
}

type flowRun struct {
	start, fuel int
	cancelAt    int // cancelled when so many steps have started; 0: never
}

// flowProgram is what a step does. It is the step's configuration.
type flowProgram struct {
	Index                  int
	Limit, Slots, RunLimit int // what the step checks
	Grow                   int // bytes that it writes first
	Calls                  []flowCalls
	End                    flowEnd
	Edges                  []flowEdge
}

// flowCalls are N calls of one step.
type flowCalls struct {
	How         callsHow
	To, N       int
	Concurrency int
	Until       worker.Until
	Inherit     bool // the argument has the caller's blob, by reference
	Adopt       bool // the caller takes over the last one's blob, by reference
	Propagate   bool // a failure is the caller's
}

type callsHow string

const (
	inTurn      callsHow = "in turn"
	together    callsHow = "together"
	eachFirst   callsHow = "each, first failure ends"
	eachCollect callsHow = "each, collect"
)

// flowEnd is how an execution ends whose fuel modulo Mod is Rest.
type flowEnd struct {
	How       endHow
	To        int
	Mod, Rest int
}

type endHow string

const (
	endWell    endHow = ""
	endFail    endHow = "fail"
	endCrash   endHow = "crash"
	endForward endHow = "forward"
)

// flowEdge is taken while there is fuel.
type flowEdge struct {
	To      int
	OnlyOdd bool // accumulators
}

// shares divides the fuel among the callees and the edges. A callee's is 0 when
// there is not enough for a call.
func (p *flowProgram) shares(fuel int) (callee, rest int) {
	n := 0
	for _, c := range p.Calls {
		n += c.N
	}
	callee = (fuel - 1) / (n + 1)
	return callee, (fuel - 1 - n*callee) / max(1, len(p.Edges))
}

func stepID(index int) string { return fmt.Sprintf("s%d", index) }

const (
	maxFlowSteps = 5
	maxFlowRuns  = 3
	maxFlowFuel  = 40
)

func drawFlowWorld(t *rapid.T, slots []int) flowWorld {
	number := func(label string, low, high int) int { return rapid.IntRange(low, high).Draw(t, label) }
	w := flowWorld{Slots: rapid.SampledFrom(slots).Draw(t, "slots"), RunLimit: number("runLimit", 0, 3)}
	steps := number("steps", 1, maxFlowSteps)
	until := rapid.SampledFrom([]worker.Until{worker.Step, worker.Leaf})
	for i := range steps {
		p := flowProgram{Index: i, Limit: number("limit", 0, 3), Slots: w.Slots, RunLimit: w.RunLimit}
		if rapid.Bool().Draw(t, "grows") {
			p.Grow = number("grow", 1, 20_000)
		}
		for range number("calls", 0, 2) {
			c := flowCalls{
				How: rapid.SampledFrom([]callsHow{inTurn, together, eachFirst, eachCollect}).Draw(t, "how"),
				To:  number("callee", 0, steps-1), N: number("n", 1, 4), Concurrency: number("concurrency", 1, 3),
				Until: until.Draw(t, "until"), Inherit: rapid.Bool().Draw(t, "inherit"),
			}
			if c.How != eachFirst { // which one fails first depends on time
				c.Adopt, c.Propagate = rapid.Bool().Draw(t, "adopt"), rapid.Bool().Draw(t, "propagate")
			}
			p.Calls = append(p.Calls, c)
		}
		// A crash costs a new process, so there are few.
		p.End.How = rapid.SampledFrom([]endHow{endWell, endWell, endWell, endFail, endFail, endForward, endForward, endCrash}).Draw(t, "end")
		if p.End.How != endWell {
			p.End.To, p.End.Mod = number("forwardTo", 0, steps-1), number("mod", 2, 5)
			p.End.Rest = number("rest", 0, p.End.Mod-1)
		}
		for _, to := range rapid.SliceOfNDistinct(rapid.IntRange(0, steps-1), 0, min(2, steps), rapid.ID[int]).Draw(t, "edges") {
			p.Edges = append(p.Edges, flowEdge{To: to, OnlyOdd: rapid.Bool().Draw(t, "odd")})
		}
		w.Steps = append(w.Steps, p)
	}
	for range number("runs", 1, maxFlowRuns) {
		r := flowRun{start: number("start", 0, steps-1), fuel: number("fuel", 1, maxFlowFuel)}
		if number("cancel?", 0, 4) == 0 {
			r.cancelAt = number("cancelAt", 1, r.fuel)
		}
		w.Runs = append(w.Runs, r)
	}
	return w
}

// text returns the plan as a workflow file for flow.
func (w *flowWorld) text(name string) (string, error) {
	var text strings.Builder
	fmt.Fprintf(&text, "name: %s\n", name)
	if w.RunLimit > 0 {
		fmt.Fprintf(&text, "options: {concurrency: %d}\n", w.RunLimit)
	}
	fmt.Fprintln(&text, "steps:")
	for i, p := range w.Steps {
		program, err := json.Marshal(p)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&text, "  - id: %s\n    configuration: %s\n    @act\n", stepID(i), program)
		if p.Limit > 0 {
			fmt.Fprintf(&text, "    concurrency: %d\n", p.Limit)
		}
		var next []string
		for _, e := range p.Edges {
			condition := "!state.errors && state.fuel > 0"
			if e.OnlyOdd {
				condition += " && state.acc % 2 === 1"
			}
			next = append(next, fmt.Sprintf("%s: %q", stepID(e.To), condition))
		}
		if len(next) > 0 {
			fmt.Fprintf(&text, "    next: {%s}\n", strings.Join(next, ", "))
		}
	}
	return text.String(), nil
}
