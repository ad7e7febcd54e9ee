// Package pool owns the executor processes: it spawns them, shakes hands,
// keeps them warm, hands steps to them one at a time, watches their health and
// memory, and makes sure that one which is to go is gone with all its
// descendants.
//
// # Invariants
//
//   - An executor runs one step at a time, and belongs to one tenant from its
//     first step on. One whose spec does not allow reuse serves one run.
//   - An executor leads its own process group. When it dies, is killed or the
//     pool closes, the group and every descendant that can still be found is
//     killed before the executor is reaped, so no id can have been reused.
//   - When this process dies, each executor does: it gets SIGKILL from the
//     kernel, and its control channel hangs up.
//   - An executor that breaks the protocol is killed and never heard again.
//
// # Who calls it
//
// engine, for each execution of a step. All methods are safe for concurrent
// use.
package pool
