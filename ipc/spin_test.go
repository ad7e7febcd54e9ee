package ipc

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func emptyLane() *lane {
	l, _ := lanes(make([]byte, ringMemorySize(minRingSize)), minRingSize)
	return &l
}

func TestSpinnerLearns(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	l := emptyLane()
	var s Spinner
	s.Wait(l.available)
	s.since = s.since.Add(time.Hour) // so that it came at once, however long this thread waits
	s.Slept()
	if s.budget != maxSpin {
		t.Fatalf("budget %v after a message that came at once", s.budget)
	}
	for range 4 {
		s.since = time.Now().Add(-time.Second) // a long sleep
		s.Slept()
	}
	if s.budget != 0 {
		t.Fatalf("budget %v after messages that came late", s.budget)
	}
	if spinners.Load() != 0 {
		t.Errorf("%d spin", spinners.Load())
	}
}

func TestSpinnerSeesWhatComes(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("one core: nobody spins")
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	l := emptyLane()
	s := Spinner{budget: patience}
	time.AfterFunc(time.Millisecond, func() { l.written.Store(24) })
	within(t, "wait", func() {
		if !s.Wait(l.available) {
			t.Error("saw nothing")
		}
	})
}

// On one core, and when as many spin already as there are others to leave a
// core to, nobody spins.
func TestNobodySpinsAlone(t *testing.T) {
	for name, prepare := range map[string]func(){
		"one processor":  func() { runtime.GOMAXPROCS(1) },
		"others spin":    func() { spinners.Add(int32(runtime.NumCPU())) },
		"nothing to win": func() {},
	} {
		t.Run(name, func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
			defer spinners.Store(0)
			prepare()
			before := spinners.Load()
			s := Spinner{budget: patience}
			if name == "nothing to win" {
				s.budget = 0
			}
			start := time.Now()
			if s.Wait(emptyLane().available) {
				t.Error("saw something in an empty lane")
			}
			if took := time.Since(start); took > patience/2 {
				t.Errorf("spun for %v", took)
			}
			if spinners.Load() != before {
				t.Error("miscounted the spinners")
			}
		})
	}
}

// A channel that nobody uses costs nothing: both its readers sleep.
func TestIdleCostsNothing(t *testing.T) {
	noLeaks(t)
	a, b := channelPair(t, []string{CapabilityRing})
	p := NewPeer(a)
	go p.Serve(noMessages)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			e, err := b.Receive()
			if err != nil {
				return
			}
			b.Send(&Envelope{ID: e.ID, Message: &Pong{}})
		}
	}()
	for range 1000 { // in full swing
		if _, err := p.Call(t.Context(), &Envelope{Message: &Ping{}}); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(20 * time.Millisecond)
	before := processorTime(t)
	time.Sleep(200 * time.Millisecond)
	if used := processorTime(t) - before; used > 20*time.Millisecond {
		t.Errorf("used %v of a core in 200 ms of nothing", used)
	}
	if spinners.Load() != 0 {
		t.Errorf("%d spin", spinners.Load())
	}
	p.Close()
	<-p.Done()
	<-ended
}

func processorTime(t *testing.T) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
