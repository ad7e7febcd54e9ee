package conformance

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/ipc/jsonscan"
	"github.com/millrace/millrace/shm"
)

var stepCases = []testCase{
	{"step/two-in-turn", "one executor runs several steps, each on its own state", func(c *check) {
		s := c.start(how{})
		for range 3 {
			c.wantState(s.run("set", c.document(`{"a":1}`)).state, `{"a":1,"added":`+added+`}`, false)
			c.wantState(s.run("append", c.document(`{"value":[]}`)).state, `{"value":["end"]}`, false)
		}
	}},
	{"step/throw", "an error of the step's fails it, with its message; the next step runs", func(c *check) {
		s := c.start(how{})
		f := s.begin("throw", c.document(`{"a":1}`)).failed()
		if !strings.Contains(f.Message, "conformance: thrown") {
			c.failf("the failure does not say what was thrown: %s: %s", f.Name, f.Message)
		}
		if f.Severity != ipc.SeverityFail && f.Severity != ipc.SeverityCrash {
			c.failf("the failure's severity is %s, want fail or crash", f.Severity)
		}
		s.run("identity", c.document(`{"a":1}`))
	}},
	{"step/unserialisable", "a value without a form fails the step, with the key's name; the next step runs", func(c *check) {
		s := c.start(how{})
		f := s.begin("unserialisable", c.document(`{"a":1}`)).failed()
		if !strings.Contains(f.Message+f.Details, "bad") {
			c.failf("the failure does not name the key bad: %s: %s %s", f.Name, f.Message, f.Details)
		}
		s.run("set", c.document(`{"a":1}`))
	}},
	{"step/invalid-input", "a state that is not JSON inside fails the step that reads it, not the executor", func(c *check) {
		if c.kind.name == KindCommand {
			c.skipf("a command gets its input as it is")
		}
		s := c.start(how{})
		s.begin("append", object(c.row("value", shm.JSON, `[1, oops`))).failed()
		s.run("set", c.document(`{"a":1}`))
	}},
	{"step/log", "log lines come before the answer, with its id", func(c *check) {
		s := c.start(how{})
		before := time.Now().Add(-time.Second).UnixMicro()
		res := s.run("log", c.document(`{"a":1}`))
		i := slices.IndexFunc(res.logs, func(l logLine) bool { return strings.Contains(l.Message, "conformance: hello") })
		if i < 0 {
			c.failf("no log line says %q; there are %d", "conformance: hello", len(res.logs))
		}
		l := res.logs[i]
		switch {
		case !slices.Contains([]string{"debug", "info", "success", "warn", "error"}, l.Level):
			c.failf("the log line has the unknown level %q", l.Level)
		case l.Source == "":
			c.failf("the log line has no source")
		case l.Structured && jsonscan.Validate([]byte(l.Message)) != nil:
			c.failf("the log line is said to be JSON and is not: %s", l.Message)
		case l.Time < uint64(before) || l.Time > uint64(time.Now().Add(time.Second).UnixMicro()):
			c.failf("the log line's time %d is not now, in Unix microseconds", l.Time)
		}
	}},
	{"step/times", "started and finished are around the step's own code", func(c *check) {
		s := c.start(how{})
		res := s.run("nap", c.document(`{}`))
		took := time.Duration(res.done.Finished - res.done.Started)
		if took < 290*time.Millisecond || took > 2*time.Second {
			c.failf("a step of 300ms took %v, by started and finished", took)
		}
	}},
	{"step/ping-during", "a ping is answered while a step runs", func(c *check) {
		s := c.start(how{})
		r := s.begin("sleep", c.document(`{}`))
		time.Sleep(50 * time.Millisecond)
		s.ping()
		s.cancel(r)
	}},
	{"step/cancel", "a cancelled step is answered soon, with severity cancel", func(c *check) {
		s := c.start(how{})
		s.run("identity", c.document(`{}`)) // started and warm
		r := s.begin("sleep", c.document(`{}`))
		time.Sleep(100 * time.Millisecond)
		s.cancel(r)
	}},
	{"step/cancel-early", "a cancel right behind its execute counts", func(c *check) {
		s := c.start(how{})
		s.cancel(s.begin("sleep", c.document(`{}`)))
	}},
	{"step/cancel-other", "a cancel of what does not run does nothing", func(c *check) {
		s := c.start(how{})
		s.send(&ipc.Envelope{ID: 4242, Message: &ipc.Cancel{Reason: "never asked for"}})
		r := s.begin("nap", c.document(`{}`))
		s.send(&ipc.Envelope{ID: 4243, Message: &ipc.Cancel{Reason: "another"}})
		c.wantState(r.done().state, `{"napped":true}`, false)
		s.send(&ipc.Envelope{ID: r.ID, Message: &ipc.Cancel{Reason: "too late"}})
		s.ping()
		s.run("identity", c.document(`{"a":1}`))
	}},
	{"step/during", "attach, release and detach come while a step runs", func(c *check) {
		s := c.start(how{})
		old := s.run("append", c.document(`{"value":[1]}`))
		in := c.document(`{"a":1}`)
		r := s.begin("nap", in)
		other := c.row("x", shm.JSON, `1`)
		for _, seg := range c.book.missing(object(other), s) {
			s.send(&ipc.Envelope{Message: &ipc.Attach{Segment: seg.ID(), Size: uint64(seg.Size())}, File: seg.File()})
		}
		s.release(old.done.Blocks)
		s.send(&ipc.Envelope{Message: &ipc.Detach{Segments: []shm.SegmentID{other.Spans[0].Segment}}})
		c.wantState(r.done().state, `{"a":1,"napped":true}`, false)
	}},
	{"step/unknown-code", "an execute of a code that was never prepared fails, and nothing else", func(c *check) {
		s := c.start(how{})
		s.execute(ipc.Execute{Code: 777}, c.document(`{}`)).failed()
		s.run("identity", c.document(`{"a":1}`))
	}},
	{"step/bad-code", "a code that cannot be used fails its executes, and nothing else", func(c *check) {
		s := c.start(how{})
		for _, code := range []uint64{
			s.prepareSpec("no such kind", `{}`),
			s.prepareSpec(string(c.kind.name), `{}`),
			s.prepareSpec(string(c.kind.name), `[1]`),
			s.prepareSpec(string(c.kind.name), `not JSON`),
		} {
			s.execute(ipc.Execute{Code: code}, c.document(`{}`)).failed()
		}
		s.run("identity", c.document(`{"a":1}`))
	}},
	{"step/conditions", "conditions are answered in order, a bad one with its error", func(c *check) {
		s := c.start(how{})
		s.need(ipc.CapabilityConditions)
		conditions := []string{"state.added.list.length > 2", "state.a === 2", "(", "state.added.text.startsWith('a')"}
		done := s.execute(ipc.Execute{Code: s.prepare("set"), Conditions: conditions}, c.document(`{"a":1}`)).done().done
		if len(done.Verdicts) != len(conditions) {
			c.failf("%d verdicts for %d conditions", len(done.Verdicts), len(conditions))
		}
		for i, want := range []bool{true, false, false, true} {
			v := done.Verdicts[i]
			if v.Taken != want || (v.Error != "") != (i == 2) {
				c.failf("condition %s: taken %v, error %q", conditions[i], v.Taken, v.Error)
			}
		}
	}},
	{"step/noise", "what is on standard input or written to standard output does not matter", func(c *check) {
		s := c.start(how{stdin: []byte(strings.Repeat("\x00\xffnoise\n", 1000))})
		s.ping()
		c.wantState(s.run("identity", c.document(`{"a":1}`)).state, `{"a":1}`, false)
		c.wantState(s.run("noise", c.document(`{"a":1}`)).state, `{"a":1,"noisy":true}`, false)
	}},
}

// cancel cancels and checks that the answer comes soon. The program may exit
// afterwards, when it cannot stop a step in any other way.
func (s *session) cancel(r *request) {
	s.send(&ipc.Envelope{ID: r.ID, Message: &ipc.Cancel{Reason: "conformance"}})
	ctx, done := context.WithTimeout(s.check.ctx, 5*time.Second)
	defer done()
	e, err := r.Wait(ctx)
	if err != nil {
		s.lost("the cancelled step was not answered within 5s", err)
	}
	f, ok := e.Message.(*ipc.Fail)
	if !ok {
		s.check.failf("the cancelled step was answered with %s", e.Message.Type())
	}
	s.checkFail(f)
	if f.Severity != ipc.SeverityCancel {
		s.check.failf("the cancelled step failed with severity %s (%s: %s), want cancel", f.Severity, f.Name, f.Message)
	}
}
