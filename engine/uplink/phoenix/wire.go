package phoenix

import (
	"encoding/binary"
	"io"
	"sync"
	"sync/atomic"
)

// wire stands between the websocket library and the connection. The library
// makes the handshake, reads, and writes control frames; data frames are
// written here, as the library can neither write large pieces nor a frame of
// known length in pieces.
type wire struct {
	io.ReadWriteCloser
	read, written atomic.Int64 // bytes so far, for the heartbeat to see progress

	mu    sync.Mutex
	open  bool   // a frame is being written in pieces: control frames wait in later
	later []byte // at most maxLater
}

// maxLater bounds the control frames that wait for the end of a whole frame;
// more, such as the answers to a flood of pings, are dropped.
const maxLater = 8 << 10

// Read implements io.Reader.
func (w *wire) Read(p []byte) (int, error) {
	n, err := w.ReadWriteCloser.Read(p)
	w.read.Add(int64(n))
	return n, err
}

// Write implements io.Writer, for the library's control frames.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open {
		if len(w.later)+len(p) <= maxLater {
			w.later = append(w.later, p...)
		}
		return len(p), nil
	}
	return len(p), w.put(p)
}

// data writes data frames, or a piece of one: then more follows, and control
// frames wait.
func (w *wire) data(p []byte, more bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open = more
	if err := w.put(p); err != nil || more {
		return err
	}
	err := w.put(w.later)
	w.later = w.later[:0]
	return err
}

func (w *wire) put(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	n, err := w.ReadWriteCloser.Write(p)
	w.written.Add(int64(n))
	return err
}

const (
	// headerRoom is the length of the longest header of a frame.
	headerRoom = 14

	opText         = 0x1
	opContinuation = 0x0
	opClose        = 0x8
	bitFinal       = 0x80
	bitDeflated    = 0x40
)

// putHeader writes a masked frame's header to the end of room, which is of
// headerRoom bytes, and returns where it begins.
func putHeader(room []byte, first byte, length int64, mask [4]byte) int {
	const masked = 0x80
	header := make([]byte, 0, headerRoom)
	switch {
	case length < 126:
		header = append(header, first, masked|byte(length))
	case length < 1<<16:
		header = binary.BigEndian.AppendUint16(append(header, first, masked|126), uint16(length))
	default:
		header = binary.BigEndian.AppendUint64(append(header, first, masked|127), uint64(length))
	}
	header = append(header, mask[:]...)
	start := headerRoom - len(header)
	copy(room[start:], header)
	return start
}

// maskInto copies src to dst, which is no shorter, masked from position turn of
// the mask on, and returns the position after it.
func maskInto(dst, src []byte, mask [4]byte, turn int) int {
	var key [8]byte
	for i := range key {
		key[i] = mask[(turn+i)&3]
	}
	k := binary.LittleEndian.Uint64(key[:])
	next := (turn + len(src)) & 3
	dst = dst[:len(src)]
	for len(src) >= 32 && len(dst) >= 32 {
		binary.LittleEndian.PutUint64(dst, binary.LittleEndian.Uint64(src)^k)
		binary.LittleEndian.PutUint64(dst[8:], binary.LittleEndian.Uint64(src[8:])^k)
		binary.LittleEndian.PutUint64(dst[16:], binary.LittleEndian.Uint64(src[16:])^k)
		binary.LittleEndian.PutUint64(dst[24:], binary.LittleEndian.Uint64(src[24:])^k)
		dst, src = dst[32:], src[32:]
	}
	for i, c := range src {
		dst[i] = c ^ key[i&7]
	}
	return next
}
