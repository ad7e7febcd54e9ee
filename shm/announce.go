package shm

import "sync"

// announcement tells the readers of a segment once. It has a lock of its own,
// because telling them may block for as long as a socket is full.
type announcement struct {
	mu   sync.Mutex
	told bool
}

// do seals seg and calls tell, unless both were done before.
func (n *announcement) do(seg *Segment, tell func(*Segment) error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.told {
		return nil
	}
	if err := seg.Seal(); err != nil {
		return err
	}
	if tell != nil {
		if err := tell(seg); err != nil {
			return err
		}
	}
	n.told = true
	return nil
}

func (n *announcement) done() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.told
}
