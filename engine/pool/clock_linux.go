package pool

import "golang.org/x/sys/unix"

// monotonic returns CLOCK_MONOTONIC in nanoseconds, the clock that executors
// stamp their steps with; it is the same in all processes of a host.
func monotonic() uint64 {
	var t unix.Timespec
	// It cannot fail: the clock exists and the pointer is good.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return uint64(t.Nano())
}
