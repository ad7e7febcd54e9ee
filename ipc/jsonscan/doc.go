// Package jsonscan reads JSON without building values: it validates documents,
// finds the top-level members of one, and answers questions about a piece of
// one, at memory speed and in bounded memory.
//
// # What it owns
//
// One state machine, fed with chunks cut anywhere, is behind everything:
//
//   - [Validator] checks bytes on their way out of the host;
//   - [Top] and [TopReader] turn a document into the rows of a state table;
//   - [Value] navigates: kind, member, element, length, keys, scalars;
//   - [AppendString] and [AppendKey] write what a row needs around it.
//
// # Invariants
//
// What it accepts is RFC 8259 in valid UTF-8, and nothing else: no byte order
// mark, no comment, no byte after the value but white space. Escaped lone
// surrogates are accepted, as JSON.parse accepts them; in a Go string they
// become U+FFFD, as encoding/json has it. A key that occurs twice keeps its
// first position and its last value, as in JSON.parse.
//
// Nesting is a stack of bits with a limit, never recursion; memory does not
// grow with the document, only with the number of members asked for. Every
// operation reads every byte at most once, so bytes that a hostile writer
// changes meanwhile are at worst seen as invalid JSON.
//
// # Who calls it
//
// engine/document and the uplink validate and split; engine/condition
// navigates; worker splits and navigates in its own mapping. It imports the
// standard library only.
//
// # Caveats
//
// Navigation checks what it passes, not the whole value: Index(0) of an array
// says nothing about element 1. A [Value] and what was derived from it share
// one window and are for one goroutine. Two reads of one place may differ when
// its writer is hostile.
package jsonscan
