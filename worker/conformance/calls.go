package conformance

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/millrace/millrace/ipc"
)

// call is a call that the program made.
type call struct {
	*ipc.Call
	id    uint64
	state ipc.Table
}

// calls is what a session knows of the calls of its program.
type calls struct {
	came chan *call // in order

	mu      sync.Mutex
	state   map[uint64]callState
	forward []forward
}

type callState int

const (
	underWay callState = iota + 1
	cancelled
	forgotten
)

type forward struct {
	id   uint64
	step string
}

// maxCalls is how many calls may be under way by the protocol.
const maxCalls = 4096

func newCalls() *calls {
	return &calls{came: make(chan *call, maxCalls), state: make(map[uint64]callState)}
}

// called takes a message of the program's about calls. An error is a breach.
func (s *session) called(e *ipc.Envelope) error {
	if !s.grantsCalls {
		return fmt.Errorf("%s without the capability calls", e.Message.Type())
	}
	k := s.calls
	k.mu.Lock()
	defer k.mu.Unlock()
	switch m := e.Message.(type) {
	case *ipc.Call:
		switch {
		case e.ID == 0:
			return errors.New("a call without an id")
		case k.state[e.ID] != 0:
			return fmt.Errorf("call %d has an id that was used before", e.ID)
		}
		// Blocks that the argument does not refer to stay published as well.
		if _, err := s.check.book.publish(s, m.Blocks, e.State); err != nil {
			return fmt.Errorf("call %d: %w", e.ID, err)
		}
		if err := s.check.book.checkValues(e.State); err != nil {
			return fmt.Errorf("call %d: %w", e.ID, err)
		}
		k.state[e.ID] = underWay
		select {
		case k.came <- &call{m, e.ID, e.State}:
		default:
			return fmt.Errorf("more than %d calls are under way", maxCalls)
		}
	case *ipc.Cancel:
		if k.state[e.ID] == 0 {
			return fmt.Errorf("cancel of call %d, which was never made", e.ID)
		}
		k.state[e.ID] = cancelled
	case *ipc.Forget:
		for _, id := range m.Calls {
			switch k.state[id] {
			case 0:
				return fmt.Errorf("forget of call %d, which was never made", id)
			case forgotten:
				return fmt.Errorf("call %d was forgotten before", id)
			}
			k.state[id] = forgotten
		}
	case *ipc.Forward:
		k.forward = append(k.forward, forward{e.ID, m.Step})
	}
	return nil
}

// nextCall waits for the program to call.
func (s *session) nextCall() *call {
	return await(s, s.calls.came, "it made no call")
}

// callsAhead returns how many calls came that nextCall has not returned.
func (s *session) callsAhead() int { return len(s.calls.came) }

// forgotten returns how many calls the program has forgotten.
func (s *session) forgotten() int {
	s.calls.mu.Lock()
	defer s.calls.mu.Unlock()
	n := 0
	for _, state := range s.calls.state {
		if state == forgotten {
			n++
		}
	}
	return n
}

// forwards returns to which steps an execute was forwarded; 0: all of them.
func (s *session) forwards(id uint64) []string {
	s.calls.mu.Lock()
	defer s.calls.mu.Unlock()
	var steps []string
	for _, f := range s.calls.forward {
		if id == 0 || f.id == id {
			steps = append(steps, f.step)
		}
	}
	return slices.Clip(steps)
}
