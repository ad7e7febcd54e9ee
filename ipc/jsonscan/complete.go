package jsonscan

import "slices"

// Checkpoint is where a document stood between two chunks. Its zero value is
// ready; using one again reuses its memory.
type Checkpoint struct{ m machine }

// Checkpoint notes where the document stands, before the next chunk is fed.
func (v *Validator) Checkpoint(c *Checkpoint) {
	stack := append(c.m.stack[:0], v.m.stack[:min(len(v.m.stack), v.m.depth>>6+1)]...)
	c.m = v.m
	c.m.stack = stack
}

// Completion appends the shortest bytes that make a valid document of those fed
// up to the checkpoint: of `{"a":[1,"x` it is `"]}`. They tell a reader where
// a document was cut off nothing; that must be said elsewhere. There is none
// for a document that begins with a part of a byte order mark.
func (c *Checkpoint) Completion(to []byte) []byte {
	m := &c.m
	closing := func(inKey bool) []byte {
		if to = append(to, '"'); inKey {
			to = append(to, ":null"...)
		}
		return to
	}
	switch m.state {
	case stStart, stValue:
		to = append(to, "null"...)
	case stKey:
		to = append(to, `"":null`...)
	case stColon:
		to = append(to, ":null"...)
	case stString:
		to = closing(m.isKey)
	case stEscape:
		to = append(to, 'n')
		to = closing(m.isKey)
	case stHex:
		to = append(to, "0000"[:m.need]...)
		to = closing(m.isKey)
	case stUTF8:
		to = append(to, m.lo)
		to = append(to, slices.Repeat([]byte{0x80}, int(m.need)-1)...)
		to = closing(m.isKey)
	case stMinus, stDot, stExp, stExpSign:
		to = append(to, '0')
	case stLiteral:
		to = append(to, m.literal[m.litPos:]...)
	}
	for depth := m.depth - 1; depth >= 0; depth-- {
		if m.stack[depth>>6]>>(depth&63)&1 != 0 {
			to = append(to, '}')
		} else {
			to = append(to, ']')
		}
	}
	return to
}
