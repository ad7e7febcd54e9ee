package jsonscan

import "bytes"

// walker drives a machine over a source and reports its events.
type walker struct {
	m     machine
	src   *source
	end   int64 // where the source's bytes end for this scan
	chunk []byte
	turn  int

	first   byte   // of the value whose evBegin was reported last
	text    []byte // of the key or scalar being captured, or captured last
	capture bool
	limit   int64 // on text, in bytes
}

// walk starts a scan of the bytes from off to end, with events as deep as
// machine.watch says.
func (s *source) walk(off, end int64, watch int) *walker {
	w := &walker{src: s, end: end, limit: s.opts.MaxText}
	w.m.maxDepth, w.m.watch = s.opts.MaxDepth, watch
	w.m.reset(off)
	if off > 0 {
		w.m.state = stValue // a mark can stand at the start only
	}
	return w
}

// next returns the next event, or evNone at the end of a valid document. After
// evKey the key's raw text is captured, and is whole at evColon.
func (w *walker) next() (event, error) {
	for {
		if len(w.chunk) == 0 || w.turn != w.src.turn {
			chunk, err := w.src.chunk(w.m.base, w.end)
			if err != nil {
				return evNone, err
			}
			if len(chunk) == 0 {
				ended, err := w.m.finish()
				if ended {
					return evEnd, nil
				}
				return evNone, err
			}
			w.chunk, w.turn = chunk, w.src.turn
		}
		n, ev := w.m.step(w.chunk)
		w.src.opts.Stats.Scanned += int64(n)
		if w.capture {
			if size := int64(len(w.text) + n); size > w.limit {
				return evNone, &SizeError{Size: size, Limit: w.limit}
			}
			w.text = append(w.text, w.chunk[:n]...)
		}
		switch ev {
		case evKey:
			w.text, w.capture = w.text[:0], true
		case evColon:
			w.text, w.capture = w.text[:len(w.text)-1], false
		case evBegin:
			w.first = w.chunk[n-1]
		}
		w.chunk = w.chunk[n:]
		if ev != evNone || w.m.err != nil {
			return ev, w.m.err
		}
	}
}

// begin goes to the start of the first value.
func (w *walker) begin() (Kind, error) {
	if _, err := w.next(); err != nil {
		return 0, err
	}
	return w.m.kind, nil
}

// keyIs says whether the key captured is the one given.
func (w *walker) keyIs(key string) bool {
	if bytes.IndexByte(w.text, '\\') < 0 {
		return string(w.text) == key
	}
	return string(appendUnquoted(nil, w.text)) == key
}

// keyText returns the key captured.
func (w *walker) keyText() string {
	if bytes.IndexByte(w.text, '\\') < 0 {
		return string(w.text)
	}
	return string(appendUnquoted(nil, w.text))
}

// startCapture collects the bytes of the value just begun, up to its end.
func (w *walker) startCapture() {
	w.text, w.capture = append(w.text[:0], w.first), true
}

// toEnd goes to the end of the value that begin found. Nothing between is of
// interest.
func (w *walker) toEnd() error {
	w.m.watch = 1
	for {
		ev, err := w.next()
		if err != nil || ev == evEnd && w.m.depth == 0 {
			return err
		}
	}
}
