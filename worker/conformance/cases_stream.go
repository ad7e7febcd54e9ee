package conformance

import (
	"fmt"
	"strings"
	"time"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/ipc/stream"
	"github.com/millrace/millrace/shm"
)

// settles is how long a program gets to do what it must not do.
const settles = 100 * time.Millisecond

// ahead is a demand that no case runs into.
var ahead = stream.Demand{Max: 1000, Min: 500}

// streamCases are for executors that announce streams. The supervisor here is
// the other end itself.
var streamCases = []testCase{
	{"stream/hand-over", "who streams hands its state over at once, without the stream's own key, and is done without a state", func(c *check) {
		s := c.startWithStreams("feed")
		in := c.document(`{"n":3,"head":"here","large":"` + manyLetters(20_000) + `"}`)
		r := s.begin("feed", in)
		handed := s.nextStream()
		if handed.stream == nil || handed.stream.Key != "items" || handed.stream.Encoding != shm.JSON {
			c.failf("it streams under %+v, want the key items and JSON", handed.stream)
		}
		c.wantKept(in, handed.state, "n", "head", "large")
		if _, ok := handed.state.Get("items"); ok {
			c.failf("the state it handed over has the key items already")
		}
		in3 := s.read(handed, shm.MinStreamCapacity, ahead)
		for i := range 3 {
			c.wantItem(in3, fmt.Sprintf(`{"i":%d}`, i))
		}
		c.wantEnd(in3, "", "")
		if res := r.done(); res.state.Kind != ipc.KindAbsent || len(res.done.Blocks) > 0 {
			c.failf("its done has a state of kind %d and %d blocks, want none", res.state.Kind, len(res.done.Blocks))
		}
	}},
	{"stream/many", "items come in order, however often the ring is full and empty", func(c *check) {
		const n = 20_000
		s := c.startWithStreams("feed")
		r := s.begin("feed", c.document(fmt.Sprintf(`{"n":%d}`, n)))
		in := s.read(s.nextStream(), shm.MinStreamCapacity, stream.Demand{Max: 3000, Min: 10})
		for i := range n {
			c.wantItem(in, fmt.Sprintf(`{"i":%d}`, i))
			if i%5000 == 0 {
				time.Sleep(5 * time.Millisecond) // it gets ahead and has to wait
			}
		}
		c.wantEnd(in, "", "")
		r.done()
	}},
	{"stream/demand", "no item is written that nobody has asked for", func(c *check) {
		s := c.startWithStreams("feed")
		r := s.begin("feed", c.document(`{"n":5}`))
		in := s.read(s.nextStream(), shm.MinStreamCapacity, stream.Demand{Manual: true})
		for i := range 5 {
			time.Sleep(settles / 2)
			if in.Ready() {
				c.failf("item %d came unasked", i)
			}
			in.Ask(1)
			c.wantItem(in, fmt.Sprintf(`{"i":%d}`, i))
		}
		in.Ask(1)
		c.wantEnd(in, "", "")
		r.done()
	}},
	{"stream/feed-fails", "a failure of who streams is the step's, and an end of the stream that comes of it has its name", func(c *check) {
		s := c.startWithStreams("feed-fail")
		r := s.begin("feed-fail", c.document(`{}`))
		in := s.read(s.nextStream(), shm.MinStreamCapacity, ahead)
		f := r.failed() // items that nobody has read yet are lost with it
		if !strings.Contains(f.Message, "conformance: thrown") {
			c.failf("the step failed with %s %s: %s", f.Severity, f.Name, f.Message)
		}
		select {
		case end := <-in.ended:
			if end.Name != f.Name || end.Severity != f.Severity {
				c.failf("the step failed with %s %s, its stream with %s %s", f.Severity, f.Name, end.Severity, end.Name)
			}
		default: // the supervisor tells the reader, who knows of the failure
		}
		s.run("identity", c.document(`{}`))
	}},
	{"stream/no-more-wanted", "who streams ends well when its reader wants no more", func(c *check) {
		s := c.startWithStreams("feed")
		r := s.begin("feed", c.document(`{"n":1000000000}`))
		in := s.read(s.nextStream(), shm.MinStreamCapacity, ahead)
		c.wantItem(in, `{"i":0}`)
		in.finish(s, "", "", "")
		r.done()
	}},
	{"stream/reader-fails", "a failure of the reader is the failure of who streams", func(c *check) {
		s := c.startWithStreams("feed")
		r := s.begin("feed", c.document(`{"n":1000000000}`))
		in := s.read(s.nextStream(), shm.MinStreamCapacity, ahead)
		c.wantItem(in, `{"i":0}`)
		in.finish(s, ipc.SeverityFail, "OtherError", "conformance: refused")
		c.wantFailure(r, ipc.SeverityFail, "OtherError", "conformance: refused")
		s.run("identity", c.document(`{}`))
	}},
	{"stream/refused", "a step whose stream is refused fails with the reason", func(c *check) {
		s := c.startWithStreams("feed")
		r := s.begin("feed", c.document(`{"n":3}`))
		s.send(&ipc.Envelope{ID: s.nextStream().id, Message: &ipc.Fail{Severity: ipc.SeverityFail, Name: "OtherError", Message: "conformance: refused"}})
		c.wantFailure(r, ipc.SeverityFail, "OtherError", "conformance: refused")
		s.run("identity", c.document(`{}`))
	}},
	{"stream/read", "who reads gets every item, also those written before the end; its result is without the stream", func(c *check) {
		s := c.startWithStreams("drain")
		r, out := s.beginReading("drain", ahead)
		sum := 0
		for i := range 5000 {
			if !out.write(fmt.Sprintf(`{"i":%d,"text":%s}`, i, quote(strings.Repeat("x", i%300)))) {
				c.failf("it wants no more after %d items", i)
			}
			sum += i
		}
		out.finish(s, "", "", "")
		c.wantState(r.done().state, fmt.Sprintf(`{"head":"here","sum":%d}`, sum), false)
	}},
	{"stream/asks", "who reads asks for so many items ahead, and for more when it is time", func(c *check) {
		s := c.startWithStreams("drain")
		r, out := s.beginReading("drain", stream.Demand{Max: 10, Min: 4})
		out.write(`{"i":0}`) // once it has asked
		n := 1
		for out.try(fmt.Sprintf(`{"i":%d}`, n)) {
			// It may have read some and asked again already, never for more than ten.
			if n++; n > 10 {
				break
			}
		}
		if n < 10 {
			c.failf("it asked for %d items at first, want 10", n)
		}
		for ; n < 100; n++ {
			if !out.write(fmt.Sprintf(`{"i":%d}`, n)) {
				c.failf("it wants no more after %d items", n)
			}
		}
		out.finish(s, "", "", "")
		c.wantState(r.done().state, `{"head":"here","sum":4950}`, false)
	}},
	{"stream/stops", "who has read enough says so, and is done", func(c *check) {
		s := c.startWithStreams("drain-three")
		r, out := s.beginReading("drain-three", ahead)
		for i := 0; i < 100_000 && out.write(`{"i":1}`); i++ {
			if i == 99_999 {
				c.failf("it took %d items and gave no end", i+1)
			}
		}
		if end := await(s, out.ended, "it gave no end"); end.Name != "" {
			c.failf("it ended the stream with %s: %s", end.Name, end.Message)
		}
		c.wantState(r.done().state, `{"head":"here","got":3}`, false)
	}},
	{"stream/writer-fails", "a failure of who writes ends the reader at once, with its name", func(c *check) {
		s := c.startWithStreams("drain")
		r, out := s.beginReading("drain", ahead)
		out.write(`{"i":1}`)
		out.finish(s, ipc.SeverityCrash, "OtherError", "conformance: refused")
		c.wantFailure(r, ipc.SeverityCrash, "OtherError", "conformance: refused")
		s.run("identity", c.document(`{}`))
	}},
	{"stream/unread", "a stream that a step does not read is passed on with its state", func(c *check) {
		s := c.startWithStreams("identity")
		if c.kind.steps["identity"].rewrites {
			c.skipf("its kind of step writes the state anew")
		}
		state, l := s.streaming()
		res := s.run("identity", state)
		row, ok := res.state.Get("items")
		if !ok || len(row.Spans) != 1 || row.Spans[0] != streamRow(l).Spans[0] {
			c.failf("the stream's row became %+v", row)
		}
	}},
	{"stream/cancelled", "a reader that waits can be cancelled", func(c *check) {
		s := c.startWithStreams("drain")
		r, out := s.beginReading("drain", ahead)
		out.write(`{"i":1}`)
		time.Sleep(settles)
		s.send(&ipc.Envelope{ID: r.ID, Message: &ipc.Cancel{Reason: "conformance"}})
		if f := r.failed(); f.Severity != ipc.SeverityCancel {
			c.failf("the step failed with %s %s: %s", f.Severity, f.Name, f.Message)
		}
		if !c.alive(s) {
			return // one that cannot stop its code ends
		}
		s.run("identity", c.document(`{}`))
	}},
	{"stream/broken", "what a writer does to the ring fails the reader's step, and nothing else", func(c *check) {
		s := c.startWithStreams("drain")
		for _, written := range []uint64{1 << 40, shm.MinStreamCapacity + 8, 4} {
			state, l := s.streaming()
			r := s.begin("drain", state)
			out := s.feed(s.nextStream(), shm.MinStreamCapacity, ahead)
			c.must(put64(out.memory, 0, written))
			l.wakeBy(s)
			c.wantFailure(r, ipc.SeverityException, "StreamError", "")
			s.run("identity", c.document(`{}`))
		}
	}},
}

// streaming is a state with a stream.
func (s *session) streaming() (ipc.Table, *streamLink) {
	l := s.streams.add("items")
	state := s.check.document(`{"head":"here"}`)
	state.Rows = append(state.Rows, streamRow(l))
	return state, l
}

// beginReading starts a behaviour on a state with a stream, and gives it the ring
// when it asks.
func (s *session) beginReading(behaviour string, d stream.Demand) (*request, *producer) {
	state, l := s.streaming()
	r := s.begin(behaviour, state)
	q := s.nextStream()
	if q.link != l {
		s.check.failf("it asked for another stream than the one in its state")
	}
	return r, s.feed(q, shm.MinStreamCapacity, d)
}

func (c *check) wantItem(in *consumer, want string) {
	got, ok := in.item()
	switch {
	case !ok:
		c.failf("the stream ended after %d items (%s %s); %s was to come", in.Items(), in.over.Name, in.over.Message, want)
	case strings.Join(strings.Fields(got), "") != want:
		c.failf("item %d is %s, want %s", in.Items(), got, want)
	}
}

func (c *check) wantEnd(in *consumer, severity ipc.Severity, name string) {
	if got, ok := in.item(); ok {
		c.failf("item %d came, which is one too many: %s", in.Items(), got)
	}
	if in.over.Severity != severity || in.over.Name != name {
		c.failf("the stream ended with %s %q: %s", in.over.Severity, in.over.Name, in.over.Message)
	}
}

// wantFailure waits for the step to fail so; an empty message is any.
func (c *check) wantFailure(r *request, severity ipc.Severity, name, message string) {
	if f := r.failed(); f.Severity != severity || f.Name != name || !strings.Contains(f.Message, message) {
		c.failf("the step failed with %s %s: %s; want %s %s: %s", f.Severity, f.Name, f.Message, severity, name, message)
	}
}

// alive reports whether the process still runs a moment later.
func (c *check) alive(s *session) bool {
	_, _, ended := s.process.ended(settles)
	return !ended
}
