package arrowipc

import "encoding/binary"

// MaxMetadata is the largest accepted metadata of one message, in bytes. It is
// room for about 100,000 columns.
const MaxMetadata = 16 << 20

const continuation = 0xFFFFFFFF

// Values of Message.header_type.
const (
	headerSchema     = 1
	headerDictionary = 2
	headerRecord     = 3
)

// Values of MetadataVersion.
const (
	versionV4 = 3
	versionV5 = 4
)

// message is one framed message: its parsed header and where its body is.
type message struct {
	meta    metadata
	kind    byte
	version int16
	header  table
	body    []byte
	bodyAt  int64
	next    int64 // where the following message starts
}

// readMessage parses the frame at pos into msg. It reports false at the end of
// the stream: an end marker, or no byte left.
func readMessage(buf []byte, pos, end int64, msg *message) (bool, error) {
	if pos == end {
		return false, nil
	}
	word := func(at int64) (uint32, error) {
		if at > end-4 {
			return 0, formatErrorf(at, "the stream ends inside a message's prefix")
		}
		return binary.LittleEndian.Uint32(buf[at:]), nil
	}
	size, err := word(pos)
	if err != nil {
		return false, err
	}
	metaAt := pos + 4
	if size == continuation { // without it: the framing before Arrow 0.15
		if size, err = word(metaAt); err != nil {
			return false, err
		}
		metaAt += 4
	}
	metaLen := int64(size)
	switch {
	case metaLen == 0:
		return false, nil
	case metaLen > MaxMetadata:
		return false, &LimitError{Offset: pos, What: "metadata of a message, in bytes", Size: metaLen, Limit: MaxMetadata}
	case metaLen > end-metaAt:
		return false, formatErrorf(pos, "metadata of %d bytes, but the stream ends after %d", metaLen, end-metaAt)
	}
	msg.meta = metadata{b: buf[metaAt : metaAt+metaLen : metaAt+metaLen], base: metaAt}
	root := msg.meta.root()
	msg.version = root.int16At(4)
	msg.kind = root.byteAt(6)
	header, ok := root.tableAt(8)
	bodyLen := root.int64At(10)
	if msg.meta.err != nil {
		return false, msg.meta.err
	}
	msg.header = header
	msg.bodyAt = metaAt + metaLen
	switch {
	case !ok:
		return false, formatErrorf(metaAt, "a message without a header")
	case msg.version != versionV4 && msg.version != versionV5:
		return false, formatErrorf(metaAt, "metadata version V%d; V4 and V5 are readable", int64(msg.version)+1)
	case bodyLen < 0 || bodyLen > end-msg.bodyAt:
		return false, formatErrorf(metaAt, "a body of %d bytes, but the stream ends after %d", bodyLen, end-msg.bodyAt)
	}
	msg.next = msg.bodyAt + bodyLen
	msg.body = buf[msg.bodyAt:msg.next:msg.next]
	return true, nil
}
