package subject

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/millrace/millrace/bench"
	"github.com/millrace/millrace/bench/child"
	"github.com/millrace/millrace/bench/workload"
	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/ipc"
)

const (
	roleChannel = "subject-channel"
	roleEngine  = "subject-engine"

	opPing = "ping" // pingArg -> []time.Duration
)

func init() {
	child.Register(roleChannel, pingChannel)
	child.Register(roleEngine, pingEngine)
}

type pingArg struct {
	N    int           `json:"n"`
	Idle time.Duration `json:"idle"`
}

// PingCases returns the round trips of an empty step: through the control
// channel alone, and as a whole run of the engine.
func PingCases() []bench.PingCase {
	return []bench.PingCase{
		pingCase{bench.Info{Name: "channel-ping", Title: "millrace, channel", Role: bench.Subject, Work: bench.Forward}, roleChannel},
		pingCase{bench.Info{Name: "run-ping", Title: "millrace, whole run", Role: bench.Subject, Work: bench.Forward}, roleEngine},
	}
}

type pingCase struct {
	info bench.Info
	role string
}

func (c pingCase) Info() bench.Info { return c.info }

func (c pingCase) StartPing(ctx context.Context) (bench.PingSession, error) {
	s, err := start(ctx, c.role, nil)
	if err != nil {
		return nil, err
	}
	return pingSession{s}, nil
}

type pingSession struct{ *session }

func (s pingSession) Ping(ctx context.Context, n int, idle time.Duration) (trips []time.Duration, err error) {
	err = s.supervisor.Call(ctx, opPing, pingArg{n, idle}, &trips)
	return trips, err
}

// servePings answers requests for round trips, each by one call of once.
func servePings(c *child.Control, pids func() []int, once func() error) error {
	return c.Serve(map[string]child.Handler{
		opPIDs: func(json.RawMessage) (any, error) { return pids(), nil },
		opPing: func(arg json.RawMessage) (any, error) {
			var a pingArg
			if err := json.Unmarshal(arg, &a); err != nil {
				return nil, err
			}
			trips := make([]time.Duration, a.N)
			for i := range trips {
				if a.Idle > 0 {
					time.Sleep(a.Idle)
				}
				begin := workload.Now()
				if err := once(); err != nil {
					return nil, fmt.Errorf("ping %d: %w", i, err)
				}
				trips[i] = time.Duration(workload.Now() - begin)
			}
			return trips, nil
		},
	})
}

// pingChannel is a supervisor without an engine: one worker, and an execute
// sent to it as the pool does.
func pingChannel(c *child.Control) error {
	conn, remote, err := ipc.Socketpair()
	if err != nil {
		return err
	}
	argv, err := workerArgv("1", new(workload.Payload))
	if err != nil {
		return err
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), ipc.FDVariable+"=3")
	cmd.ExtraFiles = []*os.File{remote}
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	err = cmd.Start()
	remote.Close()
	if err != nil {
		return err
	}
	channel := ipc.NewChannel(conn)
	peer, err := greet(channel)
	if err != nil {
		_ = channel.Close() // upon which the worker exits
		_ = cmd.Wait()      // the error above says more
		return err
	}
	defer func() {
		_ = peer.Close()
		_ = cmd.Wait() // it has nothing to spoil any more
	}()
	return servePings(c, func() []int { return []int{cmd.Process.Pid} }, func() error {
		e, err := peer.Call(context.Background(), &ipc.Envelope{
			Message: &ipc.Execute{Code: 1, Run: "bench", Step: "empty", Attempt: 1}, State: ipc.Table{Kind: ipc.KindObject},
		})
		if err != nil {
			return err
		}
		if _, ok := e.Message.(*ipc.Done); !ok {
			return fmt.Errorf("the empty step was answered by %+v", e.Message)
		}
		return nil
	})
}

func greet(channel *ipc.Channel) (*ipc.Peer, error) {
	if _, err := channel.Accept(ipc.Welcome{Executor: 1}, []string{ipc.CapabilityRing}, 10*time.Second); err != nil {
		return nil, err
	}
	peer := ipc.NewPeer(channel)
	go peer.Serve(func(e *ipc.Envelope) error { return fmt.Errorf("unexpected %s", e.Message.Type()) })
	return peer, peer.Send(&ipc.Envelope{Message: &ipc.Prepare{Code: 1, Kind: "function", Spec: `{"function":"` + fnEmpty + `"}`}})
}

// pingEngine is a supervisor that submits runs of one empty step.
func pingEngine(c *child.Control) error {
	p, err := chainPlan(new(workload.Payload), stage{"1", fnEmpty})
	if err != nil {
		return err
	}
	eng, err := engine.New(engine.Options{})
	if err != nil {
		return err
	}
	defer eng.Close()
	once := func() error {
		run, _, err := submit(context.Background(), eng, p, nil)
		if err != nil {
			return err
		}
		return run.Close()
	}
	if err := once(); err != nil { // so that the executor is up
		return err
	}
	return servePings(c, eng.ExecutorPIDs, once)
}
