package phoenix

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// Socket is a connection to a Phoenix server that is made again whenever it is
// lost. Its methods may be called from any goroutine.
type Socket struct {
	opts  Options
	slots chan struct{} // one for each push in a queue
	stop  chan struct{} // closed by Close
	ended chan struct{} // closed when run has ended
	wake  chan struct{} // the writer has something to do

	mu       sync.Mutex
	idle     *sync.Cond // broadcast when a message was written
	closed   bool
	conn     *connection
	lastRef  uint64
	channels map[string]*Channel
	control  []*push          // joins, leaves and heartbeats: before anything else
	ready    []*Channel       // with something to send; they take turns
	pending  map[string]*push // sent, by ref
	writing  bool
	reading  bool
	later    []func() // to be called without the lock
	stats    Stats
}

// Stats counts what happened on a socket.
type Stats struct {
	Connects  int64 // connections made
	Messages  int64 // pushes written, resends and heartbeats included
	Resent    int64 // pushes written again
	Bytes     int64 // of JSON text written, before compression
	Unmatched int64 // replies to nothing that waits: late, second or unknown
	Garbage   int64 // messages that are no Phoenix message
	Outbox    int   // pushes waiting to be sent or acknowledged now
}

// Dial makes the first connection and returns the socket, which reconnects by
// itself until Close. Errors: *ConnectError, except with Options.KeepTrying.
func Dial(ctx context.Context, o Options) (*Socket, error) {
	s := newSocket(o)
	conn, err := s.connect(ctx)
	if err != nil {
		s.opts.OnDisconnect(err)
		if !o.KeepTrying || ctx.Err() != nil {
			return nil, err
		}
	}
	go s.run(conn)
	return s, nil
}

func newSocket(o Options) *Socket {
	s := &Socket{
		opts: o.withDefaults(), stop: make(chan struct{}), ended: make(chan struct{}), wake: make(chan struct{}, 1),
		channels: map[string]*Channel{}, pending: map[string]*push{},
	}
	s.idle = sync.NewCond(&s.mu)
	s.slots = make(chan struct{}, s.opts.Outbox)
	return s
}

// Close leaves no channel, but ends the connection and everything that waits
// on the socket, with ErrClosed. It returns when all goroutines have ended. It
// must not be called from a handler.
func (s *Socket) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.stop)
	}
	s.mu.Unlock()
	<-s.ended
	return nil
}

// Connected says whether there is a connection now.
func (s *Socket) Connected() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn != nil
}

// Stats returns counts since Dial.
func (s *Socket) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := s.stats
	stats.Outbox = len(s.slots)
	return stats
}

// backoff returns how long to wait before the attempt of that number.
func (s *Socket) backoff(attempt int) time.Duration {
	d := min(time.Duration(attempt)*s.opts.ReconnectUnit, s.opts.ReconnectMax)
	return d + time.Duration(rand.Int64N(int64(d)/4+1))
}

// run keeps a connection until Close.
func (s *Socket) run(conn *connection) {
	defer close(s.ended)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-s.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	for attempt := 1; ; attempt++ {
		if conn != nil {
			attempt = 1
			s.serve(conn)
		}
		select {
		case <-s.stop:
			s.abandon()
			return
		case <-time.After(s.backoff(attempt)):
		}
		var err error
		if conn, err = s.connect(ctx); err != nil && ctx.Err() == nil {
			s.opts.Logger.Warn("could not connect", "error", err, "attempt", attempt)
			s.opts.OnDisconnect(err)
		}
	}
}

// serve uses a connection until it breaks or the socket is closed.
func (s *Socket) serve(conn *connection) {
	s.mu.Lock()
	s.conn = conn
	s.stats.Connects++
	s.mu.Unlock()
	s.opts.OnConnect()
	s.mu.Lock()
	for _, c := range s.channels {
		if c.state != joining {
			continue
		}
		if c.retry != nil {
			c.retry.Stop()
		}
		c.startJoin()
	}
	s.mu.Unlock()

	var group sync.WaitGroup
	group.Go(func() { s.receive(conn) })
	group.Go(func() { s.transmit(conn) })
	if s.opts.Heartbeat > 0 {
		group.Go(func() { s.beat(conn) })
	}
	polite := false
	select {
	case <-conn.failed:
		s.lastWord(conn)
	case <-s.stop:
		s.mu.Lock()
		polite = !s.writing
		s.mu.Unlock()
	}
	conn.close(polite)
	s.fail(conn, ErrClosed)
	group.Wait()
	s.detach(conn)
}

// lastWord waits a moment, where writing failed, for the reader to see why the
// server hung up: its own word says more.
func (s *Socket) lastWord(conn *connection) {
	for range 20 {
		s.mu.Lock()
		wait := errors.As(conn.err, new(*writeError))
		s.mu.Unlock()
		if !wait {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// detach follows the end of a connection: what was on its way becomes ready
// to be sent again, or fails.
func (s *Socket) detach(conn *connection) {
	s.mu.Lock()
	s.conn = nil
	cause := conn.err
	if closeStatus(cause) == tooBigStatus {
		s.dropLargest(cause)
	}
	s.ready = s.ready[:0]
	for _, c := range s.channels {
		c.scheduled = false
		c.lost(cause)
	}
	// A join waits for the next connection; other control ends with this one.
	for _, p := range s.pending {
		s.forget(p)
	}
	for _, p := range s.control {
		s.forget(p)
	}
	clear(s.pending)
	s.control = nil
	stopped := s.closed
	s.mu.Unlock()
	s.callLater()
	if !stopped {
		s.opts.Logger.Warn("the connection was lost", "error", cause)
		s.opts.OnDisconnect(cause)
	}
}

// forget ends a control push that went with its connection. Called with mu
// held.
func (s *Socket) forget(p *push) {
	switch {
	case p.channel != nil: // in its channel's queue
	case p.joins != nil && p.joins.joinPush == p:
		p.sent = false
		if p.timer != nil {
			p.timer.Stop()
		}
	default:
		s.finish(p, nil, ErrDisconnected)
	}
}

// dropLargest ends the push that the server found too big. Called with mu held.
func (s *Socket) dropLargest(cause error) {
	var largest *push
	for _, p := range s.pending {
		if p.channel != nil && (largest == nil || p.size > largest.size) {
			largest = p
		}
	}
	if largest != nil {
		s.finish(largest, nil, &TooBigError{Topic: largest.topic, Event: largest.event, Size: largest.size, Sends: largest.sends, Err: cause})
	}
}

// abandon ends everything when the socket is closed.
func (s *Socket) abandon() {
	s.mu.Lock()
	for _, c := range s.channels {
		c.end(ErrClosed, false)
	}
	s.mu.Unlock()
	s.callLater()
}

// fail marks a connection as broken; the first cause counts, but a reason that
// the server gave beats a failed write.
func (s *Socket) fail(conn *connection, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if conn.err == nil {
		conn.err = cause
		close(conn.failed)
		return
	}
	if errors.As(conn.err, new(*writeError)) && closeStatus(cause) >= 0 {
		conn.err = cause
	}
}

// kick wakes the writer. Called with mu held.
func (s *Socket) kick() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// callLater calls what was put off until mu is not held.
func (s *Socket) callLater() {
	s.mu.Lock()
	later := s.later
	s.later = nil
	s.mu.Unlock()
	for _, f := range later {
		f()
	}
}

// ref returns a new ref. Called with mu held.
func (s *Socket) ref() string {
	s.lastRef++
	return strconv.FormatUint(s.lastRef, 10)
}

const tooBigStatus = websocket.StatusMessageTooBig

func closeStatus(err error) websocket.StatusCode { return websocket.CloseStatus(err) }
