package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/millrace/millrace/worker"
)

// spec is a step's command as it comes with the prepare message.
type spec struct {
	Argv    []string          `json:"argv"`
	Env     map[string]string `json:"env"`
	Cwd     string            `json:"cwd"`
	Stdin   input             `json:"stdin"`
	Stdout  output            `json:"stdout"`
	StateFD bool              `json:"state_fd"`
}

// input is what the command reads: "state", "none", {"key": K} or
// {"stream": K}.
type input struct {
	none   bool
	key    string
	byKey  bool
	stream bool // the items of key
}

// output is what becomes of what it writes: "state", "ignore",
// {"key": K, "encoding": E} or {"stream": K, "encoding": E}.
type output struct {
	ignore   bool
	key      string
	byKey    bool
	stream   bool // its lines are the items of key
	encoding worker.Encoding
}

func parseSpec(text string) (*spec, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	s := new(spec)
	if err := d.Decode(s); err != nil {
		return nil, err
	}
	if len(s.Argv) == 0 || s.Argv[0] == "" {
		return nil, errors.New("it names no program")
	}
	for _, arg := range s.Argv {
		if strings.IndexByte(arg, 0) >= 0 {
			return nil, fmt.Errorf("argument %q has a NUL byte", arg)
		}
	}
	for name, value := range s.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.IndexByte(value, 0) >= 0 {
			return nil, fmt.Errorf("environment variable %q cannot be set", name)
		}
	}
	return s, nil
}

func (in *input) UnmarshalJSON(b []byte) error {
	var o struct {
		Key    *string `json:"key"`
		Stream *string `json:"stream"`
	}
	switch word, err := wordOrObject(b, &o); {
	case err != nil:
		return fmt.Errorf("stdin: %w", err)
	case word == "state" || word == "" && o.Key == nil && isNull(b):
	case word == "none":
		in.none = true
	case o.Key != nil && o.Stream == nil:
		in.key, in.byKey = *o.Key, true
	case o.Stream != nil && o.Key == nil:
		in.key, in.stream = *o.Stream, true
	default:
		return fmt.Errorf(`stdin: %s is neither "state" nor "none" nor {"key": …} nor {"stream": …}`, b)
	}
	return nil
}

func (out *output) UnmarshalJSON(b []byte) error {
	var o struct {
		Key      *string `json:"key"`
		Stream   *string `json:"stream"`
		Encoding string  `json:"encoding"`
	}
	switch word, err := wordOrObject(b, &o); {
	case err != nil:
		return fmt.Errorf("stdout: %w", err)
	case word == "state" || word == "" && o.Key == nil && isNull(b):
	case word == "ignore":
		out.ignore = true
	case o.Key != nil && o.Stream == nil:
		out.key, out.byKey = *o.Key, true
		return out.setEncoding(o.Encoding)
	case o.Stream != nil && o.Key == nil:
		out.key, out.stream = *o.Stream, true
		if err := out.setEncoding(o.Encoding); err != nil {
			return err
		}
		if out.encoding == worker.ArrowStream {
			return errors.New("stdout: the items of a stream are lines, which are json or raw")
		}
	default:
		return fmt.Errorf(`stdout: %s is neither "state" nor "ignore" nor {"key": …} nor {"stream": …}`, b)
	}
	return nil
}

func (out *output) setEncoding(name string) error {
	switch name {
	case "", "json":
		out.encoding = worker.JSON
	case "arrow", "arrow-stream":
		out.encoding = worker.ArrowStream
	case "raw":
		out.encoding = worker.Raw
	default:
		return fmt.Errorf("stdout: unknown encoding %q (use json, arrow or raw)", name)
	}
	return nil
}

func isNull(b []byte) bool { return bytes.Equal(b, []byte("null")) }

// wordOrObject decodes a string, or an object into o.
func wordOrObject(b []byte, o any) (string, error) {
	if len(b) > 0 && b[0] == '"' {
		var word string
		err := json.Unmarshal(b, &word)
		return word, err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return "", d.Decode(o)
}
