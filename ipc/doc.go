// Package ipc is the control channel between a supervisor and an executor:
// framed messages, descriptor passing, the shared ring, and the state tables
// that messages carry. PROTOCOL.md beside this file is the same thing for
// somebody who writes an executor in another language; testdata/vectors.json
// holds the bytes that every implementation is tested against.
//
// # What it owns
//
// A [Channel] owns one end of a Unix stream socketpair and, where both sides
// have agreed to it, a pair of rings in shared memory. It turns messages into
// frames and back. It never sees a byte of payload: a [Table] holds references
// into segments (package shm), and the hard limit on the size of a frame
// ([MaxFrameSize]) keeps it so.
//
// A [Peer] adds request ids on top of a Channel: calls that wait for their
// reply, replies in any order, cancellation by context.
//
// # Waiting
//
// With a ring, whoever waits for a message spins for it for a bounded time, as
// long as messages have lately come soon after one another, and then sleeps on
// a word in the ring's memory, where the peer wakes it by futex. Spinning costs
// at most one core of those this process has, less one; a side that sleeps costs
// a thread. A goroutine that waits for a reply takes messages from the ring
// itself, and sleeps for them itself ([Peer.Help]): being handed one by another
// goroutine would cost more than the message. For the same reason it can be given
// the work that a message brings ([Request.WaitOr]).
//
// # Trust
//
// The two sides do not trust each other. Every length that a peer supplied is
// loaded once, compared with its limit and with the bytes really there, and
// only then used; a violation is a [ProtocolError], after which the channel is
// closed. A peer can at worst end its own channel. Counters in the ring's memory
// are published there and never read back by the side that owns them.
//
// # Caveats
//
// A frame's bytes are copied before they are parsed; no [Envelope] refers to a
// buffer or the ring. A peer that does not read makes Send wait
// ([Channel.SetWriteTimeout]), and everything behind that Send with it.
//
// # Who calls it
//
// engine/pool on the supervisor's side, worker on the executor's.
package ipc
