// Package shm holds payloads in shared memory that is written once and then
// only referred to. It needs Linux 5.1 or newer, and nothing else of this
// project.
//
// # What it owns
//
// A [Segment] is a memfd. One process writes it, through the mapping that
// [Create] made; every other process holds a descriptor it was sent and reads.
// The writer's [Arena] cuts segments into blocks: a [BlockWriter] fills one
// straight in the mapping, Commit publishes it and returns a [Ref], and Free
// takes it back once the last reader is done. [Adopt] and [Import] make
// segments of bytes that came from elsewhere, without mapping them.
//
// Sending descriptors and counting references is not this package's: its
// callers are the executors' library (arena), and the supervisor, which keeps
// descriptors, reads by ReadAt, and says when a block is free.
//
// # Invariants
//
//   - A segment can neither shrink nor grow from its first instant, so touching
//     a mapping of it never faults because a peer truncated it.
//   - Before a descriptor leaves the process it is sealed: no one else can map
//     it writable or write it, not even by reopening it through /proc.
//   - [Open] trusts nothing: it refuses what is not a memfd, lacks a seal, or
//     has another size than announced. [Segment.Slice] refuses every reference
//     that is not wholly inside.
//   - No byte of the allocator's accounts is in shared memory. A peer can
//     corrupt nothing of it, and a wrong Free is refused.
//   - A segment has no name in a file system. When the last descriptor and
//     mapping go, by whatever end of the processes, the kernel takes the memory
//     back.
//
// # Reuse
//
// Making a page costs ten times what writing one does, so freed memory is used
// again before new memory is made, last freed first. Blocks shorter than
// ArenaOptions.LargeThreshold share segments; a longer one has a segment of
// its own, because a sealed segment cannot give back single pages. Freed large
// segments are kept up to ArenaOptions.RetainBytes. New pages are written by
// write(2) where that is possible: pass large pieces to Write rather than
// copying into Reserve when nothing was freed before. The measurements are in
// docs/decisions/0001-segments-and-fresh-pages.md.
//
// # Caveats
//
// A slice of a mapping is not memory of the Go runtime. It is valid until its
// segment is closed, and touching it later kills the process: no recover helps.
// Keep the Segment reachable and open for as long as any slice, string or
// Arrow array over it lives; copy what must live longer.
//
// A reader's slice is read-only memory. Writing to it kills the process.
//
// Published bytes are immutable by agreement, not by force: the one writer can
// still change them through its mapping, or reuse a block that was freed too
// early. A reader that does not trust the writer must copy first and then
// check the copy, never the mapping.
//
// A reference into the part of a sparse segment that was never written is
// within bounds. Reading it by ReadAt costs nothing; touching it in a mapping
// makes zero pages, as many as are touched.
//
// A segment that was once sent can be read by its receivers for as long as
// they keep it, and so can whatever is written into it later. Memory that held
// one tenant's blocks must be given up (Reset, then Trim) before the arena
// writes another's.
//
// Writing through a mapping when the machine or the memory cgroup is out of
// memory ends the process; write(2) returns an error instead. Bound an arena
// by SetLimit.
//
// Every large block takes a descriptor here and in each reader, and
// LargeSegmentSize of address space.
package shm
