package conformance

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// callCases are for executors that announce calls. The supervisor here plays the
// called step: its name is "other".
var callCases = []testCase{
	{"call/pass-on", "argument and result of a call are passed on as they are: same references, nothing written", func(c *check) {
		s := c.startWithCalls("call")
		in := c.document(untouched)
		r := s.begin("call", in)
		call := s.nextCall()
		if call.Step != "other" || call.Until != ipc.UntilStep || call.Timeout != 0 {
			c.failf("the call is of step %q until %q within %v, want other, step and no limit", call.Step, call.Until, call.Timeout)
		}
		c.wantState(call.state, untouched, false)
		c.wantKept(in, call.state, keysOf(in)...)
		if len(call.Blocks) > 0 {
			c.failf("%d blocks were published with an argument that nothing was changed in", len(call.Blocks))
		}
		answer := c.document(`{"result":[` + quote(manyLetters(20_000)) + `],"n":2}`)
		s.answer(call, answer)
		res := r.done()
		c.wantState(res.state, `{"result":[`+quote(manyLetters(20_000))+`],"n":2}`, true)
		c.wantKept(answer, res.state, "result")
	}},
	{"call/published", "what an argument has that is new is published with its call", func(c *check) {
		s := c.startWithCalls("call-new")
		r := s.begin("call-new", c.document(`{"a":1}`))
		call := s.nextCall()
		c.wantState(call.state, `{"data":[1,2,3]}`, false)
		s.answer(call, c.document(`{"value":"from other"}`))
		c.wantState(r.done().state, `{"a":1,"result":"from other"}`, false)
	}},
	{"call/echo", "a result may lie in what the call itself published", func(c *check) {
		s := c.startWithCalls("call-new")
		r := s.begin("call-new", c.document(`{"a":1}`))
		call := s.nextCall()
		row, _ := call.state.Get("data")
		row.Key = "value"
		s.answer(call, object(row))
		c.wantState(r.done().state, `{"a":1,"result":[1,2,3]}`, false)
	}},
	{"call/in-turn", "an executor calls in one step after the other", func(c *check) {
		s := c.startWithCalls("call")
		for i := range 3 {
			r := s.begin("call", c.document(`{}`))
			s.answer(s.nextCall(), c.document(fmt.Sprintf(`{"n":%d}`, i)))
			c.wantState(r.done().state, fmt.Sprintf(`{"n":%d}`, i), false)
			s.run("identity", c.document(`{}`))
		}
	}},
	{"call/failure", "the failure of a call that the step does not handle is its own, with name, severity and message", func(c *check) {
		s := c.startWithCalls("call")
		for _, severity := range []ipc.Severity{ipc.SeverityFail, ipc.SeverityCrash, ipc.SeverityKill} {
			r := s.begin("call", c.document(`{"a":1}`))
			s.refuse(s.nextCall(), ipc.Fail{Severity: severity, Name: "OtherError", Message: "conformance: refused"})
			if f := r.failed(); f.Severity != severity || f.Name != "OtherError" || !strings.Contains(f.Message, "conformance: refused") {
				c.failf("the step failed with %s %s: %s; want %s OtherError: conformance: refused", f.Severity, f.Name, f.Message, severity)
			}
		}
		s.run("identity", c.document(`{"a":1}`))
	}},
	{"call/caught", "a step can go on after a call that failed, and knows with what", func(c *check) {
		s := c.startWithCalls("call-catch")
		r := s.begin("call-catch", c.document(`{"a":1}`))
		s.refuse(s.nextCall(), ipc.Fail{Severity: ipc.SeverityCrash, Name: "OtherError", Message: "conformance: refused", Details: `{"x":1}`})
		c.wantState(r.done().state, `{"a":1,"error":["OtherError","crash","other"]}`, false)
	}},
	{"call/order", "each gives results in the order in which they come", func(c *check) {
		s := c.startWithCalls("each")
		r := s.begin("each", c.document(`{"pages":[[0],[1],[2]]}`))
		calls := []*call{s.nextCall(), s.nextCall(), s.nextCall()}
		for i, call := range calls {
			c.wantState(call.state, fmt.Sprintf(`{"data":[%d]}`, i), false)
		}
		for _, i := range []int{2, 0, 1} {
			s.answer(calls[i], c.document(fmt.Sprintf(`{"data":[%d,"of %d"]}`, 10*i, i)))
		}
		c.wantState(r.done().state, `{"pages":[[0],[1],[2]],"order":[2,0,1],"all":[20,"of 2",0,"of 0",10,"of 1"]}`, true)
	}},
	{"call/concurrency", "each has no more calls under way than it was told", func(c *check) {
		s := c.startWithCalls("each")
		r := s.begin("each", c.document(`{"pages":[0,1,2,3,4,5,6,7,8]}`))
		var waiting []*call
		for range 3 {
			waiting = append(waiting, s.nextCall())
		}
		for next := 3; len(waiting) > 0; next++ {
			s.ping()
			if n := s.callsAhead(); n > 0 {
				c.failf("%d calls are under way, want 3 at most", len(waiting)+n)
			}
			s.answer(waiting[0], c.document(fmt.Sprintf(`{"data":[%d]}`, next)))
			if waiting = waiting[1:]; next < 9 {
				waiting = append(waiting, s.nextCall())
			}
		}
		row, _ := r.done().state.Get("all")
		c.wantValue(row, `[3,4,5,6,7,8,9,10,11]`)
	}},
	{"call/by-reference", "pages are put together without writing them anew", func(c *check) {
		s := c.startWithCalls("each")
		r := s.begin("each", c.document(`{"pages":[0,1,2,3]}`))
		text := quote(manyLetters(100_000))
		var want []string
		for i := range 4 {
			s.answer(s.nextCall(), c.document(fmt.Sprintf(`{"data":[%d,%s]}`, i, text)))
			want = append(want, fmt.Sprintf(`%d,%s`, i, text))
		}
		res := r.done()
		row, _ := res.state.Get("all")
		c.wantValue(row, "["+strings.Join(want, ",")+"]")
		if written := shm.Length(res.done.Blocks); written > 50_000 {
			c.failf("%d bytes were written for an array of 400000 bytes that were there", written)
		}
	}},
	{"call/first-fails", "the first failure ends each and its step, whatever else is under way", func(c *check) {
		s := c.startWithCalls("each")
		r := s.begin("each", c.document(`{"pages":[0,1,2,3,4,5]}`))
		calls := []*call{s.nextCall(), s.nextCall(), s.nextCall()}
		s.refuse(calls[1], ipc.Fail{Severity: ipc.SeverityFail, Name: "OtherError", Message: "conformance: refused"})
		if f := r.failed(); f.Name != "OtherError" {
			c.failf("the step failed with %s: %s; want OtherError", f.Name, f.Message)
		}
		// Whether they were cancelled one by one or by the step's answer, theirs come late.
		for _, i := range []int{0, 2} {
			s.refuse(calls[i], ipc.Fail{Severity: ipc.SeverityCancel, Name: "CancelError", Message: "the step has ended"})
		}
		s.ping()
		s.run("identity", c.document(`{"a":1}`))
	}},
	{"call/forget", "results that nothing refers to are forgotten while the step runs", func(c *check) {
		const pages, kept = 300, 50
		s := c.startWithCalls("each-count")
		r := s.begin("each-count", c.document(`{"pages":`+numbers(pages)+`}`))
		for range pages - 1 {
			s.answer(s.nextCall(), c.document(`{"data":[1,2,3]}`))
		}
		last := s.nextCall()
		s.ping()
		if n := s.forgotten(); n < pages-kept {
			c.failf("after %d calls were answered %d are forgotten, want %d at least", pages-1, n, pages-kept)
		}
		s.answer(last, c.document(`{"data":[1,2,3]}`))
		row, _ := r.done().state.Get("n")
		c.wantValue(row, fmt.Sprint(pages))
	}},
	{"call/cancel", "a step that waits for a call is cancelled as any other", func(c *check) {
		s := c.startWithCalls("call")
		r := s.begin("call", c.document(`{}`))
		s.nextCall()
		s.cancel(r)
	}},
	{"call/not-granted", "without the supervisor's calls a step that calls fails, and nothing is sent", func(c *check) {
		c.startWithCalls("call") // or skip
		s := c.start(how{noCapabilities: true})
		s.begin("call", c.document(`{}`)).failed()
		s.run("identity", c.document(`{"a":1}`))
	}},
	{"call/forward", "a forward names the next step before the answer, and hands the state on unread", func(c *check) {
		s := c.startWithCalls("forward")
		in := c.document(untouched)
		r := s.begin("forward", in)
		res := r.done()
		if got := s.forwards(r.ID); !slices.Equal(got, []string{"other"}) {
			c.failf("it forwarded to %q, want other", got)
		}
		c.wantState(res.state, untouched[:len(untouched)-1]+`,"head":"new"}`, true)
		c.wantKept(in, res.state, keysOf(in)...)
		s.run("identity", c.document(`{"a":1}`))
		if got := s.forwards(0); len(got) > 1 {
			c.failf("the step after it was forwarded as well: %q", got)
		}
	}},
}

// startWithCalls starts a process, or skips the case where it cannot call.
func (c *check) startWithCalls(behaviour string) *session {
	return c.startWith(ipc.CapabilityCalls, behaviour)
}

// startWith starts a process, or skips the case where it does not announce what
// the case needs or has no such behaviour.
func (c *check) startWith(capability, behaviour string) *session {
	s := c.start(how{})
	s.need(capability)
	s.prepare(behaviour) // or skip
	return s
}

// need skips the case where the program does not announce a capability.
func (s *session) need(capability string) {
	if !slices.Contains(s.hello.Capabilities, capability) {
		s.check.skipf("it does not announce %s", capability)
	}
}

// answer answers a call with a state, having attached what the caller lacks.
func (s *session) answer(call *call, state ipc.Table) {
	s.attach(state)
	s.send(&ipc.Envelope{ID: call.id, Message: &ipc.Result{Step: "other"}, State: state})
}

func (s *session) refuse(call *call, m ipc.Fail) {
	s.send(&ipc.Envelope{ID: call.id, Message: &m})
}

func (s *session) attach(state ipc.Table) {
	for _, seg := range s.check.book.missing(state, s) {
		s.send(&ipc.Envelope{Message: &ipc.Attach{Segment: seg.ID(), Size: uint64(seg.Size())}, File: seg.File()})
	}
}

// numbers is an array of so many numbers as JSON.
func numbers(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = strconv.Itoa(i)
	}
	return "[" + strings.Join(list, ",") + "]"
}
