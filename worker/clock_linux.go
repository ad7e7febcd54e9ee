package worker

import (
	"time"

	"golang.org/x/sys/unix"
)

// The runtime's monotonic clock is CLOCK_MONOTONIC, read without a system
// call, from an origin of its own; one reading of both gives the difference.
var clockStart, clockOrigin = func() (time.Time, uint64) {
	var ts unix.Timespec
	now := time.Now()
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic("worker: CLOCK_MONOTONIC: " + err.Error()) // every Linux has it
	}
	return now, uint64(ts.Nano())
}()

// monotonic returns CLOCK_MONOTONIC in nanoseconds.
func monotonic() uint64 { return clockOrigin + uint64(time.Since(clockStart)) }
