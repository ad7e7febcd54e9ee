package lightning

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// DefaultCapacity is how many runs a worker has at once when it is not told.
const DefaultCapacity = 5

// Workloop is a place from which a worker claims runs: queues in the order in
// which they are preferred, and how many runs of them it may have at once.
type Workloop struct {
	Queues   []string
	Capacity int
}

// String returns the form that ParseWorkloops reads.
func (w Workloop) String() string { return fmt.Sprintf("%s:%d", w.key(), w.Capacity) }

// key names the workloop's queues, as the join of the queue does.
func (w Workloop) key() string { return strings.Join(w.Queues, ">") }

// DefaultWorkloops are those of a worker that is only told its capacity.
func DefaultWorkloops(capacity int) []Workloop {
	return []Workloop{{Queues: []string{"manual", "*"}, Capacity: capacity}}
}

// WorkloopError is a setting of workloops that cannot be understood.
type WorkloopError struct {
	// Token is the part of the setting that is wrong.
	Token string
	Msg   string
}

// Error implements error.
func (e *WorkloopError) Error() string {
	if e.Token == "" {
		return "workloops: " + e.Msg
	}
	return fmt.Sprintf("workloops: %q: %s", e.Token, e.Msg)
}

var queueName = regexp.MustCompile(`^[a-zA-Z0-9_]+$`)

// ParseWorkloops reads "fast_lane:1 manual>*:4": workloops with white space
// between them, each of queues joined by > and a capacity. doubts are what is
// allowed and most likely a mistake.
func ParseWorkloops(s string) (loops []Workloop, doubts []string, err error) {
	tokens := strings.Fields(s)
	if len(tokens) == 0 {
		return nil, nil, &WorkloopError{Msg: "the setting is empty: write <queues>:<capacity>, such as manual>*:5"}
	}
	seen := make(map[string]string)
	for _, token := range tokens {
		loop, doubt, err := parseWorkloop(token)
		if err != nil {
			return nil, nil, err
		}
		if doubt != "" {
			doubts = append(doubts, doubt)
		}
		if before, ok := seen[loop.key()]; ok {
			doubts = append(doubts, fmt.Sprintf("workloops %q and %q claim from the same queues", before, token))
		}
		seen[loop.key()] = token
		loops = append(loops, loop)
	}
	return loops, doubts, nil
}

func parseWorkloop(token string) (w Workloop, doubt string, err error) {
	fail := func(format string, args ...any) (Workloop, string, error) {
		return Workloop{}, "", &WorkloopError{Token: token, Msg: fmt.Sprintf(format, args...)}
	}
	colon := strings.LastIndexByte(token, ':')
	if colon < 0 {
		return fail("it has no :<capacity> at its end")
	}
	count := token[colon+1:]
	n, err := strconv.Atoi(count)
	if err != nil || strconv.Itoa(n) != count || n < 1 {
		return fail("its capacity %q is not a whole number of at least 1", count)
	}
	w = Workloop{Queues: strings.Split(token[:colon], ">"), Capacity: n}
	for i, name := range w.Queues {
		switch {
		case name == "":
			return fail("the name of a queue is empty")
		case name == "*" && i < len(w.Queues)-1:
			return fail("* stands for every other queue, so it can only be the last")
		case name != "*" && !queueName.MatchString(name):
			return fail("the queue name %q has other characters than letters, digits and _", name)
		case slices.Contains(w.Queues[:i], name):
			doubt = fmt.Sprintf("workloop %q names the queue %q twice", token, name)
		}
	}
	return w, doubt, nil
}

// capacity is the sum of all workloops'.
func capacity(loops []Workloop) int {
	n := 0
	for _, w := range loops {
		n += w.Capacity
	}
	return n
}
