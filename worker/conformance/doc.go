// Package conformance tests executors of any language from outside: it starts
// a program as a supervisor would, drives it through the control channel, and
// checks what it answers, what it writes and what it does to its process.
//
// # What it owns
//
// A list of cases. Each starts fresh processes of the program under test, hands
// them states in segments of its own, and judges. Nothing that the program
// sends is believed: segments are opened as the engine's ledger opens them,
// blocks and references are checked against what was attached and published,
// and every written value is read back and validated.
//
// # Behaviours
//
// A case needs steps whose outcome it knows. They have agreed names
// ([Behaviours]), and how the program gets them is its kind's affair
// ([Kind]): a worker program registers functions of these names; executors
// of JavaScript, Python and commands are sent their code. Where a step calls
// another, the case plays that one: it sees the call and answers it as it likes.
// These cases are skipped for programs that do not announce calls.
//
// # Invariants
//
//   - A case ends within Options.Timeout, whatever the program does, and leaves
//     no process behind.
//   - Cases do not depend on one another.
//   - A case passes only if the program also kept every rule of the protocol
//     meanwhile.
//
// # Who calls it
//
// `millrace conformance`, and the tests of the executors in this repository. It
// shares no code with the supervisor beyond the packages ipc and shm.
//
// # Caveats
//
// It needs /proc. Time limits are generous but finite: on a machine that is
// busy beyond reason, a correct program may fail.
package conformance
