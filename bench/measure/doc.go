// Package measure reads what a set of processes costs, from outside them: CPU
// time, memory, and order statistics over samples.
//
// Nothing here needs the measured processes' help, so every case is measured
// by the same ruler. The harness calls it.
//
// Caveat: summing memory walks the page tables of every process and holds
// their memory locks meanwhile; sample in a pass of its own, never in one that
// is timed.
package measure
