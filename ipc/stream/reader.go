package stream

import (
	"math"
	"os"
)

// Demand says how a consumer asks for items.
type Demand struct {
	// Max is how many items it asks for ahead, at least 1; Min at how many left
	// it asks again, less than Max.
	Max, Min uint32
	// Manual leaves the asking to Ask.
	Manual bool
}

// Reader is the consumer's end. It is for one goroutine at a time.
//
// When Next reports that there is nothing now: Spin; if that was in vain Sleep;
// if that reports true wait until the producer's wake comes, or the stream's
// end, and call Slept. Then Next again: what was written before the end is still
// there.
type Reader struct {
	*end
	at      uint64 // bytes done with or in the caller's hand
	items   uint64 // given out
	stored  uint64 // the read counter in the ring
	written uint64 // the producer's as it was last checked
	demand  uint64 // the demand counter in the ring
	ask     Demand
}

// NewReader maps a ring as its consumer, taking f over, and asks for the first
// items. wake is called when the producer sleeps and has something to see.
func NewReader(f *os.File, capacity uint64, d Demand, wake func()) (*Reader, error) {
	e, err := open(f, capacity, wake)
	if err != nil {
		return nil, err
	}
	e.own, e.other = e.consumerAsleep, e.producerAsleep
	d.Max = max(d.Max, 1)
	d.Min = min(d.Min, d.Max-1)
	r := &Reader{end: e, ask: d}
	r.askAgain()
	return r, nil
}

// Items returns how many items were given out.
func (r *Reader) Items() uint64 { return r.items }

// Next returns the next item in the ring, and gives back the one before. It
// reports false when there is none now. The slice is valid until the next call;
// a producer that breaks the rules may change it meanwhile. The error is a
// *BreachError.
func (r *Reader) Next() ([]byte, bool, error) {
	// Not each time: the producer looks at it only when it runs out of room.
	if r.at-r.stored >= r.capacity/8 {
		r.giveBack()
	}
	for {
		if r.written == r.at {
			if err := r.look(); err != nil || r.written == r.at {
				return nil, false, err
			}
		}
		item, err := r.record()
		if err != nil {
			return nil, false, err
		}
		if item != nil {
			if r.items == r.demand {
				return nil, false, breachf("item %d, of which only %d were asked for", r.items+1, r.demand)
			}
			r.items++
			r.askAgain()
			return item, true, nil
		}
	}
}

// Ready reports whether Next would not have to wait.
func (r *Reader) Ready() bool { return r.written != r.at || r.counters.written.Load() != r.at }

// record reads one record, and returns nil for a skip.
func (r *Reader) record() ([]byte, error) {
	at := r.at & (r.capacity - 1)
	pending, rest := r.written-r.at, r.capacity-at
	if pending < headerSize {
		return nil, breachf("%d bytes are written, which is no record", pending)
	}
	size, kind := r.loadHeader(at)
	length := padded(size)
	switch {
	case length > min(pending, rest):
		return nil, breachf("a record of %d bytes, where %d are written and %d follow in the ring", size, pending, rest)
	case kind == kindSkip && length == rest:
		r.at += length
		return nil, nil
	case kind == kindSkip:
		return nil, breachf("a skip of %d bytes that does not end with the ring", size)
	case kind != kindItem || size > uint64(r.MaxItem()):
		return nil, breachf("a record of kind %d with %d bytes", kind, size)
	}
	r.at += length
	start := at + headerSize
	return r.data[start : start+size : start+size], nil
}

// look loads and checks the producer's counter.
func (r *Reader) look() error {
	written := r.counters.written.Load()
	if written < r.written || written-r.stored > r.capacity {
		return breachf("the producer counts %d bytes written, after %d and with %d read", written, r.written, r.stored)
	}
	r.written = written
	return nil
}

// giveBack has the producer use the room of all items that are done with.
func (r *Reader) giveBack() {
	if r.stored == r.at {
		return
	}
	r.stored = r.at
	r.read.Swap(r.at) // see Commit
	r.rouse()
}

// askAgain asks for more when it is time.
func (r *Reader) askAgain() {
	if !r.ask.Manual && r.demand-r.items <= uint64(r.ask.Min) {
		r.setDemand(r.items + uint64(r.ask.Max))
	}
}

// Manual reports whether items come only when Ask asks for them.
func (r *Reader) Manual() bool { return r.ask.Manual }

// Asked returns how many items were asked for and not given out yet.
func (r *Reader) Asked() uint64 { return r.demand - r.items }

// Ask asks for n items more, where that is left to the caller; otherwise it
// does nothing.
func (r *Reader) Ask(n uint64) {
	if r.ask.Manual {
		r.setDemand(r.demand + min(n, math.MaxUint64-r.demand))
	}
}

func (r *Reader) setDemand(items uint64) {
	r.demand = items
	r.counters.demand.Swap(items) // see Commit
	r.rouse()
}

// Spin looks for a moment whether the producer writes something, if that has
// paid lately, and reports whether it did.
func (r *Reader) Spin() bool {
	r.giveBack()
	return r.spin.Wait(func() bool { return r.counters.written.Load() != r.at })
}

// Sleep gives back all that was read, and says that this end sleeps. It reports
// false when there is something to read after all; otherwise a wake will come.
func (r *Reader) Sleep() (bool, error) {
	r.giveBack()
	r.own.Swap(1)
	if err := r.look(); err != nil || r.written != r.at {
		r.own.CompareAndSwap(1, 0)
		return false, err
	}
	return true, nil
}
