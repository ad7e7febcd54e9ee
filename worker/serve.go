package worker

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/millrace/millrace/ipc"
)

// handshakeTimeout is how long the supervisor may take to answer the hello.
const handshakeTimeout = 30 * time.Second

// Runner makes steps of one or more kinds.
type Runner interface {
	// Prepare turns the code of a step into what executes it. spec is a JSON
	// object whose members kind defines. It is called once for each code, by
	// one goroutine at a time, maybe while a step runs. An error fails each
	// execution.
	Prepare(kind, spec string) (Function, error)
}

// Options say who the executor is.
type Options struct {
	// Language names the library: "go", "command", …
	Language string
	// Release is the program's version, for logs; "" is unknown.
	Release string
	// Functions that the runner has, for Hello.
	Functions []string
	// Capabilities beyond the ring and ahead, which are always announced.
	Capabilities []string
	// Runner runs the steps.
	Runner Runner
}

// Serve runs an executor on conn, which it takes over, until the supervisor
// hangs up or asks for a shutdown (nil), or the channel fails. A step that is
// running when the supervisor hangs up is left running: the process is to exit.
func Serve(conn *net.UnixConn, options Options) error {
	channel := ipc.NewChannel(conn)
	capabilities := []string{ipc.CapabilityRing, ipc.CapabilityAhead}
	for _, c := range options.Capabilities {
		if !slices.Contains(capabilities, c) {
			capabilities = append(capabilities, c)
		}
	}
	welcome, err := channel.Greet(ipc.Hello{
		Language:     options.Language,
		Release:      options.Release,
		Capabilities: capabilities,
		Functions:    options.Functions,
	}, handshakeTimeout)
	if err != nil {
		return errors.Join(err, channel.Close())
	}
	x := newExecutor(channel, welcome, options)
	go x.prefault(welcome.PrefaultBytes)
	go x.lead()
	err = <-x.ended
	_ = x.peer.Stop(err) // whatever closing says, the channel is of no more use
	if x.running.Load() == 0 {
		err = errors.Join(err, x.close())
	}
	switch {
	case err == nil, errors.Is(err, ipc.ErrHangUp), errors.Is(err, ipc.ErrClosed), errors.Is(err, errShutdown):
		return nil
	}
	return fmt.Errorf("worker: %w", err)
}
