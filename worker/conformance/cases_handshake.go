package conformance

import (
	"fmt"
	"slices"
	"time"

	"github.com/millrace/millrace/ipc"
)

var handshakeCases = []testCase{
	{"handshake/hello", "hello names a version, the process and the language", func(c *check) {
		s := c.start(how{})
		h := s.hello
		if h.Language == "" {
			c.failf("hello names no language")
		}
		group, err := groupOf(h.PID)
		if err != nil || group != s.process.cmd.Process.Pid {
			c.failf("hello's pid %d is no process of the program's (pid %d): group %d, %v", h.PID, s.process.cmd.Process.Pid, group, err)
		}
		if dup := duplicated(h.Capabilities); dup != "" {
			c.failf("hello announces the capability %q twice", dup)
		}
		if dup := duplicated(h.Functions); dup != "" {
			c.failf("hello names the function %q twice", dup)
		}
		s.ping()
	}},
	{"handshake/no-capabilities", "it works when no capability is granted", func(c *check) {
		s := c.start(how{noCapabilities: true})
		s.ping()
		res := s.run("set", c.document(`{"a":1}`))
		c.wantState(res.state, `{"a":1,"added":`+added+`}`, false)
	}},
	{"handshake/ring", "the ring is used when it was announced and granted", func(c *check) {
		s := c.start(how{})
		if !slices.Contains(s.hello.Capabilities, ipc.CapabilityRing) {
			c.skipf("it does not announce the ring")
		}
		if !s.UsesRing() {
			c.failf("the ring was granted and is not used")
		}
		for i := range 3000 { // several times round the ring
			in := c.document(fmt.Sprintf(`{"a":%d}`, i%7))
			if i%1000 == 0 {
				c.wantState(s.run("identity", in).state, fmt.Sprintf(`{"a":%d}`, i%7), false)
			}
			s.ping()
		}
	}},
	{"handshake/descriptor-number", "the descriptor's number is taken from the environment", func(c *check) {
		c.start(how{fd: 9}).ping()
	}},
	{"handshake/limits", "numbers in the welcome as large as they can be", func(c *check) {
		s := c.start(how{welcome: ipc.Welcome{RetainBytes: 1<<64 - 1, DropKeys: []string{"", "é", "drop"}}})
		res := s.run("set", c.document(`{"":1,"é":2,"drop":3,"a":4}`))
		c.wantState(res.state, `{"a":4,"added":`+added+`}`, false)
	}},
	{"handshake/refused", "it exits when its hello is refused", func(c *check) {
		s := c.spawn(how{})
		s.expectHello()
		s.send(&ipc.Envelope{Message: &ipc.Fail{Severity: ipc.SeverityException, Name: "VersionError", Message: "no version in common"}})
		s.exits("after its hello was refused", 5*time.Second)
	}},
	{"handshake/other-version", "it exits when the welcome has a version it does not speak", func(c *check) {
		s := c.spawn(how{})
		s.expectHello()
		s.send(&ipc.Envelope{Message: &ipc.Welcome{Version: 999, Executor: 1}})
		s.exits("after a welcome of version 999", 5*time.Second)
	}},
	{"handshake/hang-up", "it exits when the supervisor hangs up instead of answering", func(c *check) {
		s := c.spawn(how{})
		s.expectHello()
		_ = s.Channel.Close()
		s.exits("after a hang-up in the handshake", 2*time.Second)
	}},
}

// expectHello takes the hello of a session that was only spawned.
func (s *session) expectHello() {
	s.check.must(s.SetReceiveDeadline(time.Now().Add(handshakeTimeout)))
	e, err := s.Receive()
	if err != nil {
		s.check.failf("no hello: %v%s", err, s.exitText())
	}
	var ok bool
	if s.hello, ok = e.Message.(*ipc.Hello); !ok {
		s.check.failf("%s came first, not hello", e.Message.Type())
	}
}

// exits fails the case unless the process ends in time, by itself.
func (s *session) exits(when string, within time.Duration) int {
	code, status, ok := s.process.ended(within)
	switch {
	case !ok:
		s.check.failf("it did not exit within %v %s", within, when)
	case code < 0:
		s.check.failf("%s it did not exit but crash: %s", when, status)
	}
	return code
}

func duplicated(list []string) string {
	for i, s := range list {
		if slices.Contains(list[:i], s) {
			return s
		}
	}
	return ""
}
