package engine

import (
	"sync"

	"github.com/millrace/millrace/engine/ledger"
	"github.com/millrace/millrace/ipc"
)

// State is a state that a run came to, for those who send or store it while the
// run goes on.
type State struct {
	run     *Run
	table   ipc.Table
	streams []string
	once    sync.Once
}

// Table returns the state's references.
func (s *State) Table() ipc.Table { return s.table }

// Streams returns the keys that show as "[stream]", because they stand for items
// that pass from step to step and are not kept: with them the state is no input
// for another run.
func (s *State) Streams() []string { return s.streams }

// Ledger returns what reads the rows of Table.
func (s *State) Ledger() *ledger.Ledger { return s.run.engine.ledger }

// Hold returns the same state, valid until its Release. Until then its memory
// counts against the run's budget. It must be called while this one is valid.
// A run's Close ends all of its states: release them before.
func (s *State) Hold() (*State, error) {
	if err := s.run.account.Retain(s.table); err != nil {
		return nil, err
	}
	return &State{run: s.run, table: s.table, streams: s.streams}, nil
}

// Release gives up what Hold returned. Only the first call counts.
func (s *State) Release() {
	s.once.Do(func() { s.run.account.Release(s.table) })
}
