package payload

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// records is a document of about n bytes.
func records(n int) string {
	var b strings.Builder
	b.WriteString(`{"data":[`)
	for i := 0; b.Len() < n; i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"id":%d,"name":"patient %d","weight":%d.5,"visits":[{"on":"2024-01-%02d","clinic":"north"}],"active":%v}`,
			i, i*7919, 40+i%60, 1+i%28, i%3 == 0)
	}
	b.WriteString(`]}`)
	return b.String()
}

// sink is a socket whose other end reads everything.
func sink(b *testing.B) net.Conn {
	l, err := net.Listen("unix", filepath.Join(b.TempDir(), "s"))
	if err != nil {
		b.Fatal(err)
	}
	go func() {
		conn, err := l.Accept()
		if err == nil {
			io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{conn}, make([]byte, 1<<20))
			conn.Close()
		}
	}()
	conn, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close(); l.Close() })
	return conn
}

// BenchmarkString sends a state inside a string: as a message, by a loop that
// reads, escapes and writes the same bytes and checks nothing, and through
// encoding/json.
func BenchmarkString(b *testing.B) {
	doc := records(32 << 20)
	s := newStore(b)
	table := read(b, s, doc)
	file, err := os.Create(filepath.Join("/dev/shm", "bench-payload"))
	if err != nil {
		b.Skip(err)
	}
	os.Remove(file.Name())
	defer file.Close()
	file.WriteString(doc)
	run := func(name string, f func(w io.Writer) error) {
		b.Run(name, func(b *testing.B) {
			w := sink(b)
			b.SetBytes(int64(len(doc)))
			b.ReportAllocs()
			for b.Loop() {
				if err := f(w); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("message", func(w io.Writer) error { return New(s.Ledger).State("s", table, true).WriteJSON(w) })
	run("size and message", func(w io.Writer) error {
		m := New(s.Ledger).State("s", table, true)
		if _, err := m.Size(); err != nil {
			return err
		}
		return m.WriteJSON(w)
	})
	run("inline", func(w io.Writer) error { return New(s.Ledger).State("s", table, false).WriteJSON(w) })
	run("bare loop", func(w io.Writer) error {
		in, out := make([]byte, 256<<10), make([]byte, 0, 512<<10)
		for off := int64(0); ; {
			n, err := file.ReadAt(in, off)
			off += int64(n)
			out = out[:0]
			for _, c := range in[:n] {
				if c == '"' || c == '\\' || c < ' ' {
					out = append(out, '\\', c)
				} else {
					out = append(out, c)
				}
			}
			if _, err := w.Write(out); err != nil {
				return err
			}
			if err == io.EOF {
				return nil
			}
		}
	})
	run("bare loop with this escaper", func(w io.Writer) error {
		in := make([]byte, 256<<10)
		e := escaper{w: w, buf: make([]byte, escapeBuffer)}
		for off := int64(0); ; {
			n, err := file.ReadAt(in, off)
			off += int64(n)
			if _, err := e.Write(in[:n]); err != nil {
				return err
			}
			if err == io.EOF {
				return e.flush()
			}
		}
	})
	run("encoding json", func(w io.Writer) error {
		var state any
		if err := json.Unmarshal([]byte(doc), &state); err != nil {
			return err
		}
		inner, err := json.Marshal(state)
		if err != nil {
			return err
		}
		outer, err := json.Marshal(map[string]string{"s": string(inner)})
		if err != nil {
			return err
		}
		_, err = io.Copy(w, bytes.NewReader(outer))
		return err
	})
}

func BenchmarkSize(b *testing.B) {
	s := newStore(b)
	table := read(b, s, records(32<<20))
	b.SetBytes(int64(table.Size()))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := New(s.Ledger).State("s", table, true).Size(); err != nil {
			b.Fatal(err)
		}
	}
}
