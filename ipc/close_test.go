package ipc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// Each blocking call × closed before it, during it × by this side, by the peer.
func TestClose(t *testing.T) {
	calls := map[string]func(*Channel) error{
		"receive": func(c *Channel) error { _, err := c.Receive(); return err },
		"send": func(c *Channel) error {
			for {
				if err := c.Send(&Envelope{Message: &Log{Message: string(make([]byte, 10_000))}}); err != nil {
					return err
				}
			}
		},
		"send by the socket": func(c *Channel) error {
			for {
				if err := c.Send(&Envelope{Message: &Log{Message: string(make([]byte, 100_000))}}); err != nil {
					return err
				}
			}
		},
		"call": func(c *Channel) error {
			p := NewPeer(c)
			go p.Serve(func(*Envelope) error { return nil })
			_, err := p.Call(context.Background(), &Envelope{Message: &Execute{}})
			<-p.Done()
			return err
		},
		"serve": func(c *Channel) error {
			return NewPeer(c).Serve(func(*Envelope) error { return nil })
		},
	}
	for _, transport := range transports {
		for name, call := range calls {
			for _, when := range []string{"before", "during"} {
				for _, who := range []string{"local", "remote"} {
					t.Run(fmt.Sprintf("%s/%s/%s/%s", transport.name, name, when, who), func(t *testing.T) {
						noLeaks(t)
						c, peer := transport.pair(t)
						closer, want := c, ErrClosed
						if who == "remote" {
							closer, want = peer, ErrHangUp
						}
						if when == "before" {
							closer.Close()
						} else {
							time.AfterFunc(20*time.Millisecond, func() { closer.Close() })
						}
						within(t, name, func() {
							if err := call(c); !errors.Is(err, want) {
								t.Errorf("%v, want %v", err, want)
							}
						})
						if err := c.Close(); err != nil {
							t.Error(err)
						}
						// Closed is closed, whoever was first.
						if err := c.Send(&Envelope{Message: &Ping{}}); !errors.Is(err, ErrClosed) && !errors.Is(err, ErrHangUp) {
							t.Errorf("send after close: %v", err)
						}
						if _, err := c.Receive(); !errors.Is(err, ErrClosed) {
							t.Errorf("receive after close: %v", err)
						}
						if c.UsesRing() {
							t.Error("the ring is in use after close")
						}
					})
				}
			}
		}
	}
}

// What a peer sent before it died is received, then the hang-up.
func TestLastWords(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			noLeaks(t)
			for i := range 200 {
				c, peer := transport.pair(t)
				asleep := make(chan error, 1)
				go func() {
					for id := range uint64(4) {
						e, err := c.Receive()
						if err != nil || e.ID != id {
							asleep <- fmt.Errorf("%+v, %w", e, err)
							return
						}
						if e.File != nil {
							e.File.Close()
						}
					}
					_, err := c.Receive()
					asleep <- err
				}()
				if i%2 == 0 {
					time.Sleep(time.Duration(i) * time.Microsecond)
				}
				mustSend(t, peer, &Envelope{Message: &Ping{}})
				mustSend(t, peer, &Envelope{ID: 1, Message: &Attach{}, File: standIn(1)})
				mustSend(t, peer, &Envelope{ID: 2, Message: &Ping{}})
				mustSend(t, peer, &Envelope{ID: 3, Message: &Done{}, State: smallTable()})
				peer.Close()
				if err := <-asleep; !errors.Is(err, ErrHangUp) {
					t.Fatal(err)
				}
				c.Close()
			}
		})
	}
}

// Descriptors that came and were never asked for are closed with the channel.
func TestCloseDropsDescriptors(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			noLeaks(t)
			c, peer := transport.pair(t)
			for range 3 {
				mustSend(t, peer, &Envelope{Message: &Attach{}, File: standIn(1)})
			}
			mustReceive(t, c).File.Close()
			c.Close()
		})
	}
}

// Everything at once from everywhere, closed in the middle.
func TestHammer(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			noLeaks(t)
			for round := range 20 {
				a, b := transport.pair(t)
				var wg sync.WaitGroup
				for _, c := range []*Channel{a, b} {
					p := NewPeer(c)
					wg.Go(func() {
						p.Serve(func(e *Envelope) error {
							if e.Message.Type() != TypePing {
								return nil
							}
							return p.Send(&Envelope{ID: e.ID, Message: &Pong{}})
						})
					})
					for i := range 4 {
						wg.Go(func() {
							for {
								ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*50*time.Microsecond)
								e, err := p.Call(ctx, &Envelope{Message: &Ping{}})
								cancel()
								switch {
								case err == nil && e.Message.Type() != TypePong:
									t.Errorf("ping answered by %s", e.Message.Type())
								case err != nil && ctx.Err() == nil:
									if !errors.Is(err, ErrClosed) && !errors.Is(err, ErrHangUp) {
										t.Error(err)
									}
									return
								}
								if p.Err() != nil {
									return
								}
							}
						})
					}
				}
				time.Sleep(time.Duration(round) * time.Millisecond)
				for range 2 {
					wg.Go(func() { a.Close() })
				}
				within(t, "everything", wg.Wait)
				b.Close()
			}
		})
	}
}
