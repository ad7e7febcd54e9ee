package child

import (
	"fmt"
	"os"
	"strconv"
)

// subcommand marks a process as a child; it is followed by the role and by
// how many data files are inherited.
const subcommand = "__bench-child"

// The descriptors that a child inherits, in exec's order.
const (
	controlFD   = 3
	firstDataFD = 4
)

// Role is what a child does: it runs until its control channel closes.
type Role func(c *Control) error

var roles = map[string]Role{}

// Register makes a role known under a name that is unique in the binary. It is
// to be called from init functions.
func Register(name string, role Role) {
	if _, ok := roles[name]; ok {
		panic("child: role " + name + " is registered twice")
	}
	roles[name] = role
}

// Main plays the role that the command line asks for and exits; in a process
// that is no child it returns at once.
func Main() {
	if len(os.Args) != 4 || os.Args[1] != subcommand {
		return
	}
	if err := play(os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintf(os.Stderr, "millrace-bench: child %s: %v\n", os.Args[2], err)
		os.Exit(1)
	}
	os.Exit(0)
}

func play(name, count string) error {
	role, ok := roles[name]
	if !ok {
		return fmt.Errorf("unknown role")
	}
	n, err := strconv.Atoi(count)
	if err != nil {
		return fmt.Errorf("count of inherited files: %w", err)
	}
	c, err := inherit(n)
	if err != nil {
		return err
	}
	return role(c)
}
