package conformance

import (
	"fmt"
	"time"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

var memoryCases = []testCase{
	{"memory/lazy", "a segment that no step reads from is not mapped; one that is read may be", func(c *check) {
		s := c.start(how{})
		in := object(c.row("value", shm.JSON, `[1]`), c.row("untouched", shm.JSON, `{"not":"read"}`))
		res := s.run("append", in)
		c.wantState(res.state, `{"value":[1,"end"],"untouched":{"not":"read"}}`, false)
		if _, mapped := c.holds(s, in.Rows[1]); mapped {
			c.failf("the segment of the key that the step did not touch is mapped")
		}
		s.run("identity", in)
		if _, mapped := c.holds(s, in.Rows[1]); mapped {
			c.failf("a segment is mapped by a step that touches nothing")
		}
	}},
	{"memory/detach", "after a detach the segment is neither open nor mapped", func(c *check) {
		s := c.start(how{})
		in := object(c.row("value", shm.JSON, `[1,2,3]`), c.row("untouched", shm.JSON, `"x"`))
		res := s.run("append", in)
		s.release(res.done.Blocks)
		if open, _ := c.holds(s, in.Rows[1]); !open {
			c.failf("the descriptor of an attached segment is not kept")
		}
		s.send(&ipc.Envelope{Message: &ipc.Detach{Segments: []shm.SegmentID{in.Rows[0].Spans[0].Segment, in.Rows[1].Spans[0].Segment}}})
		s.ping()
		for _, row := range in.Rows {
			var open, mapped bool
			if !c.within(2*time.Second, func() bool { open, mapped = c.holds(s, row); return !open && !mapped }) {
				c.failf("2s after detach the segment of key %q is still there: open %v, mapped %v", row.Key, open, mapped)
			}
		}
		again := c.document(`{"value":[4]}`)
		c.wantState(s.run("append", again).state, `{"value":[4,"end"]}`, false)
	}},
	{"memory/detach-unknown", "a detach of what was never attached does no harm", func(c *check) {
		s := c.start(how{})
		s.send(&ipc.Envelope{Message: &ipc.Detach{Segments: []shm.SegmentID{0xdead}}})
		s.ping()
	}},
	{"memory/published-stays", "published blocks do not change until they are released", func(c *check) {
		s := c.start(how{welcome: ipc.Welcome{RetainBytes: 64 << 20}})
		type held struct {
			state ipc.Table
			want  string
		}
		var states []held
		for i := range 30 {
			res := s.run("append", c.document(fmt.Sprintf(`{"value":[%d,%s]}`, i, quote(manyLetters(i*97)))))
			states = append(states, held{res.state, fmt.Sprintf(`{"value":[%d,%s,"end"]}`, i, quote(manyLetters(i*97)))})
			if i == 15 {
				s.run("allocate", c.document(`{}`))
			}
			if i%3 == 0 { // gaps for later blocks to go to
				s.release(res.done.Blocks)
				states = states[:len(states)-1]
			}
		}
		for _, h := range states {
			c.wantState(h.state, h.want, false)
		}
	}},
	{"memory/own-segment", "a large value shares its segment with nothing", func(c *check) {
		s := c.start(how{})
		before := s.run("set", c.document(`{}`))
		big := s.run("allocate", c.document(`{}`))
		after := s.run("set", c.document(`{}`))
		ref := c.wantBig(big.state)
		for _, t := range []ipc.Table{before.state, after.state} {
			if row, _ := t.Get("added"); row.Spans[0].Segment == ref.Segment {
				c.failf("a small value is in segment %#x, which holds a block of 8 MiB: its pages cannot be given back alone", uint64(ref.Segment))
			}
		}
	}},
	{"memory/release-large", "the memory of released large blocks is used again", func(c *check) {
		s := c.start(how{welcome: ipc.Welcome{RetainBytes: 64 << 20}})
		for range 12 {
			res := s.run("allocate", c.document(`{}`))
			c.wantBig(res.state)
			s.release(res.done.Blocks)
		}
		s.ping()
		c.wantResident(s, 3*allocated, "after 12 large values, each released before the next")
	}},
	{"memory/release-small", "the memory of released small blocks is used again", func(c *check) {
		s := c.start(how{welcome: ipc.Welcome{RetainBytes: 1 << 20}})
		text := quote(manyLetters(20_000))
		for range 400 { // 8 MB in all
			in := c.document(`{"value":[` + text + `]}`)
			res := s.run("append", in)
			s.release(res.done.Blocks)
			s.send(&ipc.Envelope{Message: &ipc.Detach{Segments: []shm.SegmentID{in.Rows[0].Spans[0].Segment}}})
		}
		s.ping()
		c.wantResident(s, 2<<20, "after 400 values of 20 kB, each released before the next")
	}},
	{"memory/retain-nothing", "with retainBytes 0 the memory of released large blocks goes back", func(c *check) {
		s := c.start(how{})
		res := s.run("allocate", c.document(`{}`))
		s.release(res.done.Blocks)
		s.ping()
		c.wantResident(s, allocated/2, "after the only large value was released")
	}},
	{"memory/failed-step", "what a failed step wrote is used again", func(c *check) {
		s := c.start(how{welcome: ipc.Welcome{RetainBytes: 64 << 20}})
		for range 8 {
			s.execute(ipc.Execute{Code: s.prepare("allocate"), Budget: 6 << 20}, c.document(`{}`)).failed()
		}
		s.ping()
		c.wantResident(s, 3*allocated, "after 8 steps that failed over their budget")
	}},
	{"memory/budget", "a step over its budget fails with StateTooLargeError; the next may use it all", func(c *check) {
		s := c.start(how{})
		in := c.document(`{"a":1}`)
		f := s.execute(ipc.Execute{Code: s.prepare("allocate"), Budget: 1 << 20}, in).failed()
		if f.Name != "StateTooLargeError" || f.Severity != ipc.SeverityKill {
			c.failf("want a kill StateTooLargeError, got %s %s: %s", f.Severity, f.Name, f.Message)
		}
		res := s.execute(ipc.Execute{Code: s.prepare("set"), Budget: 1 << 20}, in).done()
		c.wantState(res.state, `{"a":1,"added":`+added+`}`, false)
		big := s.execute(ipc.Execute{Code: s.prepare("allocate"), Budget: 16 << 20}, in).done()
		c.wantBig(big.state)
	}},
	{"memory/own-result", "a result is read again by the executor that wrote it", func(c *check) {
		s := c.start(how{})
		t := c.document(`{"value":[1],"a":2}`)
		want := `{"value":[1`
		for range 5 {
			t = s.run("append", t).state
			want += `,"end"`
		}
		c.wantState(t, want+`],"a":2}`, false)
	}},
	{"memory/pass-on", "a result of one executor is read by another", func(c *check) {
		first := c.start(how{})
		first.prepare("append") // or skip
		in := c.document(`{"value":[1],"a":2}`)
		middle := first.run("append", in).state
		first.end()
		second := c.start(how{})
		res := second.run("append", middle)
		c.wantState(res.state, `{"value":[1,"end","end"],"a":2}`, false)
	}},
}

func (c *check) holds(s *session, row ipc.Row) (open, mapped bool) {
	id, err := identify(c.book.segment(row.Spans[0].Segment).File())
	c.must(err)
	open, err = isOpen(s.hello.PID, id)
	if err == nil {
		mapped, err = isMapped(s.hello.PID, id)
	}
	if err != nil {
		c.failf("look at process %d in /proc: %v%s", s.hello.PID, err, s.exitText())
	}
	return open, mapped
}

// wantResident gives the executor two seconds to come below the limit.
func (c *check) wantResident(s *session, limit int64, when string) {
	var now int64
	below := c.within(2*time.Second, func() bool {
		var err error
		now, err = c.book.resident(s)
		c.must(err)
		return now < limit
	})
	if !below {
		c.failf("%s its segments take %d bytes of memory, want less than %d", when, now, limit)
	}
}

func manyLetters(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'a' + byte(i*7%26)
	}
	return string(b)
}
