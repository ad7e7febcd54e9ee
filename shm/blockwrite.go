package shm

// append writes p behind the block's bytes; there is room.
//
// Pages that exist are written through the mapping. Fresh ones are written by
// write(2) as long as the segment allows it: the kernel then neither clears a
// page that is about to be overwritten nor takes a fault for each.
func (w *BlockWriter) append(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	s := w.run.owner
	if !s.large {
		w.length += int64(copy(w.mem[w.length:], p))
		return nil
	}
	for len(p) > 0 {
		n := len(p)
		warm := s.touched.Load() - w.length
		switch {
		case warm > 0: // never with something staged, which lies behind them
			n = int(min(int64(n), warm))
			s.mapExisting(w.length, int64(n))
			copy(w.mem[w.length:], p[:n])
			w.wroteMapping(int64(n))
		case w.sealed && w.upgrade(int64(n)):
			s, n = w.run.owner, 0
		case w.sealed:
			copy(w.mem[w.length:], p)
			w.wroteMapping(int64(n))
		case w.staged > 0 || n < directWrite:
			n = w.gather(p)
			if w.staged == chunkSize {
				if err := w.flush(); err != nil {
					return err
				}
			}
		default:
			if err := w.writeFresh(p, w.length); err != nil {
				return err
			}
			w.length += int64(n)
		}
		p = p[n:]
	}
	return nil
}

// gather copies from p into the stage, and returns how much.
func (w *BlockWriter) gather(p []byte) int {
	if w.stage == nil {
		w.stage = takeChunk()
	}
	n := copy(w.stage[w.staged:], p)
	w.staged += n
	w.length += int64(n)
	return n
}

// flush writes the stage to the segment.
func (w *BlockWriter) flush() error {
	if w.err != nil || w.staged == 0 {
		return w.err
	}
	if err := w.writeFresh(w.stage[:w.staged], w.length-int64(w.staged)); err != nil {
		return err
	}
	w.staged = 0
	return nil
}

// writeFresh writes p beyond the pages that exist.
func (w *BlockWriter) writeFresh(p []byte, offset int64) error {
	s := w.run.owner
	if err := s.seg.writeAt(p, offset); err != nil {
		w.err = err
		return err
	}
	s.touch(offset + int64(len(p)))
	w.fresh += int64(len(p))
	return nil
}

// wroteMapping appends n bytes that are in the mapping already.
func (w *BlockWriter) wroteMapping(n int64) {
	from := w.length
	w.length += n
	if s := w.run.owner; s.large {
		w.fresh += max(0, w.length-max(from, s.touched.Load()))
		s.wrote(from, n)
	}
}
