// Package document turns documents into tables of references and back, on the
// host's side: a file or stream becomes a segment and a table over it, and a
// table becomes a document on a writer. Neither direction builds a value or
// maps a page: bytes pass through buffers of a fixed size, whatever the length
// of the state.
//
// Going out, each byte of an untrusted writer is copied once into the buffer,
// validated there as part of exactly one JSON value, and written from there.
// A writer that put something else into its memory, or changes it meanwhile,
// ends the document with an error; it cannot reach what is around its value.
//
// # Who calls it
//
// engine, for inputs and results; cmd through it.
package document
