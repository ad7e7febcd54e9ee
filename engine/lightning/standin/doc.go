// Package standin is a small stand-in for OpenFn Lightning: it speaks the other
// side of the worker protocol, so that a worker can be watched, tested and
// measured without a server, a database or a network.
//
//	s, err := standin.New(standin.Options{})
//	defer s.Close()
//	id, err := s.Enqueue(standin.Run{Plan: plan, Dataclip: state})
//	// … a worker that was given s.URL() and s.Secret() claims it …
//	record, err := s.Wait(ctx, id)
//	for _, v := range s.Violations() { … }
//
// # What it owns
//
// A queue of runs, their plans, dataclips and credentials, and what a worker
// reported of each: steps, log lines, dataclips, the end. All of it is in memory
// and ends with Close.
//
// # Invariants
//
//   - Whatever a worker sends is checked: the type of every field, fields that
//     are missing or forbidden, the order of a run's events, one event at a time,
//     ids, JSON inside strings, sizes, timestamps, tokens. What is wrong is kept
//     as a [Violation] and answered with an error; the socket stays up.
//   - An event that comes again with the same content, first thing after a
//     reconnect, is dropped and counted, as Lightning drops it.
//   - A dataclip passes through a window of fixed size. With
//     [Options.CountOnly] none is kept, and memory does not grow with what is
//     received.
//
// # Faults
//
// [Options.Hook] sees every message before it is acted on and says what goes
// wrong with it: a lost, late, doubled or refused reply, a closed socket,
// garbage. [Server.Stall], [Server.CutAfter] and [Server.DropAll] act on the
// sockets themselves.
//
// # Who calls it
//
// `millrace lightning-dev`, the tests of the Lightning worker, and bench/uplink.
// It does not import the worker, so that the two cannot share a mistake.
package standin
