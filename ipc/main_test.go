package ipc

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// roleVariable makes the test binary act as the other process of a test.
const roleVariable = "MILLRACE_IPC_TEST_ROLE"

// roles are what the child may be; each returns its exit status' reason.
var roles = map[string]func() error{}

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		if err := roles[role](); err != nil {
			fmt.Fprintln(os.Stderr, role+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// startRole runs this binary again as the role, with the other end of the
// returned channel. When the test ends it must exit by itself, without error.
func startRole(t testing.TB, role string, env ...string) *Channel {
	t.Helper()
	conn, remote, err := Socketpair()
	if err != nil {
		t.Fatal(err)
	}
	defer remote.Close()
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	cmd.Env = append(append(os.Environ(), env...), roleVariable+"="+role, FDVariable+"=3")
	cmd.ExtraFiles = []*os.File{remote}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		conn.Close()
		t.Fatal(err)
	}
	c := NewChannel(conn)
	t.Cleanup(func() {
		c.Close()
		timer := time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() })
		defer timer.Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", role, err)
		}
	})
	return c
}

// childChannel is the child's end.
func childChannel() (*Channel, error) {
	conn, err := FromEnvironment()
	if err != nil {
		return nil, err
	}
	return NewChannel(conn), nil
}
