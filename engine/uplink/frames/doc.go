// Package frames sends what happens in runs, states included, to something
// other than a Phoenix server: as length-prefixed frames to a socket, or as
// lines of JSON to a file or standard output.
//
// # What it owns
//
// A [Sink] takes the engine's events. [Open] makes one of an address:
//
//	unix:PATH or tcp:HOST:PORT   frames; docs/uplink.md has their layout
//	ndjson:PATH, PATH or -       newline-delimited JSON, for people
//
// [Reader] reads frames, as an example of how little it takes and for tests;
// [Print] shows them.
//
// # Invariants
//
// A frame's payload goes from a step's segment to the socket inside the kernel
// (sendfile): no byte of it is copied into this process, let alone looked at.
// So it is not validated either, and what a step publishes as JSON need not be
// JSON. But nothing that a step writes is in the frame's header or its meta:
// the lengths there were fixed before the payload is sent, from references
// that the ledger has checked, so no step can forge the frame around its bytes
// or the one after.
//
// In lines of JSON each value is validated on its way; one that is not JSON is
// cut off, completed, and reported in a field after it.
//
// Memory does not depend on the size of a state.
//
// # Who calls it
//
// cmd. It is meant to be called from RunOptions.Observe, where events are in
// order and their states are valid: a slow receiver then slows the run.
package frames
