package ipc

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestHandshake(t *testing.T) {
	noLeaks(t)
	a, b := socketPair(t)
	supervisor, executor := NewChannel(a), NewChannel(b)
	defer supervisor.Close()
	defer executor.Close()
	type greeting struct {
		welcome *Welcome
		err     error
	}
	greeted := make(chan greeting, 1)
	go func() {
		w, err := executor.Greet(Hello{Language: "go", Capabilities: []string{"ring", "other", "conditions", "ring"}, Functions: []string{"f"}}, patience)
		greeted <- greeting{w, err}
	}()
	hello, err := supervisor.Accept(Welcome{Executor: 7, RetainBytes: 1, DropKeys: []string{"k"}, Capabilities: []string{"bogus"}}, []string{"ring", "conditions", "unasked"}, patience)
	if err != nil {
		t.Fatal(err)
	}
	if hello.PID != uint32(os.Getpid()) || hello.Language != "go" || !slices.Equal(hello.Functions, []string{"f"}) {
		t.Errorf("hello %+v", hello)
	}
	g := <-greeted
	if g.err != nil {
		t.Fatal(g.err)
	}
	if w := g.welcome; w.Version != Version || w.Executor != 7 || w.RetainBytes != 1 || w.RingSize != DefaultRingSize ||
		!slices.Equal(w.Capabilities, []string{"ring", "conditions"}) || !slices.Equal(w.DropKeys, []string{"k"}) {
		t.Errorf("welcome %+v", w)
	}
	if !supervisor.UsesRing() || !executor.UsesRing() {
		t.Error("the ring is not in use")
	}
}

func TestAcceptRefuses(t *testing.T) {
	hello := func(m Hello) []byte { return frameOf(t, Envelope{Message: &m}) }
	for _, c := range []struct {
		name  string
		send  []byte
		error string
	}{
		{"version too new", hello(Hello{MinVersion: 2, MaxVersion: 9}), "versions 2 to 9"},
		{"version too old", hello(Hello{}), "versions 0 to 0"},
		{"versions the wrong way round", hello(Hello{MinVersion: 2, MaxVersion: 0}), "versions 2 to 0"},
		{"another message first", frameOf(t, Envelope{Message: &Ping{}}), "ping came first"},
		{"done first", frameOf(t, Envelope{ID: 1, Message: &Done{}}), "done came first"},
		{"a fail", frameOf(t, Envelope{Message: &Fail{Name: "X", Message: "y"}}), "refused: X: y"},
		{"text", []byte("HELLO, I AM NOT AN EXECUTOR AT ALL"), "over the limit"},
	} {
		t.Run(c.name, func(t *testing.T) {
			noLeaks(t)
			channel, peer := hostilePair(t)
			sendRaw(t, peer, c.send)
			_, err := channel.Accept(Welcome{}, []string{CapabilityRing}, patience)
			if err == nil || !strings.Contains(err.Error(), c.error) {
				t.Fatal(err)
			}
			if strings.HasPrefix(c.error, "versions") {
				var version *VersionError
				if !errors.As(err, &version) || version.Max != Version {
					t.Error(err)
				}
				// The peer is told.
				refused := NewChannel(peer)
				e := mustReceive(t, refused)
				if fail, ok := e.Message.(*Fail); !ok || fail.Name != "VersionError" || fail.Message != version.Error() {
					t.Errorf("%+v", e.Message)
				}
			}
		})
	}
}

func TestGreetRefuses(t *testing.T) {
	ring, file, err := createRing(minRingSize)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	defer ring.unmap()
	unsealed := memfd(t)
	if err := unsealed.Truncate(ringMemorySize(minRingSize)); err != nil {
		t.Fatal(err)
	}
	pipe, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	defer w.Close()
	granted := Welcome{Version: 1, Capabilities: []string{CapabilityRing}, RingSize: minRingSize}
	with := func(change func(*Welcome)) Welcome { m := granted; change(&m); return m }
	for _, c := range []struct {
		name    string
		welcome Welcome
		file    *os.File
		error   string
	}{
		{"version 0", Welcome{}, nil, "versions 0 to 0"},
		{"version 2, with the ring", with(func(w *Welcome) { w.Version = 2 }), file, "versions 2 to 2"},
		{"no descriptor", granted, nil, "brings no descriptor"},
		{"descriptor, no ring", Welcome{Version: 1}, file, "does not grant the ring"},
		{"not announced", Welcome{Version: 1, Capabilities: []string{CapabilityConditions}}, nil, "was not announced"},
		{"ring too small", with(func(w *Welcome) { w.RingSize = 2048 }), file, "power of two"},
		{"ring too large", with(func(w *Welcome) { w.RingSize = 1 << 31 }), file, "power of two"},
		{"ring size odd", with(func(w *Welcome) { w.RingSize = 5000 }), file, "power of two"},
		{"ring size 0", with(func(w *Welcome) { w.RingSize = 0 }), file, "power of two"},
		{"ring size of another file", with(func(w *Welcome) { w.RingSize = 8192 }), file, "bytes, not"},
		{"unsealed", granted, unsealed, "not sealed"},
		{"a pipe", granted, pipe, "not sealed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			noLeaks(t)
			channel, peer := hostilePair(t)
			e := Envelope{Message: &c.welcome, File: c.file}
			var files []*os.File
			if c.file != nil {
				files = append(files, c.file)
			}
			sendRaw(t, peer, frameOf(t, e), files...)
			_, err := channel.Greet(Hello{Capabilities: []string{CapabilityRing}}, patience)
			if err == nil || !strings.Contains(err.Error(), c.error) {
				t.Fatal(err)
			}
		})
	}
}

func TestHandshakeEndsByTimeoutHangUpAndClose(t *testing.T) {
	halves := map[string]func(*Channel, time.Duration) error{
		"accept": func(c *Channel, d time.Duration) error {
			_, err := c.Accept(Welcome{}, []string{CapabilityRing}, d)
			return err
		},
		"greet": func(c *Channel, d time.Duration) error {
			_, err := c.Greet(Hello{Capabilities: []string{CapabilityRing}}, d)
			return err
		},
	}
	for name, half := range halves {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			c, peer := hostilePair(t)
			if err := half(c, 20*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
			time.AfterFunc(5*time.Millisecond, func() { peer.Close() })
			if err := half(c, patience); !errors.Is(err, ErrHangUp) {
				t.Fatal(err)
			}
			c, _ = hostilePair(t)
			time.AfterFunc(5*time.Millisecond, func() { c.Close() })
			if err := half(c, 0); !errors.Is(err, ErrClosed) {
				t.Fatal(err)
			}
			if err := half(c, 0); !errors.Is(err, ErrClosed) {
				t.Fatal(err)
			}
		})
	}
}

// Closing during the handshake leaves no ring behind, whenever it comes.
func TestCloseDuringHandshake(t *testing.T) {
	noLeaks(t)
	for i := range 200 {
		a, b := socketPair(t)
		supervisor, executor := NewChannel(a), NewChannel(b)
		ends := make(chan error, 2)
		go func() {
			_, err := supervisor.Accept(Welcome{}, []string{CapabilityRing}, patience)
			ends <- err
		}()
		go func() {
			_, err := executor.Greet(Hello{Capabilities: []string{CapabilityRing}}, patience)
			ends <- err
		}()
		time.Sleep(time.Duration(i) * 2 * time.Microsecond)
		first, second := supervisor, executor
		if i%2 == 1 {
			first, second = second, first
		}
		first.Close()
		for range 2 {
			if err := <-ends; err != nil && !errors.Is(err, ErrClosed) && !errors.Is(err, ErrHangUp) {
				t.Fatal(err)
			}
		}
		second.Close()
	}
}

func TestFromEnvironment(t *testing.T) {
	for value, text := range map[string]string{"": "not a descriptor", "x": "not a descriptor", "2": "not a descriptor", "-5": "not a descriptor", "3abc": "not a descriptor"} {
		t.Setenv(FDVariable, value)
		if _, err := FromEnvironment(); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v", value, err)
		}
	}
	os.Unsetenv(FDVariable)
	if _, err := FromEnvironment(); err == nil || !strings.Contains(err.Error(), "millrace run") {
		t.Error(err)
	}
	noLeaks(t)
	dup := func(f *os.File) string {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD, 3)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(fd)
	}
	t.Setenv(FDVariable, dup(memfd(t)))
	if _, err := FromEnvironment(); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Error(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	f, err := conn.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	t.Setenv(FDVariable, dup(f))
	if _, err := FromEnvironment(); err == nil || !strings.Contains(err.Error(), "no Unix socket") {
		t.Error(err)
	}
	local, remote, err := Socketpair()
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	defer remote.Close()
	t.Setenv(FDVariable, dup(remote))
	c, err := FromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, ok := os.LookupEnv(FDVariable); ok {
		t.Error("children would find the variable")
	}
}
