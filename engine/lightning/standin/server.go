package standin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// maxViolations bounds how many violations are kept.
const maxViolations = 1000

// ErrUnknownRun is returned for a run that is not there (any more).
var ErrUnknownRun = errors.New("standin: no such run")

// ErrClosed is returned once the server is closed.
var ErrClosed = errors.New("standin: closed")

// Server is a stand-in for Lightning. Its methods are safe for concurrent use.
type Server struct {
	options  Options
	signer   *signer
	listener net.Listener
	http     *http.Server
	gate     *gate
	cut      atomic.Int64
	serving  sync.WaitGroup // sockets and late replies
	ctx      context.Context
	stop     context.CancelFunc

	mu         sync.Mutex
	conns      map[*conn]bool
	opened     int  // sockets so far
	former     Wire // of sockets that are closed
	runs       map[string]*run
	waiting    []string // available runs, the oldest first
	finished   []string // the oldest first
	counts     map[string]int
	violations []Violation
	omitted    int
	changed    chan struct{} // closed and made anew at each change
}

// New starts a server. Close it.
func New(options Options) (*Server, error) {
	if options.Addr == "" {
		options.Addr = "127.0.0.1:0"
	}
	if options.Secret == "" {
		options.Secret = randomSecret()
	}
	if options.MaxFrame == 0 {
		options.MaxFrame = DefaultMaxFrame
	}
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	signer, err := newSigner(options.RSA)
	if err != nil {
		return nil, fmt.Errorf("standin: a key for run tokens: %w", err)
	}
	listener, err := net.Listen("tcp", options.Addr)
	if err != nil {
		return nil, fmt.Errorf("standin: %w", err)
	}
	s := &Server{
		options: options, signer: signer, listener: listener, gate: newGate(),
		conns: make(map[*conn]bool), runs: make(map[string]*run), counts: make(map[string]int),
		changed: make(chan struct{}),
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.http = &http.Server{Handler: s.routes(), ReadHeaderTimeout: 10 * time.Second}
	s.serving.Add(1)
	go func() {
		defer s.serving.Done()
		_ = s.http.Serve(listener) // it always ends with Close's error
	}()
	return s, nil
}

// URL is what a worker is given as Lightning's.
func (s *Server) URL() string { return "ws://" + s.listener.Addr().String() + "/worker" }

// Address is the host and port that the server listens on.
func (s *Server) Address() string { return s.listener.Addr().String() }

// Secret is what workers sign their tokens with.
func (s *Server) Secret() string { return s.options.Secret }

// PublicKey is the key of run tokens, as a worker is configured with: PEM in
// base64.
func (s *Server) PublicKey() string { return s.signer.public }

// Close drops all sockets and ends the server.
func (s *Server) Close() error {
	s.stop()
	err := s.http.Close()
	s.DropAll()
	s.serving.Wait()
	return err
}

// Enqueue adds a run and returns its id. Workers are told that there is work.
func (s *Server) Enqueue(input Run) (string, error) {
	r, err := newRun(input, s.signer)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	if s.ctx.Err() != nil {
		s.mu.Unlock()
		return "", ErrClosed
	}
	s.runs[r.record.ID] = r
	s.waiting = append(s.waiting, r.record.ID)
	var told []*conn
	for c := range s.conns {
		if c.queueRef != nil {
			told = append(told, c)
		}
	}
	n := len(s.runs)
	s.change()
	s.mu.Unlock()
	for _, c := range told {
		// Lightning's payload is not to be looked into: an object or a string.
		var payload any = map[string]any{}
		if n%2 == 0 {
			payload = "work"
		}
		s.serving.Add(1)
		go func() {
			defer s.serving.Done()
			c.send(nil, nil, queueTopic, "work-available", payload)
		}()
	}
	return r.record.ID, nil
}

// Wait waits until the run is finished.
func (s *Server) Wait(ctx context.Context, id string) (*RunRecord, error) {
	for {
		record, changed, err := s.look(id)
		if err != nil || record.State == StateFinished {
			return record, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return record, fmt.Errorf("run %s is %s after %d events: %w", id, record.State, len(record.Events), context.Cause(ctx))
		case <-s.ctx.Done():
			return record, ErrClosed
		}
	}
}

// Run returns what is known of a run now.
func (s *Server) Run(id string) (*RunRecord, error) {
	record, _, err := s.look(id)
	return record, err
}

// look returns a run, and a channel that is closed when something changes.
func (s *Server) look(id string) (*RunRecord, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.runs[id]
	if r == nil {
		return nil, nil, fmt.Errorf("%w: %s", ErrUnknownRun, id)
	}
	return r.record.clone(), s.changed, nil
}

// Until waits until a condition holds; it is called at each change.
func (s *Server) Until(ctx context.Context, holds func() bool) error {
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if holds() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.ctx.Done():
			return ErrClosed
		}
	}
}

// Violations returns what workers did wrong, the first thousand.
func (s *Server) Violations() []Violation {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.violations)
}

// Wire are figures of the sockets, before inflation.
type Wire struct {
	Sockets int `json:"sockets"` // opened so far
	Open    int `json:"open"`
	// Bytes received; Frames of data; Largest message; Deflated frames;
	// Fragments beyond a message's first; Oversized sockets were dropped for a
	// message above the limit.
	Bytes     int64 `json:"bytes"`
	Frames    int64 `json:"frames"`
	Largest   int64 `json:"largest"`
	Deflated  int64 `json:"deflated"`
	Fragments int64 `json:"fragments"`
	Oversized int   `json:"oversized"`
}

// Wire returns the figures so far.
func (s *Server) Wire() Wire {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.former
	for c := range s.conns {
		w.add(c.meter)
	}
	w.Sockets, w.Open = s.opened, len(s.conns)
	return w
}

func (w *Wire) add(m *meter) {
	w.Bytes += m.bytes.Load()
	w.Frames += m.frames.Load()
	w.Largest = max(w.Largest, m.largest.Load())
	w.Deflated += m.deflated.Load()
	w.Fragments += m.fragments.Load()
	if m.dropped.Load() {
		w.Oversized++
	}
}

// Count returns how many messages of an event there were.
func (s *Server) Count(event string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[event]
}

// Stall stops reading from all sockets, or goes on.
func (s *Server) Stall(stall bool) { s.gate.shut(stall) }

// CutAfter closes, once, the socket on which so many bytes of one frame have
// come, in the middle of that frame.
func (s *Server) CutAfter(n int64) { s.cut.Store(n) }

// DropAll closes all sockets without a word.
func (s *Server) DropAll() {
	s.mu.Lock()
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		c.meter.Close()
	}
}

// change tells those who wait. s.mu is held.
func (s *Server) change() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// violate keeps a violation. s.mu is held.
func (s *Server) violate(v Violation) {
	s.options.Logger.Warn("violation", "socket", v.Conn, "topic", v.Topic, "event", v.Event, "text", v.Text)
	if len(s.violations) == maxViolations {
		s.omitted++
		return
	}
	s.violations = append(s.violations, v)
}

// finish puts a run to those that are kept for a while. s.mu is held.
func (s *Server) finish(id string) {
	s.finished = append(s.finished, id)
	if h := s.options.History; h > 0 && len(s.finished) > h {
		delete(s.runs, s.finished[0])
		s.finished = s.finished[1:]
	}
}

// dataclip returns a dataclip's text of any run.
func (s *Server) dataclip(id string) (json.RawMessage, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.runs {
		if d, ok := r.record.Dataclips[id]; ok && d.Text != nil {
			return d.Text, true
		}
	}
	return nil, false
}
