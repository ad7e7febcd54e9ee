package conformance

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"
)

// DefaultTimeout is how long a case may take where Options does not say.
const DefaultTimeout = 20 * time.Second

// Options say what is tested.
type Options struct {
	// Argv is the executor under test and its arguments.
	Argv []string
	// Env is added to this process's environment, "NAME=value" each.
	Env []string
	// Kind says how it gets its steps.
	Kind Kind
	// Match selects cases by name; nil is all of them.
	Match *regexp.Regexp
	// Timeout bounds each case; 0 or less is DefaultTimeout.
	Timeout time.Duration
}

// Outcome is what came of a case.
type Outcome string

// The outcomes.
const (
	Pass Outcome = "pass"
	Fail Outcome = "fail"
	Skip Outcome = "skip" // it does not apply to this executor
)

// Result is one case's outcome.
type Result struct {
	Case    string
	Outcome Outcome
	// Reason is why it failed or was skipped, and for a failure the end of the
	// program's standard error.
	Reason string
	Took   time.Duration
}

// Summary counts outcomes.
type Summary struct{ Passed, Failed, Skipped int }

// Cases returns the names of all cases with a line about each, in order.
func Cases() (names, about []string) {
	for _, c := range allCases() {
		names, about = append(names, c.name), append(about, c.about)
	}
	return names, about
}

// Run runs the selected cases one after another and reports each when it has
// ended. A failed case is no error; errors are unusable options and the end of
// ctx.
func Run(ctx context.Context, options Options, report func(Result)) (Summary, error) {
	var sum Summary
	if len(options.Argv) == 0 {
		return sum, errors.New("no executor to test: name its program")
	}
	if options.Timeout <= 0 {
		options.Timeout = DefaultTimeout
	}
	kind, err := loadKind(options.Kind)
	if err != nil {
		return sum, err
	}
	defer kind.close()
	for _, c := range allCases() {
		if options.Match != nil && !options.Match.MatchString(c.name) {
			continue
		}
		result := runCase(ctx, &options, kind, c)
		if err := ctx.Err(); err != nil {
			return sum, err
		}
		switch result.Outcome {
		case Pass:
			sum.Passed++
		case Fail:
			sum.Failed++
		case Skip:
			sum.Skipped++
		}
		report(result)
	}
	if sum == (Summary{}) {
		return sum, errors.New("no case has a name that matches")
	}
	return sum, nil
}

// testCase is one case. run ends early by check.failf and check.skipf.
type testCase struct {
	name, about string
	run         func(*check)
}

func allCases() []testCase {
	var all []testCase
	for _, group := range [][]testCase{
		handshakeCases, stateCases(), memoryCases, stepCases, aheadCases, callCases, streamCases, lifeCases, junkCases(),
	} {
		all = append(all, group...)
	}
	return all
}

// check is a case under way.
type check struct {
	ctx      context.Context
	options  *Options
	kind     *kind
	book     *book
	sessions []*session
	closers  []func() error
}

// verdict is what failf and skipf end a case with.
type verdict struct {
	outcome Outcome
	reason  string
}

func (c *check) failf(format string, args ...any) {
	panic(verdict{Fail, fmt.Sprintf(format, args...)})
}

func (c *check) skipf(format string, args ...any) {
	panic(verdict{Skip, fmt.Sprintf(format, args...)})
}

// must fails the case on an error.
func (c *check) must(err error) {
	if err != nil {
		c.failf("%v", err)
	}
}

// within waits for a condition to become true.
func (c *check) within(limit time.Duration, holds func() bool) bool {
	for deadline := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		if holds() {
			return true
		}
		if time.Now().After(deadline) || c.ctx.Err() != nil {
			return false
		}
	}
}

func runCase(ctx context.Context, options *Options, kind *kind, tc testCase) Result {
	ctx, cancel := context.WithTimeout(ctx, options.Timeout)
	defer cancel()
	started := time.Now()
	c := &check{ctx: ctx, options: options, kind: kind, book: newBook()}
	// Whatever blocks on a program that does nothing ends with the program.
	defer context.AfterFunc(ctx, func() { c.book.killAll() })()
	v := c.judge(tc)
	for _, s := range c.sessions {
		s.end()
	}
	if v.outcome == Pass {
		for _, s := range c.sessions {
			if err := s.breached(); err != nil {
				v = verdict{Fail, "it broke a rule of the protocol: " + err.Error()}
			}
		}
	}
	if v.outcome == Fail {
		if ctx.Err() != nil {
			v.reason = fmt.Sprintf("not over within %v: %s", options.Timeout, v.reason)
		}
		for _, s := range c.sessions {
			if text := s.process.stderr.String(); text != "" {
				v.reason += "\nstandard error: " + text
			}
		}
	}
	for _, end := range c.closers {
		_ = end() // of memory that the case alone used
	}
	c.book.close()
	return Result{Case: tc.name, Outcome: v.outcome, Reason: v.reason, Took: time.Since(started)}
}

func (c *check) judge(tc testCase) (v verdict) {
	defer func() {
		if p := recover(); p != nil {
			end, ok := p.(verdict)
			if !ok {
				panic(p)
			}
			v = end
		}
	}()
	tc.run(c)
	return verdict{outcome: Pass}
}
