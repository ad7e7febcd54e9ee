package stream

import "os"

// Writer is the producer's end. It is for one goroutine at a time.
//
// An item is written by Reserve and Commit. When Reserve reports that it cannot
// be written now: Spin; if that was in vain Sleep; if that reports true wait
// until the consumer's wake comes, or the stream's end, and call Slept. Then
// Reserve again.
type Writer struct {
	*end
	at       uint64 // bytes written
	items    uint64 // written
	read     uint64 // the consumer's counters as they were last checked
	demand   uint64
	skip     uint64 // bytes to skip before what is reserved
	reserved int    // how much is; -1: nothing
}

// NewWriter maps a ring as its producer, taking f over. wake is called when the
// consumer sleeps and has something to see.
func NewWriter(f *os.File, capacity uint64, wake func()) (*Writer, error) {
	e, err := open(f, capacity, wake)
	if err != nil {
		return nil, err
	}
	e.own, e.other = e.producerAsleep, e.consumerAsleep
	return &Writer{end: e, reserved: -1}, nil
}

// Items returns how many items were written.
func (w *Writer) Items() uint64 { return w.items }

// Reserve returns n bytes of the ring for the next item, to be filled and
// published by Commit; what they hold before is undefined. It reports false
// when there is no room or no demand now. The slice is valid until the next
// call. Errors: an *ItemSizeError, which leaves the stream as it was, and a
// *BreachError.
func (w *Writer) Reserve(n int) ([]byte, bool, error) {
	w.reserved = -1
	if n < 0 || n > w.MaxItem() {
		return nil, false, &ItemSizeError{Size: n, Limit: w.MaxItem()}
	}
	fits, err := w.fits(n)
	if !fits {
		return nil, false, err
	}
	start := (w.at+w.skip)&(w.capacity-1) + headerSize
	w.reserved = n
	return w.data[start : start+uint64(n) : start+uint64(n)], true, nil
}

// fits reports whether an item can be written, and sets skip.
func (w *Writer) fits(n int) (bool, error) {
	need := padded(uint64(n))
	w.skip = 0
	if rest := w.capacity - w.at&(w.capacity-1); need > rest {
		w.skip = rest
	}
	need += w.skip
	if w.items < w.demand && w.at+need-w.read <= w.capacity {
		return true, nil
	}
	if err := w.look(); err != nil {
		return false, err
	}
	return w.items < w.demand && w.at+need-w.read <= w.capacity, nil
}

// look loads and checks the consumer's counters.
func (w *Writer) look() error {
	read, demand := w.counters.read.Load(), w.counters.demand.Load()
	if read < w.read || read > w.at {
		return breachf("the consumer counts %d bytes read, after %d, of %d written", read, w.read, w.at)
	}
	if demand < w.demand {
		return breachf("the consumer asks for %d items, after %d", demand, w.demand)
	}
	w.read, w.demand = read, demand
	return nil
}

// Commit publishes the first n bytes of what was reserved as an item. It panics
// without a reservation of that size.
func (w *Writer) Commit(n int) {
	if n < 0 || n > w.reserved {
		panic("stream: Commit of more than is reserved")
	}
	w.reserved = -1
	if w.skip > 0 {
		w.putHeader(w.at&(w.capacity-1), int(w.skip)-headerSize, kindSkip)
		w.at += w.skip
		w.skip = 0
	}
	w.putHeader(w.at&(w.capacity-1), n, kindItem)
	w.at += padded(uint64(n))
	w.items++
	// A swap and not a store: rouse goes on to look at the other's flag, and the
	// two must not change places.
	w.written.Swap(w.at)
	w.rouse()
}

// Spin looks for a moment whether the consumer stores something, if that has
// paid lately, and reports whether it did.
func (w *Writer) Spin() bool {
	return w.spin.Wait(func() bool {
		return w.counters.read.Load() != w.read || w.counters.demand.Load() != w.demand
	})
}

// Sleep says that this end sleeps. It reports false when an item of n bytes can
// be written after all; otherwise a wake will come.
func (w *Writer) Sleep(n int) (bool, error) {
	w.own.Swap(1)
	fits, err := w.fits(n)
	if fits || err != nil {
		w.own.CompareAndSwap(1, 0)
		return false, err
	}
	return true, nil
}
