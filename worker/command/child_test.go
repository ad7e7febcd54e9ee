package command_test

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// child is what the test binary does as a command.
func child(role string) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	switch role {
	case "stdin": // what standard input is, and what it says
		b, err := io.ReadAll(os.Stdin)
		if err != nil {
			return fail(err)
		}
		link, err := os.Readlink("/proc/self/fd/0")
		if err != nil {
			return fail(err)
		}
		kind := "other"
		switch {
		case strings.HasPrefix(link, "/memfd:"):
			kind = "memfd"
			// It is read-only, whichever way it is opened.
			if f, err := os.OpenFile("/proc/self/fd/0", os.O_RDWR, 0); err == nil {
				if _, err := f.WriteAt([]byte("X"), 0); err == nil {
					return fail(fmt.Errorf("standard input can be written"))
				}
			}
		case strings.HasPrefix(link, "pipe:"):
			kind = "pipe"
		case link == os.DevNull:
			kind = "null"
		}
		fmt.Printf(`{"kind":%q,"text":%q}`, kind, b)
	case "state_fd":
		n, err := strconv.Atoi(os.Getenv("MILLRACE_STATE_FD"))
		if err != nil {
			return fail(err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(n, &st); err != nil {
			return fail(err)
		}
		b, err := unix.Mmap(n, 0, int(st.Size), unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			return fail(err)
		}
		seals, err := unix.FcntlInt(uintptr(n), unix.F_GET_SEALS, 0)
		if err != nil {
			return fail(err)
		}
		rest, err := io.ReadAll(os.Stdin)
		if err != nil {
			return fail(err)
		}
		fmt.Printf(`{"text":%q,"stdin":%q,"sealed":%t}`, b, rest, seals&unix.F_SEAL_SHRINK != 0)
	case "group": // the process group, and the parent
		fmt.Printf(`{"group":%d,"parent":%d,"control":%q}`, syscall.Getpgrp(), os.Getppid(), os.Getenv("MILLRACE_CONTROL_FD"))
	case "stream": // more and more
		page := []byte(strings.Repeat("x", 1<<20))
		for {
			if _, err := os.Stdout.Write(page); err != nil {
				return fail(err)
			}
		}
	case "sparse":
		if err := os.Stdout.Truncate(1 << 40); err != nil {
			return fail(err)
		}
	}
	return 0
}

func self(role string) spec { return spec{Argv: []string{"/proc/self/exe", "child", role}} }
