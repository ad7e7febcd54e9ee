package phoenix

import (
	"encoding/json"
	"errors"
	"time"
)

// transmit writes messages until the connection breaks.
func (s *Socket) transmit(conn *connection) {
	for {
		p := s.take(conn)
		if p == nil {
			return
		}
		started, err := conn.out.send(p)
		s.wrote(conn, p, started, err)
	}
}

// take waits for the next push to write; nil when the connection broke.
func (s *Socket) take(conn *connection) *push {
	for {
		s.mu.Lock()
		if conn.err != nil {
			s.mu.Unlock()
			return nil
		}
		if p := s.next(); p != nil {
			p.ref = s.ref()
			switch {
			case p.joins != nil:
				p.joinRef, p.joins.joinRef = p.ref, p.ref
			case p.channel != nil:
				p.joinRef = p.channel.joinRef
			}
			s.pending[p.ref] = p
			p.sent, p.partial, p.writing, s.writing = true, true, true, true
			p.sends++
			s.mu.Unlock()
			return p
		}
		s.mu.Unlock()
		select {
		case <-s.wake:
		case <-conn.failed:
			return nil
		}
	}
}

// next returns what is to be written next. Called with mu held.
func (s *Socket) next() *push {
	for len(s.control) > 0 {
		p := s.control[0]
		s.control = s.control[1:]
		if !p.ended {
			return p
		}
	}
	for len(s.ready) > 0 {
		c := s.ready[0]
		s.ready = s.ready[1:]
		c.scheduled = false
		if c.state != joined {
			continue
		}
		if p := c.nextPush(); p != nil {
			p.sent = true // so that schedule sees what comes after it
			c.schedule()
			return p
		}
	}
	return nil
}

// wrote follows the writing of a push, to its end or not.
func (s *Socket) wrote(conn *connection, p *push, started bool, err error) {
	s.mu.Lock()
	p.writing, s.writing = false, false
	p.size = conn.out.total
	s.idle.Broadcast()
	if err == nil {
		p.partial = false
		s.stats.Messages++
		s.stats.Bytes += p.size
		if p.sends > 1 {
			s.stats.Resent++
		}
		s.startTimer(p)
		s.mu.Unlock()
		return
	}
	if !errors.As(err, new(*writeError)) {
		s.finish(p, nil, err) // the payload's own
	} else {
		started = true
	}
	s.mu.Unlock()
	if started {
		s.fail(conn, err)
	}
}

// beat sends heartbeats, and gives up a connection that does not answer them.
// While a long message is under way in either direction a heartbeat cannot be
// sent or answered: then bytes that move count as an answer.
func (s *Socket) beat(conn *connection) {
	ticker := time.NewTicker(s.opts.Heartbeat)
	defer ticker.Stop()
	var last *push
	var read, written int64
	for missed := 0; ; {
		select {
		case <-conn.failed:
			return
		case <-ticker.C:
		}
		s.mu.Lock()
		r, w := conn.wire.read.Load(), conn.wire.written.Load()
		moving := s.writing && w != written || s.reading && r != read
		read, written = r, w
		if last == nil || last.ended && last.err == nil {
			missed = 0
		} else if !moving {
			missed++
		}
		if t := s.opts.HeartbeatTolerance; t >= 0 && missed > t {
			s.mu.Unlock()
			s.fail(conn, ErrHeartbeat)
			return
		}
		if last == nil || last.sent || last.ended {
			if last != nil {
				s.finish(last, nil, ErrHeartbeat)
			}
			last = newPush(nil, "phoenix", "heartbeat", Raw(json.RawMessage("{}")), PushOptions{Timeout: -1})
			s.control = append(s.control, last)
			s.kick()
		}
		s.mu.Unlock()
	}
}
