// Package ledger is the supervisor's only reference table: which segments
// there are, which blocks were published in them, and how many rows of live
// states refer to each block.
//
// # What it owns
//
// The descriptors of all segments that executors handed over, and of those the
// supervisor made itself. A block is entered when a step that wrote it is done,
// counted once for each row that refers into it, and given back to its writer
// when the count reaches zero. Nothing of this is in shared memory, so a
// crashed or hostile writer has nothing to corrupt.
//
// # Invariants
//
//   - A reference is good only inside one block that was published in the
//     account (the run) which uses it. Segments of other runs are out of reach.
//   - Blocks of a segment do not overlap and lie within it.
//   - A block stays readable until its count is zero, whether its writer lives
//     or not.
//   - The bytes of an account's blocks never pass its budget.
//   - What was let go counts as held until every process has closed it
//     ([Ledger.Held]).
//
// Whatever an executor sends is checked here before anything is entered;
// a breach is a [RefError], and nothing of that message is kept.
//
// # Who calls it
//
// engine/pool registers executors and hands segments to them; engine enters
// results and holds tables; engine/document and engine/condition read rows
// through [Value]. All methods are safe for concurrent use.
package ledger
