package engine

import "github.com/millrace/millrace/worker"

// flowToken is the state that the steps of a flowWorld pass on.
type flowToken struct {
	Fuel int    `json:"fuel"`
	Acc  uint32 `json:"acc"` // what happened, in order
	Blob int    `json:"-"`   // the length of the blob
}

// value is what a caller makes of the token at one leaf. Those of several leaves
// are added, for they are in no order.
func (t flowToken) value() uint32 { return (t.Acc + 31*uint32(t.Blob)) & accMask }

const (
	accMask = 1<<30 - 1
	// failedCall stands for the value of a call that failed.
	failedCall = 1<<31 - 1
)

func mix(a, b uint32) uint32 { return (a*16777619 ^ b*2654435761 ^ b>>7) & accMask }

// flowModel says what must come of a flowWorld, by playing it with nothing at
// once.
type flowModel struct {
	steps []flowProgram
	// counts are the executions of each step. Unless exact, something that
	// failed may have kept others from being executed, so there may be fewer.
	counts [maxFlowSteps]int64
	exact  bool
}

// branch plays a step and, unless until is Step, what follows it.
func (m *flowModel) branch(step int, in flowToken, until worker.Until) (leaves []flowToken, status Status) {
	out, forward, status := m.execute(step, in)
	switch {
	case status == StatusCrash:
		m.exact = false // other branches are stopped
		return nil, status
	case status == StatusFail:
		return []flowToken{in}, status // its input, with the error recorded
	case forward >= 0:
		return m.branch(forward, out, until)
	}
	if until == worker.Leaf {
		for _, e := range m.steps[step].Edges {
			if out.Fuel > 0 && (!e.OnlyOdd || out.Acc%2 == 1) {
				more, s := m.branch(e.To, out, until)
				leaves, status = append(leaves, more...), worse(status, s)
			}
		}
	}
	if leaves == nil && status == StatusSuccess {
		leaves = []flowToken{out}
	}
	return leaves, status
}

func worse(a, b Status) Status {
	rank := map[Status]int{StatusSuccess: 0, StatusFail: 1, StatusCrash: 2}
	if rank[b] > rank[a] {
		return b
	}
	return a
}

func (m *flowModel) execute(step int, in flowToken) (out flowToken, forward int, status Status) {
	p := &m.steps[step]
	m.counts[step]++
	out = in
	out.Acc = mix(in.Acc, uint32(step)<<16|uint32(in.Fuel))
	if p.Grow > 0 {
		out.Blob = p.Grow
	}
	callee, rest := p.shares(in.Fuel)
	for _, c := range p.Calls {
		if callee == 0 {
			break
		}
		if status := m.calls(c, callee, &out); status != StatusSuccess {
			return out, -1, status
		}
	}
	out.Fuel = rest
	if p.End.How == endWell || in.Fuel%p.End.Mod != p.End.Rest {
		return out, -1, StatusSuccess
	}
	switch p.End.How {
	case endFail:
		return out, -1, StatusFail
	case endCrash:
		return out, -1, StatusCrash
	}
	if rest == 0 {
		return out, -1, StatusSuccess
	}
	return out, p.End.To, StatusSuccess
}

// calls plays the calls of a step and enters what comes of them in its token.
// It returns what they make the step fail with.
func (m *flowModel) calls(c flowCalls, fuel int, out *flowToken) Status {
	values := make([]uint32, c.N)
	failure, before := StatusSuccess, *out
	for i := range c.N {
		arg := flowToken{Fuel: fuel, Acc: mix(before.Acc, uint32(i))}
		if c.Inherit {
			// Calls in turn see what was adopted meanwhile, which is the last one's.
			arg.Blob = before.Blob
		}
		leaves, status := m.branch(c.To, arg, c.Until)
		if status != StatusSuccess {
			values[i] = failedCall
			if failure == StatusSuccess {
				failure = status
			}
			continue
		}
		for _, l := range leaves {
			values[i] = (values[i] + l.value()) & accMask
		}
		if c.Adopt && i == c.N-1 && len(leaves) == 1 && leaves[0].Blob > 0 {
			out.Blob = leaves[0].Blob
		}
	}
	if c.How == eachFirst && failure != StatusSuccess {
		m.exact = false // what was under way or to come is cancelled
		out.Acc = mix(out.Acc, failedCall)
		return StatusSuccess
	}
	for _, v := range values {
		out.Acc = mix(out.Acc, v)
	}
	if c.Propagate {
		return failure
	}
	return StatusSuccess
}
