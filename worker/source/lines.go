package source

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"unicode/utf8"

	"github.com/millrace/millrace/ipc/jsonscan"
)

const (
	readSize = 256 << 10
	space    = " \t\r\n\v\f"
)

// lines reads NDJSON: one JSON value a line. Empty lines are passed over.
type lines struct {
	path      string
	file      *os.File
	in        *bufio.Reader
	line      int64
	start     int64  // of the line, in bytes of the file
	offset    int64  // behind it
	long      []byte // a line longer than the reader's buffer
	validator jsonscan.Validator
}

func openFile(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &FileError{Path: path, Err: errors.Unwrap(err)}
	}
	return f, nil
}

func openLines(path string) (records, error) {
	f, err := openFile(path)
	if err != nil {
		return nil, err
	}
	return newLines(path, f, f), nil
}

func newLines(path string, f *os.File, r io.Reader) *lines {
	return &lines{path: path, file: f, in: bufio.NewReaderSize(r, readSize)}
}

func (l *lines) close() error { return l.file.Close() }

func (l *lines) next(dst []byte) ([]byte, error) {
	for {
		text, err := l.read()
		if err != nil {
			return dst, err
		}
		at := l.start + int64(len(text))
		text = bytes.TrimLeft(text, space)
		if l.line == 1 {
			text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
		}
		at -= int64(len(text))
		text = bytes.TrimRight(text, space)
		if len(text) == 0 {
			continue
		}
		l.validator.Reset()
		err = l.validator.Feed(text)
		if err == nil {
			err = l.validator.Finish()
		}
		if err != nil {
			if syntax := (*jsonscan.SyntaxError)(nil); errors.As(err, &syntax) {
				at += syntax.Offset
				err = errors.New(syntax.Msg) // the line is the file's, not the value's
			}
			return dst, &FileError{Path: l.path, Line: l.line, Offset: at, Err: fmt.Errorf("not a JSON value: %w", err)}
		}
		return append(dst, text...), nil
	}
}

// read returns the next line; it is valid until the next call.
func (l *lines) read() ([]byte, error) {
	l.long = l.long[:0]
	l.start = l.offset
	for {
		piece, err := l.in.ReadSlice('\n')
		l.offset += int64(len(piece))
		switch {
		case err == nil || errors.Is(err, io.EOF) && len(piece)+len(l.long) > 0:
			l.line++
			if len(l.long) == 0 {
				return piece, nil
			}
			l.long = append(l.long, piece...)
			return l.long, nil
		case errors.Is(err, bufio.ErrBufferFull):
			if l.long = append(l.long, piece...); len(l.long) > MaxRecordBytes {
				// Not one to be skipped: where the next line begins is not known.
				return nil, &FileError{Path: l.path, Err: fmt.Errorf("line %d has more than %d bytes: is it NDJSON?", l.line+1, MaxRecordBytes)}
			}
		case errors.Is(err, io.EOF):
			return nil, io.EOF
		default:
			return nil, &FileError{Path: l.path, Err: err}
		}
	}
}

// whole is a file that is one record.
type whole struct {
	path string
	done bool
}

func openWhole(path string) (records, error) { return &whole{path: path}, nil }

func (w *whole) close() error { return nil }

func (w *whole) next(dst []byte) ([]byte, error) {
	if w.done {
		return dst, io.EOF
	}
	w.done = true
	f, err := openFile(w.path)
	if err != nil {
		return dst, err
	}
	defer f.Close()
	// A record's limit, and one byte to see that it was passed.
	content, err := io.ReadAll(io.LimitReader(f, MaxRecordBytes+1))
	if err != nil {
		return dst, &FileError{Path: w.path, Err: err}
	}
	if len(content) > MaxRecordBytes {
		return dst, &FileError{Path: w.path, Row: 1, Err: fmt.Errorf("more than %d bytes in one file", MaxRecordBytes)}
	}
	dst = append(dst, `{"name":`...)
	dst = jsonscan.AppendString(dst, filepath.Base(w.path))
	dst = append(dst, `,"content":`...)
	switch {
	case jsonscan.Validate(content) == nil:
		dst = append(dst, bytes.TrimSpace(content)...)
	case utf8.Valid(content):
		dst = jsonscan.AppendString(dst, string(content))
	default:
		base64, err := json.Marshal(content)
		if err != nil {
			return dst, &FileError{Path: w.path, Row: 1, Err: err}
		}
		dst = append(append(append(dst, `{"@encoding":"raw","base64":`...), base64...), '}')
	}
	return append(dst, '}'), nil
}
