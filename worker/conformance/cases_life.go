package conformance

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

var lifeCases = []testCase{
	{"life/hang-up", "it exits within 1s when the supervisor hangs up", func(c *check) {
		s := c.start(how{})
		s.run("set", c.document(`{"a":1}`))
		_ = s.Channel.Close()
		s.exits("after a hang-up", time.Second)
	}},
	{"life/hang-up-during", "it exits within 1s when the supervisor hangs up while a step runs", func(c *check) {
		s := c.start(how{})
		s.begin("sleep", c.document(`{"a":1}`))
		time.Sleep(100 * time.Millisecond)
		_ = s.Channel.Close()
		s.exits("after a hang-up while a step ran", time.Second)
	}},
	{"life/shutdown", "it exits with 0 when it is asked to", func(c *check) {
		s := c.start(how{})
		s.run("set", c.document(`{"a":1}`))
		s.send(&ipc.Envelope{Message: new(ipc.Shutdown)})
		if code := s.exits("after a shutdown", 3*time.Second); code != 0 {
			c.failf("after a shutdown it exited with %d, want 0", code)
		}
	}},
	{"life/shutdown-during", "a shutdown while a step runs: the step is answered, then it exits with 0", func(c *check) {
		s := c.start(how{})
		r := s.begin("nap", c.document(`{"a":1}`))
		s.send(&ipc.Envelope{Message: new(ipc.Shutdown)})
		c.wantState(r.done().state, `{"a":1,"napped":true}`, false)
		if code := s.exits("after a shutdown", 3*time.Second); code != 0 {
			c.failf("after a shutdown it exited with %d, want 0", code)
		}
	}},
	{"life/sigint", "SIGINT, which a terminal sends to everybody, neither ends it nor its step", func(c *check) {
		s := c.start(how{})
		c.must(unix.Kill(int(s.hello.PID), unix.SIGINT))
		time.Sleep(100 * time.Millisecond) // an answer may be faster than a signal
		s.ping()
		r := s.begin("nap", c.document(`{"a":1}`))
		time.Sleep(100 * time.Millisecond)
		c.must(unix.Kill(int(s.hello.PID), unix.SIGINT))
		c.wantState(r.done().state, `{"a":1,"napped":true}`, false)
		s.ping()
	}},
	{"life/channel-private", "no process that a step starts has the control channel: it would hide the executor's death", func(c *check) {
		s := c.start(how{})
		s.begin("sleep", c.document(`{}`))
		time.Sleep(200 * time.Millisecond) // for a child to be started
		members, err := groupMembers(s.process.cmd.Process.Pid)
		c.must(err)
		for _, pid := range members {
			if open, err := isOpen(pid, s.remote); err == nil && open != (pid == s.hello.PID) {
				c.failf("process %d has the control channel open: %v; the executor is process %d", pid, open, s.hello.PID)
			}
		}
	}},
	{"life/killed", "what was published outlives its writer", func(c *check) {
		s := c.start(how{})
		res := s.run("append", c.document(`{"value":[1]}`))
		big := s.run("allocate", c.document(`{}`))
		c.must(s.process.signal(unix.SIGKILL))
		<-s.process.exited
		c.wantState(res.state, `{"value":[1,"end"]}`, false)
		c.wantBig(big.state)
	}},
	{"life/bad-reference", "a reference outside of its segment fails the step, or ends the executor by its own hand", func(c *check) {
		for _, length := range []uint64{1 << 20, 1 << 40, 1<<63 - 1} {
			s := c.start(how{})
			in := object(c.row("value", shm.JSON, `[1]`))
			in.Rows[0].Spans[0].Length = length
			s.outcome("append", in)
		}
	}},
	{"life/unknown-segment", "a reference into a segment that was never attached fails the step, or ends the executor by its own hand", func(c *check) {
		s := c.start(how{})
		s.outcome("append", object(ipc.Row{Key: "value", Spans: []shm.Ref{{Segment: 0xbad, Length: 3, Encoding: shm.JSON}}}))
	}},
}

// outcome runs a step on a state that no honest supervisor sends: it must fail,
// or the program exit.
func (s *session) outcome(behaviour string, in ipc.Table) {
	r := s.begin(behaviour, in)
	e, err := r.Wait(s.check.ctx)
	if err != nil {
		if s.check.ctx.Err() != nil {
			s.check.failf("no answer to a step on %v", in.Rows[0].Spans[0])
		}
		s.exits("given a state with a bad reference", 3*time.Second)
		return
	}
	if _, ok := e.Message.(*ipc.Fail); !ok {
		s.check.failf("a step on %v succeeded", in.Rows[0].Spans[0])
	}
}
