package ipc

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

// noLeaks fails the test if it leaves a goroutine, a descriptor or a mapped
// ring behind. Call it first: clean-ups run in reverse.
func noLeaks(t testing.TB) {
	t.Helper()
	goroutines := goleak.IgnoreCurrent()
	files, rings := openFiles(t), mappedRings(t)
	t.Cleanup(func() {
		goleak.VerifyNone(t, goroutines)
		if n := openFiles(t); n != files {
			t.Errorf("%d descriptors are open, %d were before", n, files)
		}
		if n := mappedRings(t); n != rings {
			t.Errorf("%d rings are mapped, %d were before", n, rings)
		}
	})
}

func openFiles(t testing.TB) int {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func mappedRings(t testing.TB) int {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(maps), "memfd:millrace-ring")
}

// socketPair returns two connected sockets.
func socketPair(t testing.TB) (a, b *net.UnixConn) {
	t.Helper()
	a, f, err := Socketpair()
	if err != nil {
		t.Fatal(err)
	}
	if b, err = FileConn(f); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// hostilePair returns a channel and the bare socket at its other end.
func hostilePair(t testing.TB) (*Channel, *net.UnixConn) {
	t.Helper()
	a, b := socketPair(t)
	c := NewChannel(a)
	t.Cleanup(func() { c.Close() })
	return c, b
}

// transports are the two ways a frame can go.
var transports = []struct {
	name string
	pair func(testing.TB) (supervisor, executor *Channel)
}{
	{"socket", func(t testing.TB) (*Channel, *Channel) { return channelPair(t, nil) }},
	{"ring", func(t testing.TB) (*Channel, *Channel) { return channelPair(t, []string{CapabilityRing}) }},
}

// channelPair returns a channel's two ends after their handshake.
func channelPair(t testing.TB, grant []string) (supervisor, executor *Channel) {
	t.Helper()
	a, b := socketPair(t)
	supervisor, executor = NewChannel(a), NewChannel(b)
	t.Cleanup(func() { supervisor.Close(); executor.Close() })
	greeted := make(chan error, 1)
	go func() {
		_, err := executor.Greet(Hello{Capabilities: []string{CapabilityRing}}, patience)
		greeted <- err
	}()
	if _, err := supervisor.Accept(Welcome{Executor: 1}, grant, patience); err != nil {
		t.Fatal(err)
	}
	if err := <-greeted; err != nil {
		t.Fatal(err)
	}
	if want := grant != nil; supervisor.UsesRing() != want || executor.UsesRing() != want {
		t.Fatalf("ring in use: %v and %v, want %v", supervisor.UsesRing(), executor.UsesRing(), want)
	}
	return supervisor, executor
}

// within runs f and fails the test when it does not return soon.
func within(t testing.TB, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s does not return", what)
	}
}

func mustSend(t testing.TB, c *Channel, e *Envelope) {
	t.Helper()
	if err := c.Send(e); err != nil {
		t.Fatal(err)
	}
}

func mustReceive(t testing.TB, c *Channel) *Envelope {
	t.Helper()
	e, err := c.Receive()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func wantProtocolError(t testing.TB, err error, text string) {
	t.Helper()
	var p *ProtocolError
	if !errors.As(err, &p) || !strings.Contains(p.Msg, text) {
		t.Fatalf("error %v, want a protocol error that says %q", err, text)
	}
}

// memfd returns a descriptor to send.
func memfd(t testing.TB) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "test")
	t.Cleanup(func() { f.Close() })
	return f
}

// sendRaw sends bytes with descriptors as no Channel would.
func sendRaw(t testing.TB, conn *net.UnixConn, b []byte, files ...*os.File) {
	t.Helper()
	var oob []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		oob = unix.UnixRights(fds...)
	}
	if _, _, err := conn.WriteMsgUnix(b, oob, nil); err != nil {
		t.Fatal(err)
	}
}
