package jsonscan

// push opens a container inside depth others; false when that is too deep.
// consumed is how far into the chunk its bracket ends.
func (m *machine) push(depth int, object bool, consumed int64) bool {
	limit := m.maxDepth
	if limit <= 0 {
		limit = DefaultMaxDepth
	}
	if depth >= limit {
		m.err = &DepthError{Offset: m.base + consumed - 1, Depth: depth + 1, Limit: limit}
		return false
	}
	word, bit := depth>>6, uint64(1)<<(depth&63)
	if word == len(m.stack) {
		m.stack = append(m.stack, 0)
	}
	if object {
		m.stack[word] |= bit
	} else {
		m.stack[word] &^= bit
	}
	return true
}

// beginLiteral prepares for the rest of true, false or null.
func (m *machine) beginLiteral(c byte) {
	m.litPos = 1
	switch c {
	case 't':
		m.literal, m.kind = "true", True
	case 'f':
		m.literal, m.kind = "false", False
	default:
		m.literal, m.kind = "null", Null
	}
}

// space returns the number of white space bytes that data starts with, and
// counts the lines. Newlines are nowhere else in a valid document. consumed
// is how far into the chunk data begins.
func (m *machine) space(data []byte, consumed int64) int {
	for i, c := range data {
		switch c {
		case ' ', '\t', '\r':
		case '\n':
			m.lines++
			m.lineStart = m.base + consumed + int64(i) + 1
		default:
			return i
		}
	}
	return len(data)
}

const byteOrderMark = "\xEF\xBB\xBF"

// start looks for a byte order mark, which may be cut by the chunk's end. It
// returns what it consumed and the state that follows.
func (m *machine) start(data []byte) (int, state) {
	seen := int(m.state - stStart)
	rest := byteOrderMark[seen:]
	common := 0
	for common < len(rest) && common < len(data) && rest[common] == data[common] {
		common++
	}
	switch {
	case seen+common == len(byteOrderMark):
		m.err = ErrBOM
		return common, stStart
	case common == len(data):
		return common, m.state + state(common)
	case seen+common > 0:
		m.fail(stValue, byteOrderMark[0], m.base-int64(seen))
		return common, stValue
	}
	return 0, stValue
}

// finish ends the document. A number at the very end ends here; ended says
// that a value did so, which step could not report.
func (m *machine) finish() (ended bool, err error) {
	if m.err != nil {
		return false, m.err
	}
	switch m.state {
	case stStart:
		m.err = ErrEmpty
	case stAfter:
		if m.depth == 0 {
			return false, nil
		}
	case stZero, stInt, stFrac, stExpInt:
		if m.depth == 0 {
			m.state = stAfter
			return true, nil
		}
	case stValue:
		if m.depth == 0 {
			m.err = ErrEmpty
		}
	}
	if m.err == nil {
		st := m.state
		switch st {
		case stZero, stInt, stFrac, stExpInt:
			st = stAfter // the number may be whole, what holds it is not
		}
		m.err = m.syntaxError(m.base, "unexpected end, expected "+m.expected(st))
	}
	return false, m.err
}

// reset makes the machine ready for a document whose first byte has the
// offset given; the stack's memory is kept.
func (m *machine) reset(offset int64) {
	*m = machine{watch: m.watch, maxDepth: m.maxDepth, stack: m.stack, base: offset, lineStart: offset}
}

// resumeArray puts the machine inside an array, before the element at offset.
func (m *machine) resumeArray(offset int64) {
	m.reset(offset)
	m.push(0, false, 0)
	m.state, m.depth = stValue, 1
}
