package phoenix

import (
	"bufio"
	"bytes"
	"io"
	"testing"
)

// FuzzMessages feeds messages of a hostile server to a client that waits for
// two replies, one of which it streams. It must neither panic nor keep more
// than its limits.
func FuzzMessages(f *testing.F) {
	for _, seed := range []string{
		`["1","1","t","phx_reply",{"status":"ok","response":{"a":1}}]`,
		`["1","2","t","phx_reply",{"response":[1, 2 ,255],"status":"ok"}]`,
		`[null,null,"t","chan_reply_2",{"response":[],"status":"error"}]`,
		`["1",null,"t","phx_error",{}]`,
		`["1",null,"t","phx_close",{}]`,
		`[1,2,3]`,
		"\x01\x01\x01\x01\x0212tokbytes",
		"\x00\x01\x01\x011te{}",
	} {
		f.Add([]byte(seed), true)
		f.Add([]byte(seed), false)
	}
	f.Fuzz(func(t *testing.T, message []byte, isText bool) {
		s := newSocket(Options{MaxReply: 64, ReconnectUnit: 1 << 40, ReconnectMax: 1 << 40})
		c := s.Channel("t", nil)
		c.state, c.joinRef, c.was = joined, "1", true
		var got bytes.Buffer
		for i, ref := range []string{"1", "2"} {
			p := newPush(c, "t", "e", JSON(1), PushOptions{})
			if i == 1 {
				p.opts.Into = func(int64) (io.WriteCloser, error) { return nopCloser{&got}, nil }
			}
			p.ref, p.sent = ref, true
			s.slots <- struct{}{}
			c.queue = append(c.queue, p)
			s.pending[ref] = p
		}
		all := append([]*push(nil), c.queue...)
		in := bufio.NewReaderSize(bytes.NewReader(message), 16)
		if isText {
			s.text(scanner{in})
		} else {
			s.binary(in)
		}
		s.callLater()
		for _, p := range all {
			if p.ended && p.err == nil && (p.reply == nil || len(p.reply.Response) > 64) {
				t.Fatalf("reply %+v", p.reply)
			}
		}
		if got.Len() > len(message) {
			t.Fatalf("%d bytes from a message of %d", got.Len(), len(message))
		}
		s.mu.Lock()
		if c.retry != nil {
			c.retry.Stop()
		}
		s.mu.Unlock()
	})
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// FuzzMask compares masking in pieces with the definition.
func FuzzMask(f *testing.F) {
	f.Add([]byte("hello, world, this is more than thirty-two bytes"), uint32(0xdeadbeef), 5)
	f.Fuzz(func(t *testing.T, b []byte, key uint32, cut int) {
		mask := [4]byte{byte(key), byte(key >> 8), byte(key >> 16), byte(key >> 24)}
		want := bytes.Clone(b)
		for i := range want {
			want[i] ^= mask[i&3]
		}
		if cut < 0 || cut > len(b) {
			cut = len(b) / 2
		}
		turn := maskInto(b[:cut], b[:cut], mask, 0)
		maskInto(b[cut:], b[cut:], mask, turn)
		if !bytes.Equal(b, want) {
			t.Fatalf("cut at %d: %x, want %x", cut, b, want)
		}
	})
}
