package ledger

import (
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// Account is one run's part of the ledger.
type Account struct {
	// Run is the run's id, for errors.
	Run string

	ledger *Ledger
	limit  uint64 // 0 is none

	// Guarded by the ledger's lock.
	bytes    uint64      // of its blocks
	peak     uint64      // the most that bytes ever was
	entered  uint64      // bytes ever published by executors
	segments []*segment  // the arena's
	freed    []shm.Block // the arena's, to be given back at its next use

	arena *shm.Arena
}

// Open opens an account with a budget in bytes; 0 is no limit.
func (l *Ledger) Open(run string, limit uint64) *Account {
	a := &Account{Run: run, ledger: l, limit: limit}
	a.arena = shm.NewArena(shm.ArenaOptions{
		NextID: l.NextHostSegment,
		OnSegment: func(s *shm.Segment) error {
			l.mu.Lock()
			defer l.mu.Unlock()
			// The ledger holds a descriptor of its own, as it does for every
			// segment, so that the arena can go when the run ends and the
			// blocks stay while they are referred to.
			held, err := reopen(s)
			if err != nil {
				return err
			}
			entered, err := l.enterSegment(held, nil)
			if err != nil {
				return err
			}
			entered.arena = true
			a.segments = append(a.segments, entered)
			return nil
		},
	})
	return a
}

// reopen returns the segment again, on a duplicate of its descriptor.
func reopen(s *shm.Segment) (*shm.Segment, error) {
	f, err := shm.DupFile(s.File())
	if err != nil {
		return nil, err
	}
	return shm.Open(s.ID(), f, s.Size())
}

// Bytes returns the length of the account's blocks now and at most, and of all
// blocks ever published in it.
func (a *Account) Bytes() (now, peak, published uint64) {
	a.ledger.mu.Lock()
	defer a.ledger.mu.Unlock()
	return a.bytes, a.peak, a.entered
}

// Remaining returns how many bytes the account may still publish; 0 when it
// has no limit, 1 when nothing is left.
func (a *Account) Remaining() uint64 {
	a.ledger.mu.Lock()
	defer a.ledger.mu.Unlock()
	switch {
	case a.limit == 0:
		return 0
	case a.bytes >= a.limit:
		return 1
	}
	return a.limit - a.bytes
}

// Publish enters a step's result: the blocks that o says it wrote, and the
// table's references, which may also point into blocks the account has from
// before. On success the caller holds the table (see Release) and reused is
// how many of its bytes were there before. A *RefError means that o broke the
// rules and must not be heard again; after a *BudgetError the blocks are o's
// again and o is in order; after ErrOwnerGone there is nothing of the result left.
func (a *Account) Publish(o *Owner, blocks []shm.Block, t ipc.Table) (reused uint64, err error) {
	l := a.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	if o.closed {
		return 0, ErrOwnerGone
	}
	entered := make([]*block, 0, len(blocks))
	undo := func() {
		for _, b := range entered {
			l.drop(b)
		}
	}
	for _, pub := range blocks {
		b, err := l.publishBlock(a, o, pub)
		if err != nil {
			undo()
			return 0, err
		}
		entered = append(entered, b)
	}
	fresh := func(b *block) bool { return b.refs == 0 }
	if err := l.holders(a, t, func(*block) {}); err != nil {
		undo()
		return 0, err
	}
	if a.limit > 0 && a.bytes > a.limit {
		err := a.budgetError(t, fresh)
		undo()
		return 0, err
	}
	for i := range t.Rows {
		for _, r := range t.Rows[i].Spans {
			if b := l.find(r); b != nil && !fresh(b) {
				reused += r.Length
			}
		}
	}
	_ = l.holders(a, t, func(b *block) { b.refs++ }) // checked above
	for _, b := range entered {
		a.entered += b.Length
		if b.refs == 0 { // published and not used: back at once
			l.drop(b)
		}
	}
	a.peak = max(a.peak, a.bytes)
	return reused, nil
}

func (l *Ledger) publishBlock(a *Account, o *Owner, pub shm.Block) (*block, error) {
	s := l.segments[pub.Segment]
	switch end := pub.Offset + pub.Length; {
	case s == nil:
		return nil, blockError(pub, "the segment was never attached")
	case s.owner != o:
		return nil, blockError(pub, "the segment is another writer's")
	case pub.Length == 0:
		return nil, blockError(pub, "an empty block")
	case end < pub.Offset || end > uint64(s.Size()):
		return nil, blockError(pub, "it ends past the segment's %d bytes", s.Size())
	}
	b := &block{Block: pub, segment: s, account: a}
	if err := s.enter(b); err != nil {
		return nil, err
	}
	l.bytes.Add(b.Length)
	l.reuse(s, b.Length)
	a.bytes += b.Length
	return b, nil
}

func (a *Account) budgetError(t ipc.Table, fresh func(*block) bool) error {
	e := &BudgetError{Run: a.Run, Size: a.bytes, Limit: a.limit}
	for i := range t.Rows {
		row := &t.Rows[i]
		var size uint64
		for _, r := range row.Spans {
			if b := a.ledger.find(r); b != nil && fresh(b) {
				size += r.Length
			}
		}
		if size >= e.KeySize {
			e.Key, e.KeySize = row.Key, size
		}
	}
	return e
}

// Retain holds a table once more: every block it refers to stays until a
// Release of the same table. The caller holds it already in some form.
func (a *Account) Retain(t ipc.Table) error {
	l := a.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.holders(a, t, func(*block) {}); err != nil {
		return err
	}
	return l.holders(a, t, func(b *block) { b.refs++ })
}

// Release gives a table up that Publish, Import, Write or Retain made the
// caller hold. Blocks that nothing refers to any more go back to their
// writers. It panics when the table was not held: the caller's bookkeeping is
// wrong and memory in use may have been given away.
func (a *Account) Release(t ipc.Table) {
	l := a.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.holders(a, t, func(b *block) {
		b.refs--
		switch {
		case b.refs < 0:
			panic(fmt.Sprintf("ledger: block %v of run %s released more often than held", b.Block, a.Run))
		case b.refs == 0:
			l.drop(b)
		}
	})
	if err != nil {
		panic("ledger: released a table that is not held: " + err.Error())
	}
}

// Write enters a small value that the supervisor itself makes (defaults, an
// error's record), of at least one byte. The caller holds the row.
func (a *Account) Write(key string, enc shm.Encoding, value []byte) (ipc.Row, error) {
	// The arena takes the ledger's lock for a new segment, so blocks are given
	// back to it outside of that lock.
	a.ledger.mu.Lock()
	freed := a.freed
	a.freed = nil
	a.ledger.mu.Unlock()
	for _, b := range freed {
		if err := a.arena.Free(b); err != nil {
			return ipc.Row{}, err
		}
	}
	ref, err := a.arena.Write(enc, value)
	if err != nil {
		return ipc.Row{}, err
	}
	row := ipc.Row{Key: key, Spans: []shm.Ref{ref}}
	return row, a.hold(shm.Block{Segment: ref.Segment, Offset: ref.Offset, Length: ref.Length}, 1)
}

// Import copies a document from a file or stream into a segment of its own,
// unmapped, and enters it as one block which the caller holds once: Release of
// a table with one span over it lets it go. The budget is checked while
// reading: a *shm.LimitError says how large it would have become.
func (a *Account) Import(r io.Reader, enc shm.Encoding) (shm.Ref, error) {
	var limit int64
	if n := a.Remaining(); n > 0 {
		limit = int64(n)
	}
	id := a.ledger.NextHostSegment()
	seg, n, err := shm.Import(id, r, shm.ImportOptions{Limit: limit})
	if err != nil {
		return shm.Ref{}, err
	}
	a.ledger.mu.Lock()
	_, err = a.ledger.enterSegment(seg, nil)
	a.ledger.mu.Unlock()
	if err != nil {
		return shm.Ref{}, err
	}
	ref := shm.Ref{Segment: id, Length: uint64(n), Encoding: enc}
	return ref, a.hold(shm.Block{Segment: id, Length: uint64(n)}, 1)
}

// hold enters one of the supervisor's own blocks with a count.
func (a *Account) hold(pub shm.Block, refs int) error {
	l := a.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	b, err := l.publishBlock(a, nil, pub)
	if err != nil {
		return err
	}
	b.refs = refs
	a.peak = max(a.peak, a.bytes)
	return nil
}

// Close ends the account: whatever it still holds is let go, so that a run
// which ended badly leaves nothing behind. It returns when the memory was given
// back.
func (a *Account) Close() error {
	l := a.ledger
	l.mu.Lock()
	var left []*block
	var streams []*Stream
	if a.bytes > 0 {
		for _, s := range l.segments {
			for _, b := range s.blocks {
				if b.account == a {
					left = append(left, b)
				}
			}
		}
	}
	for _, s := range l.streams {
		if s.account == a {
			s.over = true // its rows go with the account
			streams = append(streams, s)
		}
	}
	for _, s := range a.segments {
		s.arena = false
	}
	for _, b := range left {
		l.drop(b)
	}
	for _, s := range a.segments {
		if l.segments[s.ID()] == s {
			l.retire(s)
		}
	}
	owners := slices.Collect(maps.Keys(l.owners))
	l.mu.Unlock()
	for _, s := range streams {
		s.Close()
	}
	for _, o := range owners {
		o.wake()
	}
	l.Wait()
	return a.arena.Close()
}
