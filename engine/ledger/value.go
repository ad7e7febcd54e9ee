package ledger

import (
	"fmt"
	"io"
	"os"
	"sort"
	"strings"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// Value reads a row's bytes without mapping them: the supervisor's memory does
// not grow with what it reads, and each byte of an untrusted writer is copied
// out before it is looked at. It is valid while the row's table is held.
type Value struct {
	spans []span
	size  int64
	text  string // in place of spans: how a stream shows
}

// StreamText is how a live stream shows where a state leaves the host.
const StreamText = `"[stream]"`

type span struct {
	segment *shm.Segment
	start   int64 // in the value
	offset  int64 // in the segment
	length  int64
}

// Value opens a row of a table that the caller holds.
func (l *Ledger) Value(row ipc.Row) (*Value, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := &Value{}
	for _, r := range row.Spans {
		if r.Flags&shm.FlagStream != 0 {
			if b := l.find(r); b == nil {
				return nil, &RefError{Key: row.Key, Ref: r, Msg: "there is no such stream"}
			}
			return &Value{text: StreamText, size: int64(len(StreamText))}, nil
		}
		if r.Length == 0 {
			continue
		}
		b := l.find(r)
		if b == nil {
			return nil, &RefError{Key: row.Key, Ref: r, Msg: "no published block holds it"}
		}
		v.spans = append(v.spans, span{segment: b.segment.Segment, start: v.size, offset: int64(r.Offset), length: int64(r.Length)})
		v.size += int64(r.Length)
	}
	return v, nil
}

// Size returns the value's length in bytes.
func (v *Value) Size() int64 { return v.size }

// ReadAt implements io.ReaderAt.
func (v *Value) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("ledger: negative offset %d", off)
	}
	if v.text != "" {
		return strings.NewReader(v.text).ReadAt(p, off)
	}
	total := 0
	i := sort.Search(len(v.spans), func(i int) bool { return v.spans[i].start+v.spans[i].length > off })
	for ; i < len(v.spans) && len(p) > 0; i++ {
		s := &v.spans[i]
		skip := off - s.start
		n, err := s.segment.ReadAt(p[:min(int64(len(p)), s.length-skip)], s.offset+skip)
		total += n
		off += int64(n)
		p = p[n:]
		if err != nil {
			return total, err
		}
	}
	if len(p) > 0 {
		return total, io.EOF
	}
	return total, nil
}

// Reader returns a reader over the whole value.
func (v *Value) Reader() *io.SectionReader { return io.NewSectionReader(v, 0, v.size) }

// Files calls f for the pieces of the value in order: length bytes at offset of
// a segment's descriptor, for the kernel to send without a copy through this
// process. The descriptor is the segment's own and must not be closed; its file
// offset is shared and must not be used.
func (v *Value) Files(f func(file *os.File, offset, length int64) error) error {
	for _, s := range v.spans {
		file := s.segment.File()
		if file == nil {
			return shm.ErrClosed
		}
		if err := f(file, s.offset, s.length); err != nil {
			return err
		}
	}
	return nil
}
