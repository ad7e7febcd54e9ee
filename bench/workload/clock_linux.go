package workload

import "golang.org/x/sys/unix"

// Now returns CLOCK_MONOTONIC in nanoseconds: one clock for all processes of
// the machine, so that stamps taken in two of them can be subtracted.
func Now() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic("workload: CLOCK_MONOTONIC: " + err.Error())
	}
	return ts.Nano()
}
