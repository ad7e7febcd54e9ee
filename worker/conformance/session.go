package conformance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// handshakeTimeout is how long a program may take to say hello: an interpreter
// on a busy machine needs a while.
const handshakeTimeout = 15 * time.Second

// session is one process under test with the supervisor's end of its channel.
type session struct {
	*ipc.Peer
	check   *check
	process *process
	conn    *net.UnixConn // the Peer's; for junk, while no ring is in use
	remote  fileID        // the program's end
	hello   *ipc.Hello
	prefix  uint32
	drop    []string

	calls         *calls
	grantsCalls   bool
	streams       *streams
	grantsStreams bool

	prepared map[string]uint64 // by behaviour
	lastCode uint64

	mu     sync.Mutex
	logs   []logLine
	breach error
}

type logLine struct {
	id uint64
	ipc.Log
}

// how says how a process is started; the zero value is as the engine does it.
type how struct {
	noCapabilities bool
	welcome        ipc.Welcome
	fd             int    // the number of its descriptor; 0 is 3
	stdin          []byte // nil is /dev/null
}

// spawn starts a process without a handshake.
func (c *check) spawn(h how) *session {
	local, remote, err := ipc.Socketpair()
	c.must(err)
	defer remote.Close()
	end, err := identify(remote)
	c.must(err)
	p, err := spawn(c.options, remote, max(h.fd, 3), h.stdin)
	if err != nil {
		_ = local.Close()
		c.failf("it cannot be started: %v", err)
	}
	s := &session{check: c, process: p, conn: local, remote: end, prefix: uint32(len(c.sessions) + 1), drop: h.welcome.DropKeys, prepared: make(map[string]uint64), calls: newCalls(), streams: newStreams()}
	s.Peer = ipc.NewPeer(ipc.NewChannel(local))
	c.sessions = append(c.sessions, s)
	c.book.watch(p)
	return s
}

// start starts a process and shakes hands.
func (c *check) start(h how) *session {
	s := c.spawn(h)
	var grant []string
	if !h.noCapabilities {
		grant = []string{ipc.CapabilityRing, ipc.CapabilityConditions, ipc.CapabilityCalls, ipc.CapabilityStreams, ipc.CapabilityAhead}
	}
	h.welcome.Executor = s.prefix
	var err error
	if s.hello, err = s.Accept(h.welcome, grant, handshakeTimeout); err != nil {
		c.failf("no handshake: %v%s", err, s.exitText())
	}
	s.grantsCalls = !h.noCapabilities && slices.Contains(s.hello.Capabilities, ipc.CapabilityCalls)
	s.grantsStreams = !h.noCapabilities && slices.Contains(s.hello.Capabilities, ipc.CapabilityStreams)
	go func() {
		err := s.Serve(s.handle)
		if !errors.Is(err, ipc.ErrHangUp) && !errors.Is(err, ipc.ErrClosed) {
			s.report(err)
		}
	}()
	return s
}

// exitText says how the process ended, if it has.
func (s *session) exitText() string {
	if _, status, ok := s.process.ended(200 * time.Millisecond); ok {
		return " (it ended: " + status + ")"
	}
	return ""
}

// end hangs up and makes sure that the process is gone.
func (s *session) end() {
	_ = s.Channel.Close()
	if _, _, ok := s.process.ended(3 * time.Second); !ok {
		_ = s.process.signal(9) // unless it has just gone by itself
		<-s.process.exited
	}
}

func (s *session) report(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.breach == nil {
		s.breach = err
	}
}

func (s *session) breached() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.breach
}

// handle takes what the program sends unasked.
func (s *session) handle(e *ipc.Envelope) error {
	switch m := e.Message.(type) {
	case *ipc.Attach:
		f := e.File
		e.File = nil
		return s.attached(m, f)
	case *ipc.Detach:
		for _, id := range m.Segments {
			if err := s.check.book.leave(id, s); err != nil {
				return err
			}
		}
		return nil
	case *ipc.Log:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.logs = append(s.logs, logLine{e.ID, *m})
		return nil
	case *ipc.Ping:
		return s.Send(&ipc.Envelope{ID: e.ID, Message: new(ipc.Pong)})
	case *ipc.Call, *ipc.Cancel, *ipc.Forget, *ipc.Forward:
		return s.called(e)
	case *ipc.Stream, *ipc.Consume, *ipc.Wake, *ipc.StreamEnd:
		return s.streamed(e)
	}
	return fmt.Errorf("an executor may not send %s", e.Message.Type())
}

// attached checks a segment as the engine's ledger does. It takes f.
func (s *session) attached(m *ipc.Attach, f *os.File) error {
	id := uint64(m.Segment)
	if uint32(id>>32) != s.prefix || uint32(id) == 0 || m.Size == 0 || m.Size > 1<<62 {
		err := fmt.Errorf("attach of segment %#x with %d bytes: ids are the welcome's executor number (%d) << 32 | n, n from 1", id, m.Size, s.prefix)
		return errors.Join(err, f.Close())
	}
	seg, err := shm.Open(m.Segment, f, int64(m.Size))
	if err != nil {
		return fmt.Errorf("attach of segment %#x: %w", id, err)
	}
	if w, err := writable(f, int(min(m.Size, 4096))); err != nil || w {
		return errors.Join(fmt.Errorf("attach of segment %#x: its descriptor can be mapped for writing (%v)", id, err), seg.Close())
	}
	return s.check.book.enter(seg, s)
}

// logsOf returns the log lines of a request so far.
func (s *session) logsOf(id uint64) []logLine {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.logs), func(l logLine) bool { return l.id != id })
}

// prepare hands over a behaviour's code, once, and returns it.
func (s *session) prepare(behaviour string) uint64 {
	if code, ok := s.prepared[behaviour]; ok {
		return code
	}
	spec := s.check.spec(s, behaviour)
	code := s.prepareSpec(string(s.check.options.Kind), spec)
	s.prepared[behaviour] = code
	return code
}

func (s *session) prepareSpec(kind, spec string) uint64 {
	s.lastCode++
	s.send(&ipc.Envelope{Message: &ipc.Prepare{Code: s.lastCode, Kind: kind, Spec: spec}})
	return s.lastCode
}

// send sends, or fails the case with what became of the program.
func (s *session) send(e *ipc.Envelope) {
	if err := s.Send(e); err != nil {
		s.lost(e.Message.Type().String()+" could not be sent", err)
	}
}

// lost fails the case because the channel is of no use any more.
func (s *session) lost(what string, err error) {
	if breach := s.breached(); breach != nil {
		s.check.failf("%s: it broke a rule of the protocol: %v", what, breach)
	}
	s.check.failf("%s: %v%s", what, err, s.exitText())
}

// request is an execute under way.
type request struct {
	*ipc.Request
	session *session
	input   ipc.Table
	sent    uint64
}

// result is an answer: done or fail.
type result struct {
	done  *ipc.Done
	fail  *ipc.Fail
	state ipc.Table
	logs  []logLine
}

// begin starts a behaviour on a state.
func (s *session) begin(behaviour string, state ipc.Table) *request {
	return s.execute(ipc.Execute{Code: s.prepare(behaviour)}, state)
}

// execute sends the segments that are missing, then the execute.
func (s *session) execute(m ipc.Execute, state ipc.Table) *request {
	s.attach(state)
	m.Run, m.Step, m.Attempt = "conformance-run", "conformance-step", 1
	sent := monotonic()
	r, err := s.Start(&ipc.Envelope{Message: &m, State: state}, nil)
	if err != nil {
		s.lost("execute could not be sent", err)
	}
	return &request{Request: r, session: s, input: state, sent: sent}
}

// end waits for the answer and checks it.
func (r *request) end() result {
	s := r.session
	ctx, cancel := context.WithTimeout(s.check.ctx, s.check.options.Timeout*3/4)
	defer cancel()
	e, err := r.Wait(ctx)
	if err != nil {
		s.lost("execute was not answered", err)
	}
	received := monotonic()
	res := result{logs: s.logsOf(r.ID)}
	switch m := e.Message.(type) {
	case *ipc.Fail:
		res.fail = m
		s.checkFail(m)
	case *ipc.Done:
		if m.Started < r.sent || m.Finished < m.Started || received < m.Finished {
			s.check.failf("done says that the step ran from %d to %d, but it was asked for at %d and answered at %d (CLOCK_MONOTONIC, ns)", m.Started, m.Finished, r.sent, received)
		}
		unused, err := s.check.book.publish(s, m.Blocks, e.State)
		s.check.must(err)
		s.release(unused)
		s.check.must(s.check.book.checkValues(e.State))
		s.checkKeys(e.State)
		res.done, res.state = m, e.State
	}
	return res
}

func (s *session) checkFail(m *ipc.Fail) {
	severities := []ipc.Severity{ipc.SeverityFail, ipc.SeverityCrash, ipc.SeverityKill, ipc.SeverityException, ipc.SeverityCancel}
	switch {
	case !slices.Contains(severities, m.Severity):
		s.check.failf("fail has the unknown severity %q", m.Severity)
	case m.Name == "" || m.Message == "":
		s.check.failf("fail has no name or no message: %+v", *m)
	case m.Details != "" && !isObject(m.Details):
		s.check.failf("fail's details are no JSON object: %q", m.Details)
	}
}

// checkKeys fails the case when a key was passed on that must not be.
func (s *session) checkKeys(t ipc.Table) {
	if t.Kind != ipc.KindObject {
		return
	}
	for _, row := range t.Rows {
		if strings.HasPrefix(row.Key, "_") || slices.Contains(s.drop, row.Key) {
			s.check.failf("the result has the key %q, which is private or to be dropped", row.Key)
		}
	}
}

// run is begin and end for a step that must succeed.
func (s *session) run(behaviour string, state ipc.Table) result {
	return s.begin(behaviour, state).done()
}

// done is end for a step that must succeed.
func (r *request) done() result {
	res := r.end()
	if res.fail != nil {
		r.session.check.failf("the step failed: %s %s: %s %s", res.fail.Severity, res.fail.Name, res.fail.Message, res.fail.Details)
	}
	return res
}

// failed is end for a step that must fail.
func (r *request) failed() *ipc.Fail {
	res := r.end()
	if res.fail == nil {
		r.session.check.failf("the step succeeded, with %s", r.session.check.text(res.state))
	}
	return res.fail
}

// release gives a result's blocks back.
func (s *session) release(blocks []shm.Block) {
	if len(blocks) == 0 {
		return
	}
	s.check.book.release(blocks)
	s.send(&ipc.Envelope{Message: &ipc.Release{Blocks: blocks}})
}

// ping returns once the program has acted on all that was sent before.
func (s *session) ping() {
	ctx, cancel := context.WithTimeout(s.check.ctx, 5*time.Second)
	defer cancel()
	if _, err := s.Call(ctx, &ipc.Envelope{Message: new(ipc.Ping)}); err != nil {
		s.lost("ping was not answered within 5s", err)
	}
}
