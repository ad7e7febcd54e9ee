package ipc

import "sync/atomic"

// lane is one direction of the ring: a single-producer, single-consumer byte
// queue in memory that both processes write. The counters count bytes since
// the start and never wrap in practice; data[n & (size-1)] is byte n.
//
// Each side publishes its own counter and never reads it back: what it is
// stands in own, out of the peer's reach.
type lane struct {
	written *atomic.Uint64 // stored by the producer
	read    *atomic.Uint64 // stored by the consumer
	asleep  *atomic.Uint32 // set by the consumer before it sleeps on the socket
	data    []byte         // a power of two
	own     uint64         // written for the producer, read for the consumer
	_       [64]byte       // the two lanes of a ring have different users
}

// write copies a frame into the lane and publishes it. It reports false, with
// nothing written, when there is not room now. The consumer's counter is a
// peer's word: one that is out of range is a breach of the protocol.
func (l *lane) write(b []byte) (bool, error) {
	size := uint64(len(l.data))
	used := l.own - l.read.Load()
	if used > size {
		return false, protocolErrorf("ring: the reader's counter is %d away from the writer's in a ring of %d", int64(used), size)
	}
	if uint64(len(b)) > size-used {
		return false, nil
	}
	n := copy(l.data[l.own&(size-1):], b)
	copy(l.data, b[n:])
	l.own += uint64(len(b))
	// A swap and not a store: the writer goes on to look at asleep, and the two
	// must not change places. Atomic stores are enough for that, but for those
	// of the race detector, which only release.
	l.written.Swap(l.own)
	return true, nil
}

// available reports whether the consumer has something to read, if only a
// breach of the protocol.
func (l *lane) available() bool { return l.written.Load() != l.own }

// readFrame copies the next frame out into buf, which is as large as the lane.
// The bytes are copied before they are looked at, and the header only once, so
// a peer that changes them meanwhile changes nothing that was checked. It
// returns nil when the lane is empty.
func (l *lane) readFrame(buf []byte) (header, []byte, error) {
	size := uint64(len(l.data))
	used := l.written.Load() - l.own
	switch {
	case used == 0:
		return header{}, nil, nil
	case used > size:
		return header{}, nil, protocolErrorf("ring: the writer's counter is %d away from the reader's in a ring of %d", int64(used), size)
	case used < HeaderSize:
		return header{}, nil, protocolErrorf("ring: %d bytes pending, less than a header", used)
	}
	l.copyOut(buf[:HeaderSize], l.own)
	h, err := parseHeader(buf)
	if err != nil {
		return h, nil, err
	}
	if uint64(h.size) > used {
		return h, nil, protocolErrorf("ring: %s frame of %d bytes, %d pending", h.typ, h.size, used)
	}
	if h.files != 0 {
		return h, nil, protocolErrorf("ring: %s frame declares a descriptor; those go by the socket", h.typ)
	}
	buf = buf[:h.size]
	l.copyOut(buf[HeaderSize:], l.own+HeaderSize)
	l.own += uint64(h.size)
	l.read.Store(l.own)
	return h, buf, nil
}

func (l *lane) copyOut(b []byte, from uint64) {
	n := copy(b, l.data[from&uint64(len(l.data)-1):])
	copy(b[n:], l.data)
}
