package ipc

import (
	"errors"
	"testing"
	"time"
)

// A blocked Receive gets what comes, and ends when either side closes.
func TestReceiveBlocking(t *testing.T) {
	pair := func(t *testing.T) (ours, theirs *Channel) {
		local, remote, err := Socketpair()
		if err != nil {
			t.Fatal(err)
		}
		other, err := FileConn(remote)
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs = NewChannel(local), NewChannel(other)
		t.Cleanup(func() { ours.Close(); theirs.Close() })
		ours.ReceiveBlocking()
		return ours, theirs
	}
	receive := func(c *Channel) <-chan error {
		got := make(chan error, 1)
		go func() { _, err := c.Receive(); got <- err }()
		time.Sleep(20 * time.Millisecond) // so that it most likely sleeps
		return got
	}
	wait := func(t *testing.T, got <-chan error, want error) {
		t.Helper()
		select {
		case err := <-got:
			if !errors.Is(err, want) {
				t.Fatalf("Receive() = %v, want %v", err, want)
			}
		case <-time.After(60 * time.Second):
			t.Fatal("Receive did not return")
		}
	}
	t.Run("message", func(t *testing.T) {
		ours, theirs := pair(t)
		got := receive(ours)
		if err := theirs.Send(&Envelope{Message: new(Ping)}); err != nil {
			t.Fatal(err)
		}
		wait(t, got, nil)
	})
	t.Run("hang-up", func(t *testing.T) {
		ours, theirs := pair(t)
		got := receive(ours)
		if err := theirs.Close(); err != nil {
			t.Fatal(err)
		}
		wait(t, got, ErrHangUp)
	})
	t.Run("close", func(t *testing.T) {
		ours, _ := pair(t)
		got := receive(ours)
		if err := ours.Close(); err != nil {
			t.Fatal(err)
		}
		wait(t, got, ErrClosed)
	})
}
