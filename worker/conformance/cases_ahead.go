package conformance

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// aheadCases are for executors that announce ahead.
var aheadCases = []testCase{
	{"ahead/follows", "an execute that was sent ahead is begun once the one before it is answered, on its result", func(c *check) {
		s := c.startAhead("nap")
		in := c.document(`{"a":1,"value":[]}`)
		first := s.begin("nap", in)
		second := s.ahead(first, "append")
		a, b := first.done(), second.done()
		c.wantState(b.state, `{"a":1,"value":["end"],"napped":true}`, false)
		c.wantKept(in, b.state, "a")
		c.wantKept(a.state, b.state, "napped")
		if b.done.Started < a.done.Finished {
			c.failf("it began at %d, before the one before it had finished at %d", b.done.Started, a.done.Finished)
		}
	}},
	{"ahead/chain", "one follows the other, each sent while the one before it is at work or just after", func(c *check) {
		s := c.startAhead("append")
		last := s.begin("append", c.document(`{"value":[0]}`))
		for i := range 40 {
			next := s.ahead(last, "append")
			if i%4 == 0 {
				time.Sleep(3 * time.Millisecond) // it has ended
			}
			last.done()
			last = next
		}
		row, _ := last.done().state.Get("value")
		if v := c.value(row); v != "[0"+strings.Repeat(`,"end"`, 41)+"]" {
			c.failf("after 41 steps value is %s", cut(v))
		}
	}},
	{"ahead/in-turn", "one line after the other, each on a state of its own, as soon as the one before it has ended", func(c *check) {
		s := c.startAhead("identity")
		for i := range 200 {
			doc := fmt.Sprintf(`{"i":"this is line %d"}`, i)
			first := s.begin("identity", c.document(doc))
			second := s.aheadWith(first, ipc.Execute{Code: s.prepare("identity"), Needs: []string{"i"}}, ipc.Table{Kind: ipc.KindObject})
			first.done()
			c.wantState(second.done().state, doc, false)
		}
	}},
	{"ahead/rows", "the rows that come with it are set in the state", func(c *check) {
		s := c.startAhead("identity")
		first := s.begin("nap", c.document(`{"a":1,"b":2}`))
		second := s.aheadWith(first, ipc.Execute{Code: s.prepare("identity")}, c.document(`{"b":3,"c":4}`))
		first.done()
		c.wantState(second.done().state, `{"a":1,"b":3,"napped":true,"c":4}`, false)
		third := s.aheadWith(second, ipc.Execute{Code: s.prepare("keys")}, c.document(`{"a":0}`))
		c.wantState(third.done().state, `{"a":0,"b":3,"napped":true,"c":4,"keys":["a","b","napped","c"]}`, false)
	}},
	{"ahead/after-failure", "what follows a step that fails is not begun", func(c *check) {
		s := c.startAhead("throw")
		first := s.begin("throw", c.document(`{"a":1}`))
		second := s.ahead(first, "set")
		first.failed()
		second.notBegun()
		s.ahead(second, "set").notBegun() // nor what follows that
		s.run("set", c.document(`{"a":1}`))
	}},
	{"ahead/after-forward", "what follows a step that forwards is not begun", func(c *check) {
		s := c.startAhead("forward")
		s.need(ipc.CapabilityCalls)
		first := s.begin("forward", c.document(`{"a":1}`))
		second := s.ahead(first, "set")
		first.done()
		second.notBegun()
	}},
	{"ahead/after-stream", "what follows a step that hands its state over is not begun", func(c *check) {
		s := c.startAhead("feed")
		s.need(ipc.CapabilityStreams)
		first := s.begin("feed", c.document(`{"n":0}`))
		second := s.ahead(first, "set")
		c.wantEnd(s.read(s.nextStream(), shm.MinStreamCapacity, ahead), "", "")
		first.done()
		second.notBegun()
	}},
	{"ahead/conditions", "what follows is begun only when the conditions of the step before it hold", func(c *check) {
		s := c.startAhead("set")
		s.need(ipc.CapabilityConditions)
		for condition, holds := range map[string]bool{"state.a === 1": true, "state.a === 2": false, "state.a.b.c": false} {
			first := s.execute(ipc.Execute{Code: s.prepare("set"), Conditions: []string{condition}}, c.document(`{"a":1}`))
			second := s.ahead(first, "identity")
			if first.done(); holds {
				second.done()
			} else {
				second.notBegun()
			}
		}
	}},
	{"ahead/needs", "it is begun only with the keys that it needs, and values for them", func(c *check) {
		s := c.startAhead("identity")
		for doc, has := range map[string]bool{`{"key":"1234567"}`: true, `{"key":""}`: false, `{"key":null}`: false, `{"key":0}`: false, `{"key":false}`: false, `{"other":"1234567"}`: false, ``: false} {
			first := s.begin("identity", c.document(doc))
			second := s.aheadWith(first, ipc.Execute{Code: s.prepare("identity"), Needs: []string{"key"}}, ipc.Table{Kind: ipc.KindObject})
			if first.done(); has {
				c.wantState(second.done().state, doc, false)
			} else {
				second.notBegun()
			}
		}
	}},
	{"ahead/value", "a bare value goes on as it is; it takes no rows", func(c *check) {
		s := c.startAhead("value")
		first := s.begin("value", c.document(`{}`))
		second := s.ahead(first, "identity")
		first.done()
		c.wantState(second.done().state, `[1,2,3]`, false)
		s.aheadWith(second, ipc.Execute{Code: s.prepare("identity")}, c.document(`{"a":1}`)).notBegun()
	}},
	{"ahead/budget", "what the step before it published counts against its budget", func(c *check) {
		s := c.startAhead("allocate")
		first := s.begin("allocate", c.document(`{}`))
		second := s.aheadWith(first, ipc.Execute{Code: s.prepare("set"), Budget: 1 << 20}, ipc.Table{Kind: ipc.KindObject})
		s.release(first.done().done.Blocks)
		second.notBegun()
		first = s.begin("allocate", c.document(`{}`))
		second = s.aheadWith(first, ipc.Execute{Code: s.prepare("set"), Budget: allocated + 16}, ipc.Table{Kind: ipc.KindObject})
		first.done()
		if f := second.failed(); f.Name != "StateTooLargeError" {
			c.failf("want a StateTooLargeError, got %s: %s", f.Name, f.Message)
		}
	}},
	{"ahead/cancel", "it can be cancelled while the step before it is at work, and alone", func(c *check) {
		s := c.startAhead("nap")
		first := s.begin("nap", c.document(`{}`))
		second := s.ahead(first, "set")
		s.send(&ipc.Envelope{ID: second.ID, Message: &ipc.Cancel{Reason: "conformance"}})
		second.notBegun()
		c.wantState(first.done().state, `{"napped":true}`, false)
		s.run("set", c.document(`{"a":1}`))
	}},
	{"ahead/cancel-before", "with the step before it, it is cancelled too", func(c *check) {
		s := c.startAhead("sleep")
		first := s.begin("sleep", c.document(`{}`))
		second := s.ahead(first, "set")
		time.Sleep(50 * time.Millisecond)
		s.cancel(first)
		if f := second.answer(); f != nil { // else it has exited, for want of another way
			second.wantNotBegun(f)
		}
	}},
	{"ahead/cancel-at-work", "once begun it is cancelled as any step", func(c *check) {
		s := c.startAhead("sleep")
		first := s.begin("identity", c.document(`{}`))
		second := s.ahead(first, "sleep")
		first.done()
		time.Sleep(50 * time.Millisecond)
		s.cancel(second)
	}},
	{"ahead/other", "what follows another than the last execute is not begun", func(c *check) {
		s := c.startAhead("identity")
		first := s.begin("identity", c.document(`{}`))
		first.done()
		second := s.begin("identity", c.document(`{"a":1}`))
		second.done()
		s.ahead(first, "set").notBegun()
		s.run("set", c.document(`{"a":1}`))
	}},
}

func (c *check) startAhead(behaviour string) *session {
	return c.startWith(ipc.CapabilityAhead, behaviour)
}

// ahead sends a behaviour that is to follow an execute.
func (s *session) ahead(before *request, behaviour string) *request {
	return s.aheadWith(before, ipc.Execute{Code: s.prepare(behaviour)}, ipc.Table{Kind: ipc.KindObject})
}

func (s *session) aheadWith(before *request, m ipc.Execute, set ipc.Table) *request {
	m.After = before.ID
	return s.execute(m, set)
}

// answer returns the fail that the request is answered with, or nil when the
// program has exited without.
func (r *request) answer() *ipc.Fail {
	ctx, cancel := context.WithTimeout(r.session.check.ctx, 5*time.Second)
	defer cancel()
	e, err := r.Wait(ctx)
	if err != nil {
		if r.session.breached() != nil || ctx.Err() != nil {
			r.session.lost("what was sent ahead was not answered within 5s", err)
		}
		return nil
	}
	f, ok := e.Message.(*ipc.Fail)
	if !ok {
		r.session.check.failf("what was sent ahead was answered with %s, and should not have been begun", e.Message.Type())
	}
	return f
}

func (r *request) notBegun() {
	f := r.answer()
	if f == nil {
		r.session.check.failf("what was sent ahead was not answered%s", r.session.exitText())
	}
	r.wantNotBegun(f)
}

func (r *request) wantNotBegun(f *ipc.Fail) {
	if r.session.checkFail(f); f.Started != 0 {
		r.session.check.failf("what was sent ahead failed with %s: %s, started at %d: 0 says that it was not begun", f.Name, f.Message, f.Started)
	}
}
