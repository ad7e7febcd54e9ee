// Package stream is the memory of a stream: a ring of records that one process
// writes, the producer, and another one reads in place, the consumer.
// PROTOCOL.md has the layout.
//
// # What it owns
//
// A [Writer] or a [Reader] owns its mapping of the ring, and the descriptor it
// was made from, which it closes. The memory itself is the supervisor's
// (shm.CreateStreamMemory). Messages are its user's to send: an end is given a
// function that wakes the other one, and says when it is to be woken itself.
//
// # Invariants
//
//   - A record lies in one piece, so that it is written and read where it is:
//     nothing is copied, and nothing is allocated for an item.
//   - The producer writes an item only while the consumer has asked for more
//     than it has written, and has room.
//   - Each end keeps its own counters privately and never reads them back. What
//     the other one stores is loaded once, checked and then used: a
//     [BreachError] ends the stream, never this process. Bytes of an item may
//     change while they are read; who cannot bear that copies them.
//   - No wake is lost: an end stores its counters, then looks whether the other
//     one sleeps; one that goes to sleep says so, then looks at the counters.
//
// # Who calls it
//
// worker, for its steps; the tests of whoever speaks to one.
package stream
