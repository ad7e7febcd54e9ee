package frames

import (
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// BenchmarkSend sends 128 MB of one value as a frame, and the same memory by
// bare sendfile and write.
func BenchmarkSend(b *testing.B) {
	const size = 128 << 20
	s := newStore(b)
	row, err := s.ReadValue("data", shm.Raw, io.LimitReader(letters{}, size))
	if err != nil {
		b.Fatal(err)
	}
	state := ipc.Table{Kind: ipc.KindObject, Rows: []ipc.Row{row}}
	defer s.Account.Release(state)
	value, err := s.Ledger.Value(row)
	if err != nil {
		b.Fatal(err)
	}
	var file *os.File
	var start int64
	value.Files(func(f *os.File, offset, _ int64) error { file, start = f, offset; return nil })
	mapped, err := unix.Mmap(int(file.Fd()), 0, int(start)+size, unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Munmap(mapped)
	for _, network := range []string{"unix", "tcp"} {
		for _, way := range []struct {
			name string
			send func(net.Conn, *Writer) error
		}{
			{"frame", func(_ net.Conn, w *Writer) error { return w.Write(Meta{Type: "step:complete"}, s.Ledger, state) }},
			{"sendfile", func(c net.Conn, _ *Writer) error {
				raw, err := c.(syscall.Conn).SyscallConn()
				if err != nil {
					return err
				}
				_, err = sendfile(raw, file, start, size)
				return err
			}},
			{"write", func(c net.Conn, _ *Writer) error {
				_, err := c.Write(mapped[start : start+size])
				return err
			}},
		} {
			b.Run(network+"/"+way.name, func(b *testing.B) {
				client, server := pair(b, network)
				done := make(chan struct{})
				go func() {
					defer close(done)
					io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{server}, make([]byte, 1<<20))
				}()
				w := NewWriter(client)
				b.SetBytes(size)
				for b.Loop() {
					if err := way.send(client, w); err != nil {
						b.Fatal(err)
					}
				}
				client.Close()
				<-done
			})
		}
	}
}

// letters is an endless text.
type letters struct{}

func (letters) Read(p []byte) (int, error) {
	return copy(p, strings.Repeat("abcdefgh", len(p)/8+1)), nil
}
