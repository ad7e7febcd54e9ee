package phoenix

import (
	"bytes"
	standard "compress/flate"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/klauspost/compress/flate"
)

// BenchmarkPush sends 32 MB of records to a server that counts them: each
// framing, with and without compression, against the library's own Write of
// the same bytes and a bare write of them to a socket.
func BenchmarkPush(b *testing.B) {
	text := bytes.Repeat([]byte(`{"id":7,"name":"patient 7919","weight":47.5,"visits":[{"on":"2024-01-08","clinic":"north"}],"active":true},`), 300_000)
	payload := whole{text}
	for _, c := range []struct {
		name string
		mode websocket.CompressionMode
		o    Options
	}{
		{"fragmented 64K", 0, Options{MaxFrame: 64 << 10}},
		{"fragmented 128K", 0, Options{}},
		{"fragmented 256K", 0, Options{MaxFrame: 256 << 10}},
		{"whole", 0, Options{Framing: Whole}},
		{"deflate", websocket.CompressionContextTakeover, Options{Compress: true}},
	} {
		b.Run(c.name, func(b *testing.B) {
			url := benchServer(b, c.mode)
			c.o.URL = url
			socket, err := Dial(b.Context(), c.o)
			if err != nil {
				b.Fatal(err)
			}
			defer socket.Close()
			channel := socket.Channel("t", nil)
			if _, err := channel.Join(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := channel.Push(b.Context(), "e", payload, PushOptions{}); err != nil {
					b.Fatal(err)
				}
			}
			socket.mu.Lock()
			b.ReportMetric(float64(socket.conn.wire.written.Load())/float64(b.N)/float64(len(text)), "wire/text")
			socket.mu.Unlock()
		})
	}
	b.Run("library", func(b *testing.B) {
		ws, _, err := websocket.Dial(b.Context(), benchServer(b, 0)+"/websocket", nil)
		if err != nil {
			b.Fatal(err)
		}
		defer ws.CloseNow()
		message := []byte(fmt.Sprintf(`["1","1","t","e",%s]`, text))
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			if err := ws.Write(b.Context(), websocket.MessageText, message); err != nil {
				b.Fatal(err)
			}
			if _, _, err := ws.Read(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkDeflate compresses records in pieces as a message does: the standard
// library's compressor and the one used, at their levels.
func BenchmarkDeflate(b *testing.B) {
	var text []byte
	for i := range 40_000 {
		text = fmt.Appendf(text, `{\"id\":%d,\"name\":\"patient %d\",\"weight\":%d.5,\"visits\":[{\"on\":\"2024-01-%02d\",\"clinic\":\"north\"}],\"active\":%t},`, i, i*7919%100_000, 40+i%60, 1+i%28, i%3 == 0)
	}
	type writer interface {
		io.Writer
		Flush() error
	}
	run := func(name string, make func(io.Writer) (writer, error)) {
		b.Run(name, func(b *testing.B) {
			var n counter
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				n = 0
				w, err := make(&n)
				if err != nil {
					b.Fatal(err)
				}
				for rest := text; len(rest) > 0; {
					piece := rest[:min(len(rest), 64<<10)]
					if _, err := w.Write(piece); err != nil {
						b.Fatal(err)
					}
					rest = rest[len(piece):]
				}
				if err := w.Flush(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n)/float64(len(text)), "wire/text")
		})
	}
	for _, level := range []int{1, 6} {
		run(fmt.Sprint("standard library/", level), func(w io.Writer) (writer, error) { return standard.NewWriter(w, level) })
	}
	for level := 1; level <= 6; level++ {
		run(fmt.Sprint("used/", level), func(w io.Writer) (writer, error) { return flate.NewWriter(w, level) })
	}
}

type whole struct{ text []byte }

func (p whole) Size() (int64, error) { return int64(len(p.text)), nil }
func (p whole) Spare() int64         { return 0 }
func (p whole) WriteJSON(w io.Writer) error {
	for rest := p.text; len(rest) > 0; { // as a reader of shared memory would
		n := min(len(rest), 256<<10)
		if _, err := w.Write(rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// benchServer answers every message, of which it looks at the beginning only.
func benchServer(b *testing.B, mode websocket.CompressionMode) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: mode})
		if err != nil {
			return
		}
		defer ws.CloseNow()
		ws.SetReadLimit(-1)
		buf := make([]byte, 256<<10)
		for {
			_, in, err := ws.Reader(context.Background())
			if err != nil {
				return
			}
			n, _ := io.ReadFull(in, buf[:64])
			fields := strings.Split(string(buf[:n]), `"`)
			if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, in, buf); err != nil {
				return
			}
			reply := fmt.Sprintf(`["%s","%s","%s","phx_reply",{"response":{},"status":"ok"}]`, fields[1], fields[3], fields[5])
			if ws.Write(context.Background(), websocket.MessageText, []byte(reply)) != nil {
				return
			}
		}
	}))
	b.Cleanup(s.Close)
	return "ws" + strings.TrimPrefix(s.URL, "http")
}
