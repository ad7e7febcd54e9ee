// Package bench measures how a state travels through a chain of three step
// processes: over pipes, sockets and shared memory, with the same work in
// every step.
//
// It owns the seam between the harness and what is measured ([Case],
// [Session], [PingCase], [PingSession]), the schedule of the runs and the
// results. What a step computes is defined by the package workload, how
// processes are measured by measure, the baselines live in peer, and tables
// and plots in report. bench/README.md defines each measured quantity.
//
// Invariants: the timed passes do nothing but run; memory and allocations are
// taken in a pass of their own. Every case proves by an [workload.Outcome],
// before it is timed, that the payload really arrives. The cases of one size
// take turns, so a machine that drifts drifts for all of them.
package bench
