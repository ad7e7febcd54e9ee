package ipc

import (
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/millrace/millrace/shm"
)

// The round trip of an execute with a small table and its done, each handled in
// a goroutine other than the reader's as supervisor and executor do, against
// the same between two bare sockets. The figures to read are p50-ns; ns/op of
// the idle ones includes the pause. An inline executor runs the step in the
// goroutine that received it; an unhelped one leaves receiving to Serve.

const idlePause = 2 * time.Millisecond

func init() {
	roles["bare-echo"] = func() error {
		conn, err := FromEnvironment()
		if err != nil {
			return err
		}
		b := make([]byte, 64)
		for {
			if _, err := io.ReadFull(conn, b); err != nil {
				return ignoreEnd(err)
			}
			if _, err := conn.Write(b); err != nil {
				return ignoreEnd(err)
			}
		}
	}
	roles["executor"] = func() error { return echoSteps(true) }
	roles["executor-unhelped"] = func() error { return echoSteps(false) }
	roles["executor-inline"] = func() error {
		c, err := greetedChild()
		for err == nil {
			var e *Envelope
			if e, err = c.Receive(); err == nil {
				err = c.Send(echoed(e))
			}
		}
		return ignoreEnd(err)
	}
}

// echoSteps answers each execute with its own table, from a goroutine of its
// own.
func echoSteps(help bool) error {
	c, err := greetedChild()
	if err != nil {
		return err
	}
	p := NewPeer(c)
	work := make(chan *Envelope, 1)
	go func() {
		for {
			if help {
				p.Help(func() bool { return len(work) > 0 })
			}
			e, ok := <-work
			if !ok || p.Send(echoed(e)) != nil {
				return
			}
		}
	}()
	defer close(work)
	return ignoreEnd(p.Serve(func(e *Envelope) error { work <- e; return nil }))
}

func greetedChild() (*Channel, error) {
	c, err := childChannel()
	if err != nil {
		return nil, err
	}
	_, err = c.Greet(Hello{Language: "go", Capabilities: []string{CapabilityRing}}, 5*time.Second)
	return c, err
}

func echoed(e *Envelope) *Envelope {
	blocks := []shm.Block{{Segment: 1<<32 | 1, Offset: 64, Length: 100}}
	return &Envelope{ID: e.ID, Message: &Done{Blocks: blocks}, State: e.State}
}

func ignoreEnd(err error) error {
	if errors.Is(err, ErrHangUp) || errors.Is(err, ErrClosed) || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func smallTable() Table {
	return Table{Kind: KindObject, Rows: []Row{
		{Key: "data", Spans: []shm.Ref{{Segment: 1<<32 | 1, Offset: 64, Length: 100, Encoding: shm.JSON}}},
		{Key: "references", Spans: []shm.Ref{{Segment: 1<<32 | 1, Offset: 192, Length: 2, Encoding: shm.JSON}}},
	}}
}

func BenchmarkRoundTrip(b *testing.B) {
	b.Run("bare/busy", func(b *testing.B) { benchmarkBare(b, 0) })
	b.Run("bare/idle", func(b *testing.B) { benchmarkBare(b, idlePause) })
	ring := []string{CapabilityRing}
	b.Run("socket/busy", func(b *testing.B) { benchmarkChannel(b, "executor", nil, 0) })
	b.Run("socket/idle", func(b *testing.B) { benchmarkChannel(b, "executor", nil, idlePause) })
	b.Run("ring/busy", func(b *testing.B) { benchmarkChannel(b, "executor", ring, 0) })
	b.Run("ring/idle", func(b *testing.B) { benchmarkChannel(b, "executor", ring, idlePause) })
	b.Run("ring-inline/busy", func(b *testing.B) { benchmarkChannel(b, "executor-inline", ring, 0) })
	b.Run("ring-inline/idle", func(b *testing.B) { benchmarkChannel(b, "executor-inline", ring, idlePause) })
	b.Run("ring-unhelped/busy", func(b *testing.B) { benchmarkChannel(b, "executor-unhelped", ring, 0) })
}

func benchmarkBare(b *testing.B, pause time.Duration) {
	conn := startRole(b, "bare-echo").socket.conn
	msg := make([]byte, 64)
	measure(b, pause, func() error {
		if _, err := conn.Write(msg); err != nil {
			return err
		}
		_, err := io.ReadFull(conn, msg)
		return err
	})
}

func benchmarkChannel(b *testing.B, role string, grant []string, pause time.Duration) {
	c := startRole(b, role)
	if _, err := c.Accept(Welcome{Executor: 1}, grant, 5*time.Second); err != nil {
		b.Fatal(err)
	}
	p := NewPeer(c)
	go p.Serve(func(*Envelope) error { return nil })
	defer func() { p.Close(); <-p.Done() }()
	table := smallTable()
	measure(b, pause, func() error {
		e, err := p.Call(b.Context(), &Envelope{Message: &Execute{Code: 1, Run: "run", Step: "step", Attempt: 1}, State: table})
		if err == nil && len(e.State.Rows) != 2 {
			err = errors.New("wrong reply")
		}
		return err
	})
}

func measure(b *testing.B, pause time.Duration, once func() error) {
	for range 200 {
		if err := once(); err != nil {
			b.Fatal(err)
		}
	}
	took := make([]time.Duration, 0, 1<<20)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if pause > 0 {
			time.Sleep(pause)
		}
		start := time.Now()
		if err := once(); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2]), "p50-ns")
	b.ReportMetric(float64(took[len(took)*9/10]), "p90-ns")
}
