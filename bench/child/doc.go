// Package child runs parts of a benchmark in processes of their own, by
// executing the benchmark's own binary again.
//
// It owns the hidden subcommand, the registry of roles that a child can play,
// and the control channel between a parent and its child: a Unix socket with
// one JSON request or reply a line. Measured payloads never travel on it.
//
// Invariants: a child exits when its control channel closes, so a parent that
// dies, however it dies, leaves no process behind. Requests on one channel are
// answered one at a time, in order.
//
// Every binary that starts children, test binaries included, must call [Main]
// before anything else. Roles are registered from init functions.
package child
