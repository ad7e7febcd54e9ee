package frames

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Reader reads frames. It is for one goroutine.
type Reader struct {
	r     io.Reader
	left  io.LimitedReader // of the frame's payload
	meta  Meta
	count int64
	index []int // of the next value: state, value
}

// NewReader returns a Reader. Large reads go to r as they are made: where r is
// slow with small ones, give it a buffer.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

// Next skips what is left of a frame and returns the next one's meta, valid
// until the next call. Errors: io.EOF at the end between two frames,
// io.ErrUnexpectedEOF inside one, *FormatError.
func (r *Reader) Next() (*Meta, error) {
	if _, err := io.Copy(io.Discard, &r.left); err != nil {
		return nil, err
	}
	if r.left.N > 0 {
		return nil, io.ErrUnexpectedEOF
	}
	var header [headerSize]byte
	if _, err := io.ReadFull(r.r, header[:]); err != nil {
		return nil, err
	}
	r.count++
	size, payload, err := parseHeader(header[:])
	if err != nil {
		return nil, &FormatError{r.count, err.Error()}
	}
	// As much is allocated as arrives, not as much as is announced.
	meta, err := io.ReadAll(io.LimitReader(r.r, int64(size)))
	if err != nil {
		return nil, err
	}
	if len(meta) < int(size) {
		return nil, io.ErrUnexpectedEOF
	}
	r.meta = Meta{}
	if err := json.Unmarshal(meta, &r.meta); err != nil {
		return nil, &FormatError{r.count, "its meta: " + err.Error()}
	}
	left := payload
	for _, s := range r.meta.States {
		for _, v := range s.Values {
			if v.Size > left {
				return nil, &FormatError{r.count, "its values are longer than its payload"}
			}
			left -= v.Size
		}
	}
	if left != 0 {
		return nil, &FormatError{r.count, fmt.Sprintf("%d bytes of its payload belong to no value", left)}
	}
	r.left = io.LimitedReader{R: r.r, N: int64(payload)}
	r.index = []int{0, 0}
	return &r.meta, nil
}

// Payload reads what is left of the frame's payload.
func (r *Reader) Payload() io.Reader { return &r.left }

// Document writes a frame's state of that index as one JSON document. States
// must be taken in order, and not after Payload was read from. Values with
// another encoding than JSON become {"@encoding": "…", "base64": "…"}. JSON
// values are passed on as the step wrote them: nothing has checked them.
func (r *Reader) Document(w io.Writer, state int) error {
	if state != r.index[0] || state >= len(r.meta.States) {
		return fmt.Errorf("frames: state %d of %d, after %d", state, len(r.meta.States), r.index[0])
	}
	r.index[0]++
	s := r.meta.States[state]
	if s.Kind == "absent" {
		_, err := io.WriteString(w, "null")
		return err
	}
	before := "{"
	for _, v := range s.Values {
		if s.Kind == "object" {
			key, err := json.Marshal(v.Key)
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(w, "%s%s:", before, key); err != nil {
				return err
			}
			before = ","
		}
		if err := r.value(w, v); err != nil {
			return err
		}
	}
	if s.Kind != "object" {
		return nil
	}
	if len(s.Values) == 0 {
		_, err := io.WriteString(w, "{}")
		return err
	}
	_, err := io.WriteString(w, "}")
	return err
}

func (r *Reader) value(w io.Writer, v Value) error {
	if v.Encoding == "json" {
		return r.copy(w, v.Size)
	}
	if _, err := fmt.Fprintf(w, `{"@encoding":%q,"base64":"`, v.Encoding); err != nil {
		return err
	}
	encoder := base64.NewEncoder(base64.StdEncoding, w)
	if err := r.copy(encoder, v.Size); err != nil {
		return err
	}
	if err := encoder.Close(); err != nil {
		return err
	}
	_, err := io.WriteString(w, `"}`)
	return err
}

func (r *Reader) copy(w io.Writer, size uint64) error {
	n, err := io.CopyN(w, &r.left, int64(size))
	if err == io.EOF && uint64(n) < size {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// Print reads frames to the end and writes a line about each: what happened,
// and the sizes of the values, but not their contents.
func Print(w io.Writer, from io.Reader) error {
	r := NewReader(from)
	for {
		m, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s  %-13s  run %s", m.Time.Format(time.RFC3339Nano), m.Type, m.Run)
		if m.Step != "" {
			line += "  step " + m.Step
		}
		if m.Status != "" {
			line += "  " + m.Status
		}
		if m.Error != "" {
			line += fmt.Sprintf("  %q", m.Error)
		}
		if m.Log != nil {
			line += fmt.Sprintf("  [%s %s] %q", m.Log.Source, m.Log.Level, m.Log.Message)
		}
		for _, s := range m.States {
			line += "  " + s.Kind
			for _, v := range s.Values {
				line += fmt.Sprintf(" %q:%s[%d]", v.Key, v.Encoding, v.Size)
			}
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
}
