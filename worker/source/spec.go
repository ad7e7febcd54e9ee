package source

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Format of the files.
type Format string

// The formats. FormatFiles takes each file whole: one record {"name", "content"}.
const (
	FormatNDJSON  Format = "ndjson"
	FormatCSV     Format = "csv"
	FormatParquet Format = "parquet"
	FormatArrow   Format = "arrow"
	FormatFiles   Format = "files"
)

// Defaults of a Spec.
const (
	DefaultBatch = 1000
	DefaultKey   = "batches"
	// MaxBatchBytes closes a batch before it has all its records: an item must
	// fit into half of a stream's ring.
	MaxBatchBytes = 1 << 20
	// RingBytes is the capacity of the stream's ring.
	RingBytes = 8 << 20
	// MaxRecordBytes is the largest record: a batch of it alone fits into half
	// of the ring.
	MaxRecordBytes = RingBytes/2 - 64
)

// Spec says what to read, as it stands in the spec of a prepare message.
type Spec struct {
	// Paths are absolute files, folders (all files in them, by name) and
	// patterns of path.Match.
	Paths []string `json:"paths"`
	// Format is guessed from the first file's ending when empty.
	Format Format `json:"format,omitempty"`
	// Batch is how many records make a batch. Default DefaultBatch.
	Batch int `json:"batch,omitempty"`
	// Key under which the stream stands in the state. Default DefaultKey.
	Key string `json:"key,omitempty"`
	// Encoding of a batch: "json" (default), or "arrow" for Parquet and Arrow
	// files.
	Encoding string `json:"encoding,omitempty"`
	// SkipBad passes over records that cannot be read instead of failing.
	SkipBad bool `json:"skip_bad,omitempty"`
	CSV     CSV  `json:"csv,omitzero"`
}

// CSV are the settings of CSV files.
type CSV struct {
	// Delimiter is one character. Default: a comma; a tab in *.tsv.
	Delimiter string `json:"delimiter,omitempty"`
	// Columns names the columns of files without a header line.
	Columns []string `json:"columns,omitempty"`
	// Text keeps every field a string. Otherwise what is written like a JSON
	// number, true or false is one, and an empty field is null.
	Text bool `json:"text,omitempty"`
}

// ParseSpec reads a spec and fills its defaults in.
func ParseSpec(text string) (*Spec, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	s := new(Spec)
	if err := d.Decode(s); err != nil {
		return nil, err
	}
	return s, s.check()
}

func (s *Spec) check() error {
	if len(s.Paths) == 0 {
		return errors.New("it names no file")
	}
	if s.Batch == 0 {
		s.Batch = DefaultBatch
	}
	if s.Key == "" {
		s.Key = DefaultKey
	}
	if s.Encoding == "" {
		s.Encoding = "json"
	}
	formats := []Format{"", FormatNDJSON, FormatCSV, FormatParquet, FormatArrow, FormatFiles}
	switch {
	case s.Batch < 0:
		return fmt.Errorf("a batch of %d records", s.Batch)
	case !slices.Contains(formats, s.Format):
		return fmt.Errorf("unknown format %q (use ndjson, csv, parquet, arrow or files)", s.Format)
	case s.Encoding != "json" && s.Encoding != "arrow":
		return fmt.Errorf("unknown encoding %q (use json or arrow)", s.Encoding)
	case len([]rune(s.CSV.Delimiter)) > 1:
		return fmt.Errorf("the delimiter %q is not one character", s.CSV.Delimiter)
	}
	return nil
}

// FileError is a file that cannot be read, or a record in it.
type FileError struct {
	Path string
	// Line or Row (of a columnar file) counts from 1; 0 where it is not known.
	Line, Row int64
	// Offset is where in the file the record begins, or what is wrong in it, in
	// bytes; known with a Line.
	Offset int64
	Err    error
}

// Error implements error.
func (e *FileError) Error() string {
	switch {
	case e.Line > 0:
		return fmt.Sprintf("%s:%d: %v (byte %d of the file)", e.Path, e.Line, e.Err, e.Offset)
	case e.Row > 0:
		return fmt.Sprintf("%s: row %d: %v", e.Path, e.Row, e.Err)
	}
	return fmt.Sprintf("%s: %v", e.Path, e.Err)
}

// Unwrap returns the cause.
func (e *FileError) Unwrap() error { return e.Err }

// files expands the paths. Each must stand for at least one file.
func (s *Spec) files() ([]string, error) {
	var all []string
	for _, p := range s.Paths {
		matches := []string{p}
		if _, err := os.Stat(p); err != nil {
			if matches, err = filepath.Glob(p); err != nil {
				return nil, &FileError{Path: p, Err: err}
			}
		}
		if len(matches) == 0 {
			return nil, &FileError{Path: p, Err: errors.New("there is no such file")}
		}
		for _, m := range matches {
			info, err := os.Stat(m)
			if err != nil {
				return nil, &FileError{Path: m, Err: errors.Unwrap(err)}
			}
			if !info.IsDir() {
				all = append(all, m)
				continue
			}
			entries, err := os.ReadDir(m)
			if err != nil {
				return nil, &FileError{Path: m, Err: errors.Unwrap(err)}
			}
			before := len(all)
			for _, e := range entries {
				if full := filepath.Join(m, e.Name()); e.Name()[0] != '.' && isFile(full) {
					all = append(all, full)
				}
			}
			if len(all) == before {
				return nil, &FileError{Path: m, Err: errors.New("there is no file in this folder")}
			}
		}
	}
	return all, nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// formatOf guesses a file's format from its ending, and from its first bytes
// where the ending says nothing.
func formatOf(path string) (Format, error) {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".ndjson", ".jsonl":
		return FormatNDJSON, nil
	case ".csv", ".tsv":
		return FormatCSV, nil
	case ".parquet":
		return FormatParquet, nil
	case ".arrow", ".arrows", ".feather", ".ipc":
		return FormatArrow, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", &FileError{Path: path, Err: errors.Unwrap(err)}
	}
	defer f.Close()
	start := make([]byte, 8)
	n, _ := f.Read(start) // an empty or unreadable file has no known start
	switch start = start[:n]; {
	case bytes.HasPrefix(start, []byte("PAR1")):
		return FormatParquet, nil
	case bytes.HasPrefix(start, []byte("ARROW1")):
		return FormatArrow, nil
	}
	return "", &FileError{Path: path, Err: errors.New("its format cannot be told from its name: set format to ndjson, csv, parquet, arrow or files")}
}
