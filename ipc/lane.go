package ipc

// write copies a frame into the lane and publishes it. It reports false, with
// nothing written, when there is not room now. The consumer's counter is a
// peer's word: one that is out of range is a breach of the protocol.
func (l *lane) write(b []byte) (bool, error) {
	size := uint64(len(l.data))
	written := l.written.Load()
	used := written - l.read.Load()
	if used > size {
		return false, protocolErrorf("ring: the reader claims %d bytes more than were written", -used)
	}
	if uint64(len(b)) > size-used {
		return false, nil
	}
	at := written & (size - 1)
	n := copy(l.data[at:], b)
	copy(l.data, b[n:])
	l.written.Store(written + uint64(len(b)))
	return true, nil
}

// available reports whether a frame is there to be read.
func (l *lane) available() bool { return l.written.Load() != l.read.Load() }

// readFrame copies the next frame out into buf, which it grows if need be.
// The bytes are copied before they are looked at, so a peer that changes them
// meanwhile changes nothing that was checked. It returns nil when the lane is
// empty.
func (l *lane) readFrame(buf []byte) (header, []byte, error) {
	size := uint64(len(l.data))
	read := l.read.Load()
	used := l.written.Load() - read
	switch {
	case used == 0:
		return header{}, nil, nil
	case used > size:
		return header{}, nil, protocolErrorf("ring: %d bytes pending in a ring of %d", used, size)
	case used < HeaderSize:
		return header{}, nil, protocolErrorf("ring: %d bytes pending, less than a header", used)
	}
	if cap(buf) < int(size) {
		buf = make([]byte, size)
	}
	buf = buf[:HeaderSize]
	l.copyOut(buf, read)
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
	l.copyOut(buf[HeaderSize:], read+HeaderSize)
	l.read.Store(read + uint64(h.size))
	return h, buf, nil
}

func (l *lane) copyOut(b []byte, from uint64) {
	n := copy(b, l.data[from&uint64(len(l.data)-1):])
	copy(b[n:], l.data)
}
