// Package demand decides when a task, one execution of a step, may start. It is
// the only place in the engine where work waits for room.
//
//	slot, err := scheduler.Enter(ctx, demand.Request{Run: run, Stage: stage, Parent: caller})
//	defer slot.Leave()
//	…                     // acquire an executor, execute
//	slot.Published(bytes) // the result is in the ledger
//
// # Limits
//
// A task is admitted when all of its limits have room, and takes them in one
// go, so no task holds one limit while it waits for another:
//
//   - the host: how many tasks run at once ([Options.Slots]);
//   - its stage: how many of one step, over all runs and whoever called them
//     ([Scheduler.NewStage]);
//   - its run: how many tasks of one run ([Scheduler.NewRun]);
//   - memory: the bytes held now, and what tasks at work are still expected to
//     publish, and what this one is, stay within [Options.Memory].
//
// # Calls
//
// A task that calls a step does
//
//	caller.Block()                                         // for each call, before the callee enters
//	slot, err := s.Enter(ctx, Request{…, Parent: caller})  // the callee, and all steps of its branch
//	…; slot.Leave()
//	err = caller.Resume(ctx)                               // once for each Block, before the reply is delivered
//
// Block and Resume count. From the first Block to the last Resume the task is
// blocked: it has given back its places in the host and the run and keeps the
// one in its stage. It may still use the processor, with the replies that have
// come; nobody can know whether it awaits the others. The last Resume waits, before
// any new work, until the host and the run have room again. A Block in the
// meantime ends that wait: the task is blocked again.
//
// # A task that follows
//
// A task may be followed at once by one of another stage ([Slot.Ahead] before,
// [Slot.Pass] then), which takes over its places, so that whoever executes both
// need not ask in between. That is granted only where nobody is passed by it:
// while nothing waits, to stages without a limit, and with memory reserved.
//
// # Streams
//
// A task that has handed its state over and goes on to feed a stream of it calls
// [Slot.Feed]: it is blocked until it leaves. The task that reads the stream
// enters with the feeder among its Feeders: the feeder waits for it as a caller
// does. A reader cannot go on without its feeder either, so while the
// feeder waits for a call of its own the reader is blocked as well, without
// anybody's doing, and with it the readers of what it feeds.
//
// # Why nothing waits for ever
//
// The places of the host and of runs are held by running tasks only, and a
// running task ends, or blocks, by itself. The places of a stage are held by
// running and by blocked tasks. A blocked task waits for the tasks it called, so
// there is an arrow from its stage to each stage that it called. (A feeder waits
// for its reader, and a reader for what its feeder calls: arrows as well.) As long as a
// stage Y is on no circle of arrows, what waits for a blocked task of Y waits
// for something further along the arrows, and that path has an end: a task
// that waits for running ones only. When arrows close a circle (a step calls
// itself; A calls B and B calls A) a called task at any stage of it counts
// running holders only: a blocked caller lends its place. One that resumes
// waits until less than the limit are running. Arrows are entered before
// their task waits, and whenever one closes a circle the waiting are looked at
// again. Tasks that nobody called hold nothing while they wait, so they always
// count blocked holders too, and recursion cannot crowd a stage from outside.
//
// Memory has an escape: when no task runs, one is admitted whatever it takes.
// See memory.go for when.
//
// # Order
//
// Resumes come first. Then runs take turns; within a run the deepest call goes
// first, and among equals the one that waited longest.
//
// # Invariants
//
//   - No limit but memory is ever exceeded: host, run, and running tasks of a
//     stage; for a stage on no circle running and blocked ones together.
//   - After every method no task waits that could be admitted.
//   - A Slot leaves once, whoever says so how often.
//
// # Who calls it
//
// engine, for each attempt of a step and around each call; engine/ledger says
// when memory was freed. All methods are safe for concurrent use; one mutex
// guards it all.
package demand
