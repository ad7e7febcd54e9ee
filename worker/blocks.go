package worker

import (
	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// holder is what keeps a row's bytes: a block that this step wrote, or a call
// whose result they are of. A row holds each of its holders once. Rows that
// came with the step's own input have none: that stays until the step is
// answered. Everything here is guarded by the step's mu.
type holder interface {
	hold()
	drop() error
}

// holds are one row's holders; most rows have at most one.
type holds struct {
	first holder
	more  []holder
}

func holdsOf(h holder) holds { return holds{first: h} }

func (h *holds) hold() {
	if h.first != nil {
		h.first.hold()
	}
	for _, m := range h.more {
		m.hold()
	}
}

func (h *holds) drop() error {
	was := *h
	*h = holds{}
	if was.first == nil {
		return nil
	}
	err := was.first.drop()
	for _, m := range was.more {
		if e := m.drop(); err == nil {
			err = e
		}
	}
	return err
}

// add takes over a hold on each of the holders.
func (h *holds) add(o holds) {
	if o.first == nil {
		return
	}
	if h.first == nil {
		*h = o
		return
	}
	h.more = append(append(h.more, o.first), o.more...)
}

// each calls f for every holder.
func (h *holds) each(f func(holder)) {
	if h.first == nil {
		return
	}
	f(h.first)
	for _, m := range h.more {
		f(m)
	}
}

// block is one that the step has written into its arena. It is the step's to
// free until a message publishes it, and the supervisor's from then on.
type block struct {
	step *step
	ref  shm.Block
	at   int   // where in step.blocks; -1: it is not the step's any more
	rows int   // holds on it
	read bool  // its bytes were given to the function
	by   *call // the call that published it; nil: none

	listed bool // publishing's
}

// newBlock enters a block that the arena has just committed, with one hold on
// it. One without bytes was not committed, and nil is returned.
func (st *step) newBlock(ref shm.Block) *block {
	if ref.Length == 0 {
		return nil
	}
	b := &block{step: st, ref: ref, at: len(st.blocks), rows: 1}
	st.blocks = append(st.blocks, b)
	return b
}

// holdsBlock is holdsOf for a block that may be nil.
func holdsBlock(b *block) holds {
	if b == nil {
		return holds{}
	}
	return holdsOf(b)
}

func (b *block) hold() { b.rows++ }

// drop gives up one hold. A block of the step's that nothing refers to is freed
// at once, so that a key which is set many times takes the memory of one; but
// not one that the function has bytes of.
func (b *block) drop() error {
	if b.rows--; b.rows > 0 {
		return nil
	}
	if c := b.by; c != nil {
		if !b.read {
			delete(b.step.lent, b.ref)
		}
		return c.drop()
	}
	if b.read || b.at < 0 {
		return nil
	}
	return b.free()
}

func (b *block) free() error {
	b.forget()
	return b.step.executor.free(b.ref)
}

// forget takes the block out of those that are the step's to free.
func (b *block) forget() {
	list := b.step.blocks
	last := len(list) - 1
	list[b.at] = list[last]
	list[b.at].at = b.at
	list[last] = nil
	b.step.blocks = list[:last]
	b.at = -1
}

// lend says that c publishes the block, which c then has a pin of for as long
// as states of the step refer to it: the supervisor keeps it until c is
// forgotten.
func (b *block) lend(c *call) {
	b.forget()
	b.by = c
	c.hold()
	if b.step.lent == nil {
		b.step.lent = make(map[shm.Block]*block)
	}
	b.step.lent[b.ref] = b
}

// unlend undoes lend: nothing was published.
func (b *block) unlend() error {
	delete(b.step.lent, b.ref)
	c := b.by
	b.by = nil
	b.at = len(b.step.blocks)
	b.step.blocks = append(b.step.blocks, b)
	return c.drop()
}

// takeBack is asked when the supervisor gives a block back. It reports whether
// the step goes on using it; then the block is the step's as if newly written.
func (st *step) takeBack(ref shm.Block) (bool, error) {
	st.mu.Lock()
	defer st.unlock()
	b := st.lent[ref]
	if b == nil || st.over {
		return false, nil
	}
	held := b.rows > 0
	if !held {
		b.by.hold() // unlend drops what drop has dropped
	}
	return true, b.unlend()
}

// publishing returns the blocks that rows need published, each once.
func publishing(rows []holds) []*block {
	var list []*block
	for i := range rows {
		rows[i].each(func(h holder) {
			if b, ok := h.(*block); ok && b.at >= 0 && !b.listed {
				b.listed = true
				list = append(list, b)
			}
		})
	}
	for _, b := range list {
		b.listed = false
	}
	return list
}

func refsOf(blocks []*block) []shm.Block {
	if len(blocks) == 0 {
		return nil
	}
	refs := make([]shm.Block, len(blocks))
	for i, b := range blocks {
		refs[i] = b.ref
	}
	return refs
}

// unlock releases the step's mu and then sends what was put off until then: a
// send may wait for the supervisor, and nothing else should wait with it.
func (st *step) unlock() {
	forgets := st.forgets
	st.forgets = nil
	st.mu.Unlock()
	if len(forgets) == 0 {
		return
	}
	if err := st.executor.channel.Send(&ipc.Envelope{Message: &ipc.Forget{Calls: forgets}}); err != nil {
		st.executor.end(err)
	}
}
