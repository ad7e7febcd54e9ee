package ipc

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"time"
)

// Version is the protocol version of this package; it speaks no other.
const Version = 1

// FDVariable is the environment variable in which an executor finds the number
// of its control channel's descriptor.
const FDVariable = "MILLRACE_CONTROL_FD"

// Accept is the supervisor's half of the handshake: it waits for the hello,
// chooses the version and answers with the welcome, whose Version,
// Capabilities and RingSize it fills in. grant lists the capabilities to be
// used if announced. On an error the channel is of no use; the caller closes
// it.
func (c *Channel) Accept(welcome Welcome, grant []string, timeout time.Duration) (*Hello, error) {
	hello, err := expect[*Hello](c, timeout)
	if err != nil {
		return nil, fmt.Errorf("ipc: waiting for hello: %w", err)
	}
	m := hello.Message.(*Hello)
	if m.MinVersion > Version || m.MaxVersion < Version {
		err := &VersionError{PeerMin: m.MinVersion, PeerMax: m.MaxVersion, Min: Version, Max: Version}
		_ = c.Send(&Envelope{Message: &Fail{Severity: SeverityException, Name: "VersionError", Message: err.Error()}})
		return nil, err
	}
	welcome.Version = Version
	welcome.Capabilities = nil
	for _, capability := range m.Capabilities {
		if slices.Contains(grant, capability) && !slices.Contains(welcome.Capabilities, capability) {
			welcome.Capabilities = append(welcome.Capabilities, capability)
		}
	}
	if !slices.Contains(welcome.Capabilities, CapabilityRing) {
		return m, c.Send(&Envelope{Message: &welcome})
	}
	r, f, err := createRing(DefaultRingSize)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	welcome.RingSize = DefaultRingSize
	if err := c.Send(&Envelope{Message: &welcome, File: f}); err != nil {
		return nil, errors.Join(err, r.unmap())
	}
	return m, c.useRing(r)
}

// Greet is the executor's half of the handshake.
func (c *Channel) Greet(hello Hello, timeout time.Duration) (*Welcome, error) {
	hello.MinVersion, hello.MaxVersion = Version, Version
	hello.PID = uint32(os.Getpid())
	if err := c.Send(&Envelope{Message: &hello}); err != nil {
		return nil, err
	}
	e, err := expect[*Welcome](c, timeout)
	if err != nil {
		return nil, fmt.Errorf("ipc: waiting for welcome: %w", err)
	}
	m := e.Message.(*Welcome)
	if err := c.welcomed(m, e.File, hello.Capabilities); err != nil {
		return nil, err
	}
	return m, nil
}

// welcomed checks a welcome and puts the ring that came with it to use. It
// takes f, which may be nil.
func (c *Channel) welcomed(m *Welcome, f *os.File, announced []string) error {
	if f != nil {
		defer f.Close()
	}
	if m.Version != Version {
		return &VersionError{PeerMin: m.Version, PeerMax: m.Version, Min: Version, Max: Version}
	}
	for _, capability := range m.Capabilities {
		if !slices.Contains(announced, capability) {
			return protocolErrorf("welcome grants %q, which was not announced", capability)
		}
	}
	granted := slices.Contains(m.Capabilities, CapabilityRing)
	switch {
	case granted && f == nil:
		return protocolErrorf("welcome grants the ring and brings no descriptor")
	case !granted && f != nil:
		return protocolErrorf("welcome brings a descriptor and does not grant the ring")
	case !granted:
		return nil
	}
	r, err := openRing(f, int(m.RingSize))
	if err != nil {
		return err
	}
	return c.useRing(r)
}

// expect receives one message that must be a T. A Fail in its place is the
// peer's refusal.
func expect[T Message](c *Channel, timeout time.Duration) (*Envelope, error) {
	if timeout > 0 {
		if err := c.SetReceiveDeadline(time.Now().Add(timeout)); err != nil {
			return nil, err
		}
		defer c.SetReceiveDeadline(time.Time{})
	}
	e, err := c.Receive()
	if err != nil {
		return nil, err
	}
	switch m := e.Message.(type) {
	case T:
		return e, nil
	case *Fail:
		return nil, fmt.Errorf("refused: %s: %s", m.Name, m.Message)
	}
	if e.File != nil {
		e.File.Close()
	}
	return nil, protocolErrorf("%s came first", e.Message.Type())
}

// FromEnvironment opens the control channel that a supervisor left for this
// process, and clears the variable so that its own children do not mistake it
// for theirs.
func FromEnvironment() (*net.UnixConn, error) {
	value, ok := os.LookupEnv(FDVariable)
	if !ok {
		return nil, fmt.Errorf("ipc: %s is not set: an executor is started by a millrace supervisor, not by hand; name it as a step's worker in a workflow file and use `millrace run`", FDVariable)
	}
	fd, err := strconv.Atoi(value)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("ipc: %s=%q is not a descriptor's number", FDVariable, value)
	}
	if err := os.Unsetenv(FDVariable); err != nil {
		return nil, err
	}
	return FileConn(os.NewFile(uintptr(fd), "millrace-control"))
}
