package ipc

import (
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Operations of futex(2), on words that processes share.
const (
	futexWaitBitset = 9
	futexWakeBitset = 10
)

// futexWait has the thread sleep while the word is value, until a wake for one
// of the bits or until so much time has passed. It may return for no reason.
func futexWait(word *atomic.Uint32, value, bits uint32, timeout time.Duration) {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return
	}
	until := unix.NsecToTimespec(now.Nano() + int64(max(0, timeout)))
	_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWaitBitset,
		uintptr(value), uintptr(unsafe.Pointer(&until)), 0, uintptr(bits))
}

// futexWake wakes all who wait for one of the bits. It does not wait itself, so
// the runtime need not hear of the call.
func futexWake(word *atomic.Uint32, bits uint32) {
	_, _, _ = unix.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWakeBitset,
		1<<30, 0, 0, uintptr(bits))
}
