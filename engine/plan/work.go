package plan

// Kind names what a step does.
type Kind string

// The kinds of work. The values are the keys of the file format.
const (
	KindNone       Kind = ""
	KindExpression Kind = "expression"
	KindCommand    Kind = "command"
	KindWorker     Kind = "worker"
	KindPython     Kind = "python"
	KindSource     Kind = "source"
)

// Kinds lists every kind of work, in the order in which they are documented.
var Kinds = []Kind{KindExpression, KindCommand, KindWorker, KindPython, KindSource}

// Kind returns what the step does. For a step with several kinds of work, which
// Validate refuses, it is the first of Kinds.
func (s *Step) Kind() Kind {
	if all := s.kinds(); len(all) > 0 {
		return all[0]
	}
	return KindNone
}

func (s *Step) kinds() []Kind {
	var all []Kind
	for _, k := range Kinds {
		if (k == KindExpression && s.Expression != nil) || (k == KindCommand && s.Command != nil) ||
			(k == KindWorker && s.Worker != nil) || (k == KindPython && s.Python != nil) ||
			(k == KindSource && s.Files != nil) {
			all = append(all, k)
		}
	}
	return all
}

// Source is JavaScript source text.
type Source struct {
	// Text is the source, already read from Path when there is one.
	Text string
	// Path is the absolute file that the text came from, or empty.
	Path string
}

// Expression is an OpenFn job expression.
type Expression struct {
	Source
	// Adaptors are npm specifiers, as "@openfn/language-http@6.5.0".
	Adaptors []string
	// Linker maps a module's name to where it is loaded from; it goes before
	// Adaptors. Usually nil.
	Linker map[string]Module
}

// Module says where an adaptor is loaded from.
type Module struct {
	// Path is an absolute folder or file, or empty.
	Path string
	// Version in the adaptor repository, or empty.
	Version string
}

// Command runs any program as a step.
type Command struct {
	// Argv is the program and its arguments. A program named with a relative
	// path was made absolute; a bare name is to be looked up in PATH.
	Argv   []string
	Stdin  Stdin
	Stdout Stdout
	// StateFD asks for the state as a file descriptor which the program can
	// map, its number in MILLRACE_STATE_FD.
	StateFD bool
	// Env is added to the executor's environment, sorted by name.
	Env []EnvVar
	// Dir is the absolute working directory: the workflow file's folder unless
	// the step says otherwise. Empty when the plan has no folder: the engine's.
	Dir string
}

// EnvVar is one environment variable.
type EnvVar struct{ Name, Value string }

// Channel says what a command's standard stream carries.
type Channel string

// What standard input or output carries.
const (
	// ChannelState is the whole state as one JSON document, the default.
	ChannelState Channel = "state"
	// ChannelNone is an empty input, or an output that is thrown away.
	ChannelNone Channel = "none"
	// ChannelKey is the value of a single top-level key.
	ChannelKey Channel = "key"
	// ChannelStream is the items of the stream under a top-level key, one a line.
	ChannelStream Channel = "stream"
)

// Stdin says what a command reads. The zero value is the whole state.
type Stdin struct {
	From Channel
	// Key is set exactly with ChannelKey and ChannelStream.
	Key string
}

// Stdout says what a command's output becomes. The zero value is the new state.
type Stdout struct {
	To Channel
	// Key is set exactly with ChannelKey and ChannelStream.
	Key string
	// Encoding of the key's value, or of each line; Validate makes it EncodingJSON by default.
	Encoding Encoding
}

// Encoding of the bytes that a command writes.
type Encoding string

// The encodings of a block.
const (
	EncodingJSON  Encoding = "json"
	EncodingArrow Encoding = "arrow"
	EncodingRaw   Encoding = "raw"
)

// Worker calls a function of a program built with millrace's worker library.
type Worker struct {
	// Argv as in Command.
	Argv []string
	// Function is the name under which the program registered it.
	Function string
}

// DefaultPythonFunction is called when a Python step names no function.
const DefaultPythonFunction = "step"

// Python calls a function of a Python file.
type Python struct {
	// Path is absolute, unless the plan was made in Go.
	Path string
	// Function defaults to DefaultPythonFunction; Validate sets it.
	Function string
}

// Files reads records from files and hands them on as a stream of batches.
type Files struct {
	// Paths are absolute files, folders and patterns, as path/filepath's Match.
	Paths []string
	// Format is ndjson, csv, parquet, arrow or files; empty: by the files' endings.
	Format string
	// Batch is how many records make an item of the stream; 0: the default.
	Batch int
	// Key of the state that holds the stream; empty: batches.
	Key string
	// Encoding of an item: json (a JSON array of objects), arrow, or empty for
	// json.
	Encoding string
	// SkipBad passes over records that cannot be read.
	SkipBad bool
	// Delimiter, Columns and Text are for CSV: one character instead of a comma,
	// the columns' names of a file without a header line, and fields left text.
	Delimiter string
	Columns   []string
	Text      bool
}
