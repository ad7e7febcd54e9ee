// Package workload defines what every benchmark case computes, so that the
// cases differ only in how a state travels.
//
// It owns the payload (a state document of real or generated records), the
// work of one step, the clock that stamps are taken from, and the outcome by
// which a case proves that the payload really arrived. It knows nothing about
// processes or transports; both the harness and the cases call it.
//
// Invariants: a payload is canonical JSON, that is, decoding it into a [State]
// and encoding it again gives the same bytes; its first record carries the
// mark, a decimal digit that every rewriting step raises by one, so a run of
// three steps has exactly one right result, byte for byte, in every case.
package workload
