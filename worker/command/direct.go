package command

import (
	"bytes"
	"encoding/json"
	"os"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
	"github.com/millrace/millrace/worker"
)

const (
	// maxDirectRows bounds how many places between values are looked at.
	maxDirectRows = 1024
	// maxGap bounds the bytes between two values besides the key's own.
	maxGap = 4 << 10
)

// wholeDocument returns the file of a segment that is, as it stands, the
// state's document: an object with exactly the state's keys in their order, or
// a bare value. It returns nil where there is no such segment.
//
// What stands between the values is read and compared; the values themselves
// are the rows' whatever they are.
func wholeDocument(s *worker.State) *os.File {
	t := s.Table()
	if len(t.Rows) == 0 || len(t.Rows) > maxDirectRows {
		return nil
	}
	first := t.Rows[0].Spans[0]
	f, size, err := s.Segment(first.Segment)
	if err != nil {
		return nil
	}
	at := uint64(0)
	for i := range t.Rows {
		r := &t.Rows[i]
		span := r.Spans[0]
		if len(r.Spans) > 1 || span.Segment != first.Segment || span.Encoding != worker.JSON || span.Offset < at {
			return nil
		}
		gap, ok := readGap(s, first.Segment, at, span.Offset, len(r.Key))
		if !ok {
			return nil
		}
		switch {
		case t.Kind == ipc.KindValue:
			ok = isSpace(gap)
		case i == 0:
			ok = isKeyAfter(gap, '{', r.Key)
		default:
			ok = isKeyAfter(gap, ',', r.Key)
		}
		if !ok {
			return nil
		}
		at, ok = span.End()
		if !ok {
			return nil
		}
	}
	gap, ok := readGap(s, first.Segment, at, uint64(size), 0)
	if ok && t.Kind == ipc.KindObject {
		gap = bytes.TrimLeft(gap, space)
		ok = len(gap) > 0 && gap[0] == '}'
		gap = gap[min(1, len(gap)):]
	}
	if !ok || !isSpace(gap) {
		return nil
	}
	return reopened(f)
}

// wholeSegment returns the file of a segment that is, as it stands, the key's
// value, or nil.
func wholeSegment(s *worker.State, key string) *os.File {
	spans := s.Spans(key)
	if len(spans) != 1 || spans[0].Offset != 0 || spans[0].Length == 0 {
		return nil
	}
	f, size, err := s.Segment(spans[0].Segment)
	if err != nil || uint64(size) != spans[0].Length {
		return nil
	}
	return reopened(f)
}

// reopened returns nil where /proc is missing or closed: a pipe does it too.
func reopened(f *os.File) *os.File {
	file, err := reopen(f)
	if err != nil {
		return nil
	}
	return file
}

// readGap reads what stands between two values, without mapping it.
func readGap(s *worker.State, id shm.SegmentID, from, to uint64, key int) ([]byte, bool) {
	// A key may be escaped, six bytes for one.
	if to < from || to-from > uint64(maxGap+6*key) {
		return nil, false
	}
	gap := make([]byte, to-from)
	if len(gap) == 0 {
		return gap, true
	}
	_, err := s.ReadAt(id, gap, int64(from))
	return gap, err == nil
}

const space = " \t\r\n"

func isSpace(b []byte) bool { return len(bytes.Trim(b, space)) == 0 }

// isKeyAfter reports whether gap is punct, the key as a JSON string, and a
// colon.
func isKeyAfter(gap []byte, punct byte, key string) bool {
	gap = bytes.Trim(gap, space)
	if len(gap) < 2 || gap[0] != punct || gap[len(gap)-1] != ':' {
		return false
	}
	var text string
	err := json.Unmarshal(gap[1:len(gap)-1], &text)
	return err == nil && text == key
}
