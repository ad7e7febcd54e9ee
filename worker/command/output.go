package command

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/millrace/millrace/ipc/jsonscan"
	"github.com/millrace/millrace/shm"
	"github.com/millrace/millrace/worker"
)

// takeOutput makes what the command wrote the state, or a key of it.
func (e *execution) takeOutput() error {
	if e.output == nil {
		return nil
	}
	out := &e.spec.Stdout
	// Nobody needs a descriptor that was once open for writing: what is handed
	// on is open for reading only.
	if err := seal(e.output); err != nil {
		return fmt.Errorf("seal the output of %s: %w", e.name(), err)
	}
	f, err := reopen(e.output)
	if err != nil {
		return err
	}
	adopted, err := e.state.Adopt(f)
	switch {
	case errors.Is(err, shm.ErrEmpty) && out.encoding == worker.Raw:
		return e.state.SetRaw(out.key, worker.Raw, nil)
	case errors.Is(err, shm.ErrEmpty):
		return e.nothing()
	case err != nil:
		return err
	}
	defer adopted.Close()
	b, err := adopted.Bytes()
	if err != nil {
		return err
	}
	if out.byKey {
		offset, length, err := e.checkKey(b)
		if err != nil {
			return err
		}
		_ = adopted.DropPages() // it costs memory that is counted as ours
		return adopted.SetKey(out.key, out.encoding, offset, length)
	}
	doc, err := e.scan(b)
	if err != nil {
		return err
	}
	_ = adopted.DropPages()
	return adopted.SetState(doc)
}

// nothing is the error of an empty output.
func (e *execution) nothing() error {
	return e.outputError("wrote nothing to stdout: it must write the new state as a JSON document; `stdout: ignore` keeps the input state", nil)
}

// checkKey checks an output that is to be one key, and returns where in it the
// value lies.
func (e *execution) checkKey(b []byte) (offset, length int64, err error) {
	switch e.spec.Stdout.encoding {
	case worker.ArrowStream:
		return 0, int64(len(b)), e.checkArrow(b)
	case worker.JSON:
		if _, err := e.scanWhole(b); err != nil {
			return 0, 0, err
		}
		offset = int64(len(b) - len(bytes.TrimLeft(b, space)))
		return offset, int64(len(bytes.TrimRight(b, space))) - offset, nil
	}
	return 0, int64(len(b)), nil
}

// scan validates a document and finds its members.
func (e *execution) scan(b []byte) (jsonscan.Document, error) {
	doc, err := jsonscan.Top(b, jsonscan.Options{Check: e.ctx.Err})
	return doc, e.jsonError(b, err)
}

// scanWholePiece is how much is validated between two looks at the context.
const scanWholePiece = 8 << 20

// scanWhole validates a document whose members do not matter.
func (e *execution) scanWhole(b []byte) (int64, error) {
	v := jsonscan.NewValidator(0)
	for rest := b; len(rest) > 0; {
		if err := e.ctx.Err(); err != nil {
			return 0, err
		}
		n := min(len(rest), scanWholePiece)
		if err := v.Feed(rest[:n]); err != nil {
			return 0, e.jsonError(b, err)
		}
		rest = rest[n:]
	}
	return v.Offset(), e.jsonError(b, v.Finish())
}

// jsonError says where the output is no JSON document, with what stands there.
func (e *execution) jsonError(b []byte, err error) error {
	var syntax *jsonscan.SyntaxError
	var depth *jsonscan.DepthError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jsonscan.ErrEmpty):
		return e.nothing()
	case e.ctx.Err() != nil && errors.Is(err, e.ctx.Err()):
		return fmt.Errorf("%s was ended: %w", e.name(), err)
	case errors.As(err, &depth):
		return e.outputError("wrote a document which is no state: "+err.Error(), map[string]any{"offset": depth.Offset})
	case !errors.As(err, &syntax):
		return e.outputError("wrote a document which is no state: "+err.Error(), nil)
	}
	excerpt := excerptAt(b, syntax.Offset)
	details := map[string]any{"offset": syntax.Offset, "line": syntax.Line, "column": syntax.Column, "excerpt": excerpt}
	if isSecondDocument(b, syntax.Offset) {
		return e.outputError(fmt.Sprintf("wrote more than one JSON document to stdout, the second at byte %d, line %d: wrap them in one, as `jq -s` does, or have one made of all inputs, as `jq -n` with `[inputs]` does",
			syntax.Offset, syntax.Line), details)
	}
	where := fmt.Sprintf("at byte %d, line %d", syntax.Offset, syntax.Line)
	if excerpt != "" {
		where += fmt.Sprintf(", near %q", excerpt)
	}
	return e.outputError(fmt.Sprintf("wrote to stdout what is not JSON: %s: %s", where, syntax.Msg), details)
}

// isSecondDocument reports whether a whole document ends before offset and
// something that may be another begins there.
func isSecondDocument(b []byte, offset int64) bool {
	if offset <= 0 || offset >= int64(len(b)) || !bytes.ContainsAny(b[offset:offset+1], `{["-0123456789tfn`) {
		return false
	}
	return jsonscan.Validate(b[:offset]) == nil
}

// excerptAt returns some bytes on either side of an offset, as text.
func excerptAt(b []byte, offset int64) string {
	const around = 24
	from := max(0, min(offset, int64(len(b)))-around)
	to := min(int64(len(b)), offset+around)
	if from >= to {
		return ""
	}
	return string(bytes.ToValidUTF8(b[from:to], []byte("\uFFFD")))
}

// checkArrow looks at the start of an Arrow stream: a message begins with the
// continuation mark and the length of its metadata, in old streams with the
// length alone.
func (e *execution) checkArrow(b []byte) error {
	const continuation = 0xFFFFFFFF
	if bytes.HasPrefix(b, []byte("ARROW1")) {
		return e.outputError("wrote an Arrow file to stdout: it must write an Arrow stream (IPC streaming format)", nil)
	}
	size := uint32(0)
	if len(b) >= 8 {
		if size = binary.LittleEndian.Uint32(b); size == continuation {
			size = binary.LittleEndian.Uint32(b[4:])
		}
	}
	if size == 0 || uint64(size) > uint64(len(b)) {
		return e.outputError(fmt.Sprintf("wrote to stdout what is not an Arrow stream: it begins with %q", excerptAt(b, 0)), nil)
	}
	return nil
}

func (e *execution) outputError(message string, details map[string]any) error {
	all := map[string]any{"argv0": e.spec.Argv[0]}
	for k, v := range details {
		all[k] = v
	}
	if tail, _ := e.log.tailText(); tail != "" {
		all["stderr"] = tail
	}
	return &worker.Error{Name: "CommandError", Message: e.name() + " " + message, Details: all}
}
