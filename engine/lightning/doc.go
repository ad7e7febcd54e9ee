// Package lightning is a worker of OpenFn Lightning: it claims runs over a
// websocket, has the engine run them, and tells what happens.
//
//	w, err := lightning.New(lightning.Options{Engine: eng, URL: url, Secret: secret})
//	err = w.Run() // until w.Retire or w.Stop
//
// # What it owns
//
// A [Worker] owns one socket (engine/uplink/phoenix), the workloops that claim,
// and a session for each claimed run. A session owns the run's channel, the
// engine's run, and an outbox: what the run has to tell, in order. The engine is
// the caller's.
//
// # Invariants
//
//   - Events of one run go out strictly one after another, the next when the
//     last was acknowledged. An event whose acknowledgement a lost connection
//     swallowed is sent again, with the same ids; none is sent again for another
//     reason.
//   - A run that was claimed is run, and its end is told, unless its channel is
//     gone or the worker is stopped at once.
//   - A dataclip is never in this process's memory as a whole, in either
//     direction, and never decoded.
//   - What waits to be told is bounded: at the bound the step waits.
//   - Values of credentials are in no log line, error message or figure; the
//     worker's secret and the runs' tokens are in none of its own logs.
//
// # Who calls it
//
// cmd/millrace serve.
package lightning
