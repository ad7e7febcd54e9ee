// Package plan turns a workflow file (YAML or JSON) into the one validated
// form which the engine runs.
//
// It owns the file format: the published JSON Schema (workflow.schema.json,
// embedded here and really used to validate), the few rules that a schema
// cannot say (ids, targets, files on disk), and the errors, which name
// file, line, column and path, and quote the line. The format is a superset of
// OpenFn's execution plan; docs/workflow-format.md is its reference.
//
// # Invariants
//
//   - A Plan that Load, Parse or Validate returned without an error is
//     consistent: ids are unique, every edge joins two of its steps, every
//     start exists, a step has at most one kind of work, Step.Next holds
//     exactly the edges that can be taken, and Edge.Loop those of them that
//     lead back.
//   - Quantities are in Go's types: time.Duration, bytes as int64, argv as a
//     slice. Zero means "not given: the engine's default" for all of them.
//   - Configuration, State and Credentials are the JSON text of the file, key
//     order and number text kept; they are never decoded here.
//   - All problems of a file are reported together, in file order.
//
// # Callers
//
// The command line (run, validate) calls Load; an embedder calls Parse, or
// builds a Plan in Go and calls Validate. The engine reads the result and never
// changes it: a validated Plan may be shared by any number of goroutines.
//
// # Caveats
//
// The text of a workflow is untrusted as text: size, nesting, number of values
// and the expansion of YAML aliases are bounded, and nothing in it makes the
// parser panic. It is not untrusted as a program: a command step runs what it
// says. Parse with an empty dir reads no file at all, whatever the text names.
package plan
