// Package command runs any command as a step: the state is a JSON document on
// its standard input, what it writes to its standard output is the new state,
// and its standard error becomes log lines.
//
// # What it owns
//
// One command at a time, with all its descendants: they die with the step, and
// with this process. The files that stand for the command's input and output.
//
// # How bytes move
//
// The command's standard output is a memfd. When the command has ended it is
// sealed and becomes a segment as it is; its top-level keys are found by a scan
// that also validates it, and the new state's rows point into it. Nothing is
// copied (only outputs of less than a page's trouble are).
//
// A state that is, byte for byte, one document in one segment (the output of
// the command before, or the file that a run began with) is the command's
// standard input as it is: the same memory, opened read-only with an offset of
// its own. Every other state is written into a pipe from the mappings.
//
// # Streams
//
// The items of a stream can be the lines of the command's standard input, and
// the lines of its standard output the items of one; both are pipes then. What
// the shell's pipes do holds: a command that reads no more ends the step that
// makes its input, and one whose output nobody wants any more gets a SIGPIPE.
// Other than there, a step that fails ends the command at its other end, which
// would take the end of its input for all of it.
//
// # Caveats
//
// Standard output is a file, not a pipe: a command which opens /dev/stdout
// again with truncation loses what was written before, as it would after
// `> file` in a shell. The file is open for appending.
//
// The size of the output is watched, not enforced by the kernel: RLIMIT_FSIZE
// would bind every file that the command writes, its own on disk included. A
// command which outgrows the budget is killed within milliseconds.
//
// The process becomes the reaper of orphaned descendants, and kills whatever
// is left after each command: it must not have other children.
//
// # Who calls it
//
// The millrace command, in its executor process: [Main].
package command
