package arrowipc

import (
	"fmt"
	"sync/atomic"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/klauspost/compress/zstd"
)

// DefaultCopyLimit is how many bytes may be copied to the heap for one record,
// unless WithCopyLimit says otherwise.
const DefaultCopyLimit = 1 << 30

// An Option configures a Reader.
type Option func(*Reader)

// WithFullValidation checks everything about a record's structure before it is
// handed out, at the cost of a pass over its rows; see the package's section
// on trust.
func WithFullValidation() Option { return func(r *Reader) { r.full = true } }

// WithCopyLimit sets how many bytes one record, with the dictionaries it is
// the first to need, may copy to the heap for the reasons in the package's
// documentation. 0 refuses every copy.
func WithCopyLimit(bytes int64) Option { return func(r *Reader) { r.copyLimit = max(bytes, 0) } }

// A Reader reads the records of one Arrow stream or file. It implements
// array.RecordReader.
//
// A Reader is not safe for concurrent use, except Retain and Release. The
// records it gives are: they are immutable and independent of it.
type Reader struct {
	buf       []byte // immutable; others may change what it shows
	end       int64  // of the messages in buf
	full      bool
	copyLimit int64

	schema  *arrow.Schema
	columns []*column
	dicts   map[int64]*dictionary

	// The walk over a stream's messages, as far as it went. A file needs none.
	pos         int64
	records     []recordAt
	dictBatches int
	walked      bool
	walkErr     error

	next   int
	record arrow.Record
	err    error
	closed bool
	refs   atomic.Int64

	copied int64
	zstd   *zstd.Decoder
}

// recordAt is where a record batch is, and how many dictionary batches it sees:
// those before it in a stream, all of them in a file.
type recordAt struct {
	pos   int64
	dicts int
}

var _ array.RecordReader = (*Reader)(nil)

// NewReader opens the Arrow stream or file in buf and reads its schema. The
// record batches are looked for when they are first needed; in a file their
// places are known from its footer.
//
// buf must stay readable, and should not change, as long as the Reader or any
// record or array from it is in use. It is never written. Errors are
// *FormatError or *LimitError.
func NewReader(buf []byte, opts ...Option) (*Reader, error) {
	r := &Reader{buf: buf, copyLimit: DefaultCopyLimit, dicts: map[int64]*dictionary{}}
	for _, opt := range opts {
		opt(r)
	}
	r.refs.Store(1)
	open := r.openStream
	if isFile(buf) {
		open = r.openFile
	}
	if err := open(); err != nil {
		return nil, err
	}
	return r, nil
}

// Schema gives the schema of all records. The caller must not change it.
func (r *Reader) Schema() *arrow.Schema { return r.schema }

// Copied gives how many bytes were copied to the heap so far, other than
// metadata. For aligned, uncompressed data without delta dictionaries it is 0.
func (r *Reader) Copied() int64 { return r.copied }

// NumRecords gives the number of record batches. In a stream it walks over the
// heads of all messages, which touches a page or two for each of them; with an
// error the number is of those before the faulty message.
func (r *Reader) NumRecords() (int, error) {
	if r.closed {
		return 0, ErrClosed
	}
	for r.step() {
	}
	return len(r.records), r.walkErr
}

// At gives record i, counted from 0. The caller owns a reference and should
// Release it. A record may be asked for again, and in any order.
//
// The error wraps ErrNoRecord if there are not that many, and is a
// *FormatError or *LimitError if the record, or a message before it, is bad.
func (r *Reader) At(i int) (arrow.Record, error) {
	if r.closed {
		return nil, ErrClosed
	}
	if !r.has(i) {
		if r.walkErr != nil {
			return nil, r.walkErr
		}
		return nil, fmt.Errorf("%w: %d of %d", ErrNoRecord, i, len(r.records))
	}
	return r.load(r.records[i])
}

// Next moves to the next record and reports whether there is one. It releases
// the one before: Retain that to keep it.
func (r *Reader) Next() bool {
	r.drop()
	if r.closed || r.err != nil {
		return false
	}
	if !r.has(r.next) {
		r.err = r.walkErr
		return false
	}
	if r.record, r.err = r.load(r.records[r.next]); r.err != nil {
		return false
	}
	r.next++
	return true
}

// Record gives the current record, valid until the next call of Next; nil
// before the first.
func (r *Reader) Record() arrow.Record { return r.record }

// Err gives the error that ended Next, nil at the end of the stream. At's
// errors are not among them.
func (r *Reader) Err() error { return r.err }

// Retain adds a reference.
func (r *Reader) Retain() { r.refs.Add(1) }

// Release drops a reference. The last one closes the Reader.
func (r *Reader) Release() {
	if r.refs.Add(-1) == 0 {
		r.Close()
	}
}

// Close releases the current record and forgets the bytes. Records that were
// retained, or came from At, stay valid. Closing again does nothing.
func (r *Reader) Close() {
	r.drop()
	r.closed = true
	r.buf, r.records, r.dicts, r.columns, r.zstd = nil, nil, nil, nil, nil
}

func (r *Reader) drop() {
	if r.record != nil {
		r.record.Release()
		r.record = nil
	}
}

// has walks until record i is found.
func (r *Reader) has(i int) bool {
	for i >= len(r.records) && r.step() {
	}
	return i >= 0 && i < len(r.records)
}

// step walks over one message. It reports false at the end, or on an error.
func (r *Reader) step() bool {
	if r.walked {
		return false
	}
	var msg message
	ok, err := readMessage(r.buf, r.pos, r.end, &msg)
	if ok {
		switch msg.kind {
		case headerRecord:
			r.records = append(r.records, recordAt{pos: r.pos, dicts: r.dictBatches})
		case headerDictionary:
			err = r.addDictionary(r.pos, &msg)
		default:
			err = formatErrorf(r.pos, "a message of type %d among the record batches", msg.kind)
		}
	}
	if !ok || err != nil {
		r.walked, r.walkErr = true, err
		return false
	}
	r.pos = msg.next
	return true
}

// load builds the record at the given place.
func (r *Reader) load(at recordAt) (arrow.Record, error) {
	var msg message
	if ok, err := readMessage(r.buf, at.pos, r.end, &msg); err != nil || !ok || msg.kind != headerRecord {
		return nil, noMessage(at.pos, err)
	}
	left := r.copyLimit
	l := loader{r: r, msg: &msg, batch: msg.header, limit: at.dicts, copyLeft: &left}
	rows, err := l.start()
	if err != nil {
		return nil, err
	}
	if len(r.columns) == 0 && rows > maxBare {
		return nil, &LimitError{Offset: at.pos, What: "rows of a record without columns", Size: rows, Limit: maxBare}
	}
	datas := make([]*array.Data, len(r.columns))
	for i, col := range r.columns {
		if datas[i], err = l.load(col); err != nil {
			return nil, err
		}
		if int64(datas[i].Len()) != rows {
			return nil, col.errorf(msg.meta.base, "%d values in a batch of %d rows", datas[i].Len(), rows)
		}
		if r.full {
			if err := validate(col, datas[i], msg.bodyAt); err != nil {
				return nil, err
			}
		}
	}
	return r.newRecord(datas, rows, at.pos)
}

func (r *Reader) newRecord(datas []*array.Data, rows, at int64) (rec arrow.Record, err error) {
	defer guard(at, &err)
	arrays := make([]arrow.Array, len(datas))
	for i, data := range datas {
		arrays[i] = array.MakeFromData(data)
		data.Release()
	}
	rec = array.NewRecord(r.schema, arrays, rows)
	for _, arr := range arrays {
		arr.Release()
	}
	return rec, nil
}
