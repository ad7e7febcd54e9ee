package engine

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/engine/pool"
)

// monotonic returns CLOCK_MONOTONIC in nanoseconds, the clock of the stamps
// that executors send.
func monotonic() uint64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // it cannot fail
	return uint64(t.Nano())
}

// ownPeak returns the largest resident size this process ever had, in bytes.
func ownPeak() uint64 { return pool.HighWater(os.Getpid()) }
