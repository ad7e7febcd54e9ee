// Package subject puts millrace itself on the bench: the cases that are
// compared with the peers, the round trips of an empty step, and the figures
// that have no peer.
//
// A supervisor process of its own embeds the engine, as any host would, and
// nothing is done behind its back: plans are built in Go, runs are submitted,
// times are read from their events. The steps are Go workers, this binary once
// more, each step in a process of its own so that the topology is the peers'.
// A source step stands in for the state's former step: it writes the input into
// shared memory, before the clock starts, as the peers' supervisor holds its
// input in a buffer.
//
// Invariants: every run is a submitted run of its own; nothing is measured of a
// run that failed; every process ends when the one above it does.
//
// The harness calls it through [Cases], [PingCases] and [FigureCases]; a main
// that measures calls [Main] first.
package subject
