package conformance

import (
	"encoding/binary"
	"errors"
	"os"
	"time"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// A breach is what a supervisor that has lost its mind sends. The executor has
// to exit: not hang, not crash, not go on as if nothing had been.
type breach struct {
	name, about string
	bytes       func() []byte
}

var breaches = []breach{
	{name: "unknown-type", about: "a frame of an unknown type", bytes: func() []byte { return frame(func(b []byte) { b[4] = 200 }) }},
	{name: "type-0", about: "a frame of type 0", bytes: func() []byte { return frame(func(b []byte) { b[4] = 0 }) }},
	{name: "oversized", about: "a frame that says it has 2 GiB", bytes: func() []byte {
		return frame(func(b []byte) { binary.LittleEndian.PutUint32(b, 0x7fff_fff8) })
	}},
	{name: "just-oversized", about: "a frame 8 bytes over the limit", bytes: func() []byte {
		return frame(func(b []byte) { binary.LittleEndian.PutUint32(b, ipc.MaxFrameSize+8) })
	}},
	{name: "size-0", about: "a frame that says it has no bytes", bytes: func() []byte {
		return frame(func(b []byte) { binary.LittleEndian.PutUint32(b, 0) })
	}},
	{name: "unaligned", about: "a frame whose size is no multiple of 8", bytes: func() []byte {
		return append(frame(func(b []byte) { binary.LittleEndian.PutUint32(b, 29) }), make([]byte, 64)...)
	}},
	{name: "long-head", about: "a head longer than its frame", bytes: func() []byte {
		return frame(func(b []byte) { binary.LittleEndian.PutUint32(b[16:], 0xffff_fff0) })
	}},
	{name: "many-rows", about: "a table that says it has 2^32 rows", bytes: func() []byte {
		return execute(func(b []byte) { binary.LittleEndian.PutUint32(b[20:], 0xffff_ffff) })
	}},
	{name: "table-out-of-place", about: "a ping with a table", bytes: func() []byte { return frame(func(b []byte) { b[5] = 1 }) }},
	{name: "bad-encoding", about: "a reference of an unknown encoding", bytes: func() []byte {
		return execute(func(b []byte) { b[len(b)-32+24] = 77 })
	}},
	{name: "bad-text", about: "a text that is not UTF-8", bytes: func() []byte {
		return execute(func(b []byte) { b[ipc.HeaderSize+12] = 0xff })
	}},
	{name: "hello", about: "a hello, which is not for executors", bytes: func() []byte {
		return encode(&ipc.Envelope{Message: &ipc.Hello{MinVersion: 1, MaxVersion: 1, Language: "x"}})
	}},
	{name: "doorbell-only", about: "a from-socket, which no socket carries", bytes: func() []byte { return frame(func(b []byte) { b[4] = byte(ipc.TypeFromSocket) }) }},
	{name: "noise", about: "text in place of frames", bytes: func() []byte { return []byte("GET / HTTP/1.1\r\nHost: example.org\r\n\r\n") }},
	{name: "no-descriptor", about: "an attach whose descriptor does not come", bytes: func() []byte {
		return encode(&ipc.Envelope{Message: &ipc.Attach{Segment: 1, Size: 4096}, File: os.Stderr})
	}},
}

// shrinking are attaches that a careless executor dies of: it maps what it is
// handed, and the file then gets shorter.
var shrinking = []struct {
	name, about string
	make        func() (*os.File, error)
	size        uint64
}{
	{"not-memfd", "a file that is no memfd", func() (*os.File, error) {
		f, err := os.CreateTemp("", "millrace-conformance-")
		if err != nil {
			return nil, err
		}
		return f, errors.Join(f.Truncate(4096), os.Remove(f.Name()))
	}, 4096},
	{"unsealed", "a memfd that can be truncated", func() (*os.File, error) { return unsealed(4096) }, 4096},
	{"wrong-size", "a memfd smaller than was said", func() (*os.File, error) { return unsealed(4096) }, 1 << 32},
}

// probe attaches the file, truncates it and has a step read its last byte. The
// executor may exit or fail the step; it must not crash.
func (s *session) probe(f *os.File, size uint64) {
	c := s.check
	const id = 0x7777
	s.send(&ipc.Envelope{Message: &ipc.Attach{Segment: id, Size: size}, File: f})
	c.must(f.Truncate(0))
	ref := shm.Ref{Segment: id, Offset: size - 1, Length: 1, Encoding: shm.JSON}
	r, err := s.Start(&ipc.Envelope{
		Message: &ipc.Execute{Code: s.prepared["append"], Run: "run", Step: "step", Attempt: 1},
		State:   object(ipc.Row{Key: "value", Spans: []shm.Ref{ref}}),
	}, nil)
	if err == nil {
		var e *ipc.Envelope
		if e, err = r.Wait(c.ctx); err == nil {
			if _, ok := e.Message.(*ipc.Fail); !ok {
				c.failf("a step that reads from it succeeded")
			}
			return
		}
	}
	s.exits("when it was handed a segment that shrinks", 3*time.Second)
}

func encode(e *ipc.Envelope) []byte {
	b, err := ipc.AppendFrame(nil, e)
	if err != nil {
		panic(err)
	}
	return b
}

// frame is a ping, spoilt.
func frame(spoil func([]byte)) []byte {
	b := encode(&ipc.Envelope{ID: 1, Message: new(ipc.Ping)})
	spoil(b)
	return b
}

// execute is one with a row, spoilt. Its reference comes last, its run's id
// right behind its code and that text's length.
func execute(spoil func([]byte)) []byte {
	b := encode(&ipc.Envelope{ID: 1, Message: &ipc.Execute{Code: 1, Run: "run", Step: "step", Attempt: 1},
		State: object(ipc.Row{Key: "k", Spans: []shm.Ref{{Segment: 1, Length: 1, Encoding: shm.JSON}}})})
	spoil(b)
	return b
}

func junkCases() []testCase {
	cases := []testCase{
		{"junk/truncated", "it exits when the supervisor hangs up in the middle of a frame", func(c *check) {
			s := c.start(how{noCapabilities: true})
			whole := execute(func([]byte) {})
			s.write(whole[:len(whole)-9])
			_ = s.Channel.Close()
			s.exits("after half a frame and a hang-up", time.Second)
		}},
		{"junk/truncated-header", "it exits when the supervisor hangs up in the middle of a header", func(c *check) {
			s := c.start(how{noCapabilities: true})
			s.write(frame(func([]byte) {})[:7])
			_ = s.Channel.Close()
			s.exits("after half a header and a hang-up", time.Second)
		}},
		{"junk/in-pieces", "frames that come byte by byte are frames", func(c *check) {
			s := c.start(how{noCapabilities: true})
			code := s.prepare("identity")
			in := c.document(`{"a":1}`)
			s.run("identity", in) // attached by now
			b := encode(&ipc.Envelope{Message: &ipc.Cancel{Reason: "nothing runs"}})
			b = append(b, encode(&ipc.Envelope{Message: &ipc.Prepare{Code: code + 1000, Kind: "no such kind", Spec: "{}"}})...)
			for i := range b {
				s.write(b[i : i+1])
				if i%16 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
			s.ping()
			s.run("identity", in)
		}},
		{"junk/before-welcome", "it exits when something else comes in place of the welcome", func(c *check) {
			s := c.spawn(how{})
			s.expectHello()
			s.send(&ipc.Envelope{ID: 1, Message: new(ipc.Ping)})
			s.exits("after a ping in place of the welcome", 5*time.Second)
		}},
		{"junk/newer-fields", "bytes behind a head's known fields are ignored", func(c *check) {
			s := c.start(how{noCapabilities: true})
			b := encode(&ipc.Envelope{Message: &ipc.Cancel{Reason: "12345678"}}) // a head of 12 bytes, padded to 16
			b = append(b, 1, 2, 3, 4, 5, 6, 7, 8)
			binary.LittleEndian.PutUint32(b, uint32(len(b)))
			binary.LittleEndian.PutUint32(b[16:], uint32(len(b)-ipc.HeaderSize))
			s.write(b)
			s.ping()
		}},
	}
	for _, j := range breaches {
		cases = append(cases, testCase{"junk/" + j.name, "it exits when it is sent " + j.about, func(c *check) {
			s := c.start(how{noCapabilities: true})
			s.prepare("append")
			s.write(j.bytes())
			s.exits("when it was sent "+j.about, 3*time.Second)
		}})
	}
	for _, j := range shrinking {
		cases = append(cases, testCase{"junk/" + j.name, "it survives, or refuses, " + j.about, func(c *check) {
			s := c.start(how{noCapabilities: true})
			s.prepare("append")
			f, err := j.make()
			c.must(err)
			defer f.Close()
			s.probe(f, j.size)
		}})
	}
	return cases
}

// write puts bytes on the socket, beside the Peer; no ring may be in use.
func (s *session) write(b []byte) {
	if _, err := s.conn.Write(b); err != nil {
		s.lost("bytes could not be sent", err)
	}
}
