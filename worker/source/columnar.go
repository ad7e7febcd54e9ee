package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet/file"
	"github.com/apache/arrow/go/v17/parquet/pqarrow"
)

// columnar reads the record batches of a Parquet or Arrow file, as rows or in
// pieces of so many rows.
type columnar struct {
	path   string
	schema *arrow.Schema
	load   func() (arrow.Record, error) // the caller releases it
	shut   func() error

	record arrow.Record // nil: load the next
	row    int64        // in record
	rows   int64        // of all records before
	write  []appendValue
}

// parquetBuffer is what is read ahead of each column, so that a row group need
// not fit into memory.
const parquetBuffer = 256 << 10

func openParquet(path string, batch int) (records, error) {
	f, err := openFile(path)
	if err != nil {
		return nil, err
	}
	fail := func(err error) (records, error) {
		return nil, errors.Join(&FileError{Path: path, Err: fmt.Errorf("not a Parquet file that can be read: %w", err)}, f.Close())
	}
	reader, err := openParquetFile(f)
	if err != nil {
		return fail(err)
	}
	arrows, err := pqarrow.NewFileReader(reader, pqarrow.ArrowReadProperties{BatchSize: int64(batch)}, memory.DefaultAllocator)
	if err != nil {
		return fail(err)
	}
	rows, err := arrows.GetRecordReader(context.Background(), nil, nil)
	if err != nil {
		return fail(err)
	}
	c := &columnar{path: path, schema: rows.Schema(), shut: func() error { rows.Release(); return reader.Close() }}
	c.load = func() (record arrow.Record, err error) {
		defer recovered(&err)
		if !rows.Next() {
			if err := rows.Err(); err != nil && !errors.Is(err, io.EOF) {
				return nil, err
			}
			return nil, io.EOF
		}
		record = rows.Record()
		record.Retain()
		return record, nil
	}
	return c.ready()
}

// openParquetFile reads the footer. The library panics on some broken ones.
func openParquetFile(f *os.File) (_ *file.Reader, err error) {
	defer recovered(&err)
	properties := readProperties()
	return file.NewParquetReader(f, file.WithReadProps(properties))
}

func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("broken file: %v", p)
	}
}

func openArrow(path string) (records, error) {
	f, err := openFile(path)
	if err != nil {
		return nil, err
	}
	fail := func(err error) (records, error) {
		return nil, errors.Join(&FileError{Path: path, Err: fmt.Errorf("not an Arrow file or stream that can be read: %w", err)}, f.Close())
	}
	magic := make([]byte, 6)
	if _, err := f.ReadAt(magic, 0); err != nil && !errors.Is(err, io.EOF) {
		return fail(err)
	}
	c := &columnar{path: path, shut: f.Close}
	if string(magic) != "ARROW1" {
		stream, err := ipc.NewReader(f)
		if err != nil {
			return fail(err)
		}
		c.schema = stream.Schema()
		c.shut = func() error { stream.Release(); return f.Close() }
		c.load = func() (record arrow.Record, err error) {
			defer recovered(&err)
			record, err = stream.Read()
			if err == nil {
				record.Retain()
			}
			return record, err
		}
		return c.ready()
	}
	whole, err := openArrowFile(f)
	if err != nil {
		return fail(err)
	}
	at := 0
	c.schema = whole.Schema()
	c.shut = func() error { return errors.Join(whole.Close(), f.Close()) }
	c.load = func() (record arrow.Record, err error) {
		defer recovered(&err)
		if at == whole.NumRecords() {
			return nil, io.EOF
		}
		at++
		return whole.RecordAt(at - 1)
	}
	return c.ready()
}

func openArrowFile(f *os.File) (_ *ipc.FileReader, err error) {
	defer recovered(&err)
	return ipc.NewFileReader(f)
}

// ready prepares the columns.
func (c *columnar) ready() (records, error) {
	c.write = make([]appendValue, c.schema.NumFields())
	for i, field := range c.schema.Fields() {
		c.write[i] = appender(field)
	}
	return c, nil
}

func (c *columnar) close() error {
	if c.record != nil {
		c.record.Release()
		c.record = nil
	}
	return c.shut()
}

// fill makes sure that there is a row to read.
func (c *columnar) fill() error {
	for c.record == nil || c.row == c.record.NumRows() {
		if c.record != nil {
			c.rows += c.record.NumRows()
			c.record.Release()
			c.record = nil
		}
		record, err := c.load()
		if errors.Is(err, io.EOF) {
			return io.EOF
		}
		if err != nil {
			return &FileError{Path: c.path, Err: fmt.Errorf("after row %d: %w", c.rows, err)}
		}
		c.record, c.row = record, 0
	}
	return nil
}

func (c *columnar) next(dst []byte) ([]byte, error) {
	if err := c.fill(); err != nil {
		return dst, err
	}
	separator := byte('{')
	for i, write := range c.write {
		var err error
		dst = append(dst, separator)
		if dst, err = write(dst, c.record.Column(i), int(c.row)); err != nil {
			c.row++
			return dst, &FileError{Path: c.path, Row: c.rows + c.row, Err: fmt.Errorf("column %q: %w", c.schema.Field(i).Name, err)}
		}
		separator = ','
	}
	if len(c.write) == 0 {
		dst = append(dst, '{')
	}
	c.row++
	return append(dst, '}'), nil
}

func (c *columnar) nextBatch(dst []byte, n int) ([]byte, int64, error) {
	if err := c.fill(); err != nil {
		return dst, 0, err
	}
	piece := c.record.NewSlice(c.row, min(c.row+int64(n), c.record.NumRows()))
	defer piece.Release()
	out := bytes.NewBuffer(dst)
	w := ipc.NewWriter(out, ipc.WithSchema(c.schema))
	if err := errors.Join(w.Write(piece), w.Close()); err != nil {
		return dst, 0, &FileError{Path: c.path, Row: c.rows + c.row + 1, Err: err}
	}
	c.row += piece.NumRows()
	return out.Bytes(), piece.NumRows(), nil
}

// arrayOf is what all typed arrays have.
type arrayOf[T any] interface {
	arrow.Array
	Value(int) T
}

var _ arrayOf[int64] = (*array.Int64)(nil)
