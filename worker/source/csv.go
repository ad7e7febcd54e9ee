package source

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/millrace/millrace/ipc/jsonscan"
)

// table reads CSV: a record is an object of the columns' names and values.
type table struct {
	path   string
	file   *os.File
	in     *csv.Reader
	text   bool
	keys   [][]byte // `"name":` in JSON
	number jsonscan.Validator
	mark   int64 // bytes before what in reads
	start  int64 // of the record, in bytes of the file
}

func openCSV(path string, options *CSV) (records, error) {
	f, err := openFile(path)
	if err != nil {
		return nil, err
	}
	t, err := newTable(path, f, f, options)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return t, nil
}

func newTable(path string, f *os.File, r io.Reader, options *CSV) (*table, error) {
	buffered := bufio.NewReaderSize(r, readSize)
	skipped := 0
	if mark, err := buffered.Peek(3); err == nil && string(mark) == "\xef\xbb\xbf" {
		skipped, _ = buffered.Discard(3) // it was peeked at
	}
	t := &table{path: path, file: f, in: csv.NewReader(buffered), text: options.Text, mark: int64(skipped)}
	t.in.ReuseRecord = true
	switch {
	case options.Delimiter != "":
		t.in.Comma, _ = utf8.DecodeRuneInString(options.Delimiter)
	case strings.EqualFold(filepath.Ext(path), ".tsv"):
		t.in.Comma = '\t'
	}
	columns := options.Columns
	if len(columns) == 0 {
		header, err := t.in.Read()
		if errors.Is(err, io.EOF) {
			return t, nil // an empty file has no records either
		}
		if err != nil {
			return nil, t.fileError(err)
		}
		columns = header
	}
	t.in.FieldsPerRecord = len(columns)
	seen := make(map[string]bool, len(columns))
	for i, name := range columns {
		if name = strings.TrimSpace(strings.ToValidUTF8(name, "\uFFFD")); name == "" {
			name = fmt.Sprintf("column%d", i+1)
		}
		if seen[name] {
			return nil, &FileError{Path: path, Line: 1, Err: fmt.Errorf("two columns are called %q", name)}
		}
		seen[name] = true
		t.keys = append(t.keys, append(jsonscan.AppendString(nil, name), ':'))
	}
	return t, nil
}

func (t *table) close() error { return t.file.Close() }

func (t *table) next(dst []byte) ([]byte, error) {
	t.start = t.mark + t.in.InputOffset()
	fields, err := t.in.Read()
	if errors.Is(err, io.EOF) {
		return dst, io.EOF
	}
	if err != nil {
		return dst, t.fileError(err)
	}
	separator := byte('{')
	for i, field := range fields {
		dst = append(append(dst, separator), t.keys[i]...)
		dst = t.value(dst, field)
		separator = ','
	}
	return append(dst, '}'), nil
}

// value appends a field as the JSON value that it is written like.
func (t *table) value(dst []byte, field string) []byte {
	if !t.text {
		switch {
		case field == "":
			return append(dst, "null"...)
		case field == "true" || field == "false":
			return append(dst, field...)
		case (field[0] >= '0' && field[0] <= '9' || field[0] == '-') && len(field) <= 24:
			// 007 and 1_000 are no JSON numbers, so they stay text.
			start := len(dst)
			dst = append(dst, field...)
			t.number.Reset()
			if t.number.Feed(dst[start:]) == nil && t.number.Finish() == nil {
				return dst
			}
			dst = dst[:start]
		}
	}
	return jsonscan.AppendString(dst, strings.ToValidUTF8(field, "\uFFFD"))
}

func (t *table) fileError(err error) error {
	var parse *csv.ParseError
	if !errors.As(err, &parse) {
		return &FileError{Path: t.path, Err: err}
	}
	if errors.Is(err, csv.ErrFieldCount) {
		return &FileError{Path: t.path, Line: int64(parse.StartLine), Offset: t.start, Err: fmt.Errorf("the line does not have %d fields as the header has", t.in.FieldsPerRecord)}
	}
	return &FileError{Path: t.path, Line: int64(parse.StartLine), Offset: t.start, Err: parse.Err}
}
