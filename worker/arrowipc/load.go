package arrowipc

import (
	"bytes"
	"math"

	"github.com/apache/arrow/go/v17/arrow/memory"
)

// maxBare bounds the length of what has no bytes of its own to bound it.
const maxBare = math.MaxInt32

// maxLength keeps the arithmetic on lengths, offset by one, far from overflow.
const maxLength = 1 << 48

// loader builds the arrays of one record batch, or of one dictionary batch.
type loader struct {
	r     *Reader
	msg   *message
	batch table // RecordBatch
	limit int   // dictionary batches that the arrays may see

	nodes, buffers, variadic          vector
	nextNode, nextBuffer, nextViadata int64

	codec    codec
	copyLeft *int64
	depth    int // dictionaries inside dictionaries
}

// start reads the head of the batch. It reports its number of rows.
func (l *loader) start() (int64, error) {
	rows := l.batch.int64At(4)
	l.nodes = l.batch.vectorAt(6, 16)
	l.buffers = l.batch.vectorAt(8, 16)
	l.variadic = l.batch.vectorAt(12, 8)
	if compression, ok := l.batch.tableAt(10); ok {
		// The default of the enumeration's field, LZ4, is 0.
		l.codec = codec(compression.byteAt(4)) + codecLZ4
		if method := compression.byteAt(6); method != 0 || l.codec > codecZstd {
			return 0, l.errorf("compression %d by method %d is not known", l.codec-codecLZ4, method)
		}
	}
	if err := l.msg.meta.err; err != nil {
		return 0, err
	}
	if rows < 0 || rows > maxLength {
		return 0, l.errorf("a batch of %d rows", rows)
	}
	return rows, nil
}

func (l *loader) errorf(format string, args ...any) error {
	return formatErrorf(l.msg.meta.base, format, args...)
}

// node takes the next field node: the length of an array and its null count.
func (l *loader) node(col *column) (length, nulls int64, err error) {
	if l.nextNode >= l.nodes.n {
		return 0, 0, col.errorf(l.msg.meta.base, "the batch has only %d field nodes", l.nodes.n)
	}
	length, nulls = l.nodes.pair(l.nextNode)
	l.nextNode++
	if length < 0 || length > maxLength {
		return 0, 0, col.errorf(l.msg.meta.base, "a length of %d", length)
	}
	if nulls < 0 || nulls > length {
		return 0, 0, col.errorf(l.msg.meta.base, "%d nulls in %d values", nulls, length)
	}
	return length, nulls, nil
}

// bytesFor gives the size of n values of the given width.
func (l *loader) bytesFor(col *column, n, width int64) (int64, error) {
	if width != 0 && n > math.MaxInt64/width {
		return 0, col.errorf(l.msg.meta.base, "%d values of %d bytes", n, width)
	}
	return n * width, nil
}

// skip passes over a buffer whose content does not matter.
func (l *loader) skip() { l.nextBuffer++ }

// buffer takes the next buffer, which must hold at least need bytes and is
// copied if it does not lie at a multiple of align in memory.
func (l *loader) buffer(col *column, need, align int64) (*memory.Buffer, error) {
	if l.nextBuffer >= l.buffers.n {
		return nil, col.errorf(l.msg.meta.base, "the batch has only %d buffers", l.buffers.n)
	}
	off, size := l.buffers.pair(l.nextBuffer)
	l.nextBuffer++
	bodyLen := int64(len(l.msg.body))
	if off < 0 || size < 0 || off > bodyLen || size > bodyLen-off {
		return nil, col.errorf(l.msg.bodyAt, "a buffer at %d of %d bytes in a body of %d", off, size, bodyLen)
	}
	b := l.msg.body[off : off+size : off+size]
	if l.codec != codecNone && size > 0 {
		var err error
		if b, err = l.decode(col, b, l.msg.bodyAt+off, need); err != nil {
			return nil, err
		}
	}
	if int64(len(b)) < need {
		return nil, col.errorf(l.msg.bodyAt+off, "a buffer of %d bytes where %d are needed", len(b), need)
	}
	if len(b) == 0 {
		return memory.NewBufferBytes(nil), nil
	}
	if !aligned(b, align) {
		if err := l.spend(int64(len(b)), l.msg.bodyAt+off); err != nil {
			return nil, err
		}
		b = bytes.Clone(b)
	}
	return memory.NewBufferBytes(b), nil
}

// spend accounts for n bytes that are about to be copied to the heap.
func (l *loader) spend(n, at int64) error {
	if n > *l.copyLeft {
		return &LimitError{
			Offset: at,
			What:   "bytes copied for one record, see WithCopyLimit",
			Size:   l.r.copyLimit - *l.copyLeft + n,
			Limit:  l.r.copyLimit,
		}
	}
	*l.copyLeft -= n
	l.r.copied += n
	return nil
}

// validity takes the next buffer as the validity bitmap. It is nil if there are
// no nulls, whatever the buffer holds.
func (l *loader) validity(col *column, length, nulls int64) (*memory.Buffer, error) {
	if nulls == 0 {
		l.skip()
		return nil, nil
	}
	return l.buffer(col, (length+7)/8, 1)
}
