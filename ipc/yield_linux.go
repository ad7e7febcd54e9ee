package ipc

import "syscall"

// yieldCore lets another thread that waits for this core run: it may be the
// peer whose message is spun for. The call is raw because it must not hand the
// goroutine's processor over, which costs more than the wait.
func yieldCore() { _, _, _ = syscall.RawSyscall(syscall.SYS_SCHED_YIELD, 0, 0, 0) }
