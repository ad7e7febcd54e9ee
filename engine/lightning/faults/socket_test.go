package faults

import (
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/millrace/millrace/engine/lightning"
	"github.com/millrace/millrace/engine/lightning/standin"
	"github.com/millrace/millrace/engine/uplink/phoenix"
)

func (r *rig) wantWhole(record *standin.RunRecord) {
	r.t.Helper()
	r.wantCounted(record, 9)
	r.wantEvents(record, threeSteps)
	for _, job := range []string{"a", "b", "c"} {
		if s := state(r.t, record, job, 0); !strings.Contains(s, `some text\"\n, and more of it: ä`) || len(s) < 500_000 {
			r.t.Errorf("output of %s: %d bytes", job, len(s))
		}
	}
	if record.Final == nil || string(record.Final.Text) != state(r.t, record, "c", 0) {
		r.t.Error("the final state is not the last step's")
	}
}

func TestNothingGoesWrong(t *testing.T) {
	for name, o := range map[string]standin.Options{
		"binary dataclips":  {},
		"byte arrays":       {DataclipBytes: true},
		"older replies":     {LegacyReplies: true},
		"deflate":           {Compression: websocket.CompressionContextTakeover},
		"deflate, no state": {Compression: websocket.CompressionNoContextTakeover},
		"no heartbeats":     {IgnoreHeartbeats: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, o, func(o *lightning.Options) {
				o.Socket.Compress = true
				o.Socket.Heartbeat, o.Socket.HeartbeatTolerance = 20*time.Millisecond, -1
			})
			r.wantWhole(r.run(line(nil, counting...)))
			if w := r.Wire(); (w.Deflated > 0) != strings.Contains(name, "deflate") || w.Sockets != 1 {
				t.Errorf("wire: %+v", w)
			}
		})
	}
}

func TestTheServerCloses(t *testing.T) {
	drop, after := standin.Action{Drop: true}, standin.Action{DropAfter: true}
	for name, hook := range map[string]func(standin.Push) standin.Action{
		"before a claim":             once("claim", 1, drop),
		"during a claim":             once("claim", 2, after),
		"before a run is joined":     once("phx_join", 2, drop),
		"after a run is joined":      once("phx_join", 2, after),
		"before the plan":            once("fetch:plan", 1, drop),
		"after the plan":             once("fetch:plan", 1, after),
		"before the dataclip":        once("fetch:dataclip", 1, drop),
		"after the dataclip":         once("fetch:dataclip", 1, after),
		"before the run's start":     once("run:start", 1, drop),
		"after the run's start":      once("run:start", 1, after),
		"before a step's start":      once("step:start", 2, drop),
		"after a step's start":       once("step:start", 2, after),
		"before a line":              once("run:log", 5, drop),
		"after a line":               once("run:log", 5, after),
		"before an upload is judged": once("step:complete", 2, drop),
		"after an upload":            once("step:complete", 2, after),
		"before the run's end":       once("run:complete", 1, drop),
		"after the run's end":        once("run:complete", 1, after),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, standin.Options{Hook: hook}, nil)
			r.wantWhole(r.run(line(nil, counting...)))
			r.until("the fault", func() bool { return r.Wire().Sockets > 1 })
		})
	}
}

func TestTheServerClosesWithinAMessage(t *testing.T) {
	for _, compress := range []bool{false, true} {
		for _, at := range []int64{1, 1000, 100_000} {
			t.Run(fmt.Sprintf("compress=%t, at %d", compress, at), func(t *testing.T) {
				var o standin.Options
				if compress {
					o.Compression = websocket.CompressionContextTakeover
					at = min(at, 100) // a deflated message is small
				}
				r := newRig(t, o, func(o *lightning.Options) { o.Socket.Compress = compress })
				r.until("the queue is joined", func() bool { return r.Count("claim") > 0 })
				r.CutAfter(at)
				r.wantWhole(r.run(line(nil, counting...)))
				r.until("the fault", func() bool { return r.Wire().Sockets > 1 })
			})
		}
	}
}

func TestTenReconnectsInOneRun(t *testing.T) {
	events := new(atomic.Int32)
	r := newRig(t, standin.Options{Hook: func(p standin.Push) standin.Action {
		if !strings.HasPrefix(p.Topic, "run:") || p.Event == "phx_leave" {
			return standin.Action{}
		}
		n := events.Add(1)
		return standin.Action{Drop: n%6 == 0, DropAfter: n%6 == 3}
	}}, nil)
	var bodies []string
	for i := range 10 {
		bodies = append(bodies, fmt.Sprintf("for (let i = 0; i < 5; i++) console.log(%d + i); state.n = %d", i*5, i))
	}
	record := r.run(line(nil, bodies...))
	r.wantCounted(record, 50)
	if n := r.Wire().Sockets; n < 11 {
		t.Errorf("only %d sockets", n)
	}
	if record.Duplicates == 0 {
		t.Error("no event came twice: its acknowledgement was never lost")
	}
	if len(record.Steps) != 10 {
		t.Errorf("%d steps", len(record.Steps))
	}
}

func TestASocketIsRefused(t *testing.T) {
	var tries atomic.Int32
	r := newRig(t, standin.Options{Refuse: func(*http.Request) bool { return tries.Add(1) < 4 }}, nil)
	r.wantWhole(r.run(line(nil, counting...)))
}

func TestHeartbeatsUnanswered(t *testing.T) {
	r := newRig(t, standin.Options{IgnoreHeartbeats: true}, func(o *lightning.Options) { o.Socket.Heartbeat = 30 * time.Millisecond })
	r.until("the worker reconnects", func() bool { return r.Wire().Sockets > 2 })
}

// TestTheServerStallsReading: what a step logs waits for the server, and not in
// this process's memory.
func TestTheServerStallsReading(t *testing.T) {
	const lines = 40_000
	r := newRig(t, standin.Options{CountOnly: true}, func(o *lightning.Options) {
		o.BatchLogs, o.MessageTimeout = true, time.Minute
		o.Socket.Heartbeat = -1
	})
	id := r.enqueue(line(nil, fmt.Sprintf(`for (let i = 0; i < %d; i++) console.log(i, 'x'.repeat(500))`, lines)))
	r.until("lines arrive", func() bool {
		record, err := r.Run(id)
		return err == nil && record.LogLines > 100
	})
	r.Stall(true)
	before := heap()
	time.Sleep(1500 * time.Millisecond)
	if grown := int64(heap()) - int64(before); grown > 24<<20 {
		t.Errorf("the heap grew by %d MB while the server did not read", grown>>20)
	}
	record, err := r.Run(id)
	if err != nil || len(record.Steps) != 1 || !record.Steps[0].Open() {
		t.Errorf("the step is not held up: %+v %v", record, err)
	}
	r.Stall(false)
	if record = r.finish(id); record.Reason != "success" || record.LogLines < lines {
		t.Errorf("%s, %d lines of %d", record.Reason, record.LogLines, lines)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestFramings(t *testing.T) {
	for _, framing := range []phoenix.Framing{phoenix.Fragmented, phoenix.Whole} {
		r := newRig(t, standin.Options{}, func(o *lightning.Options) { o.Socket.Framing = framing })
		r.wantWhole(r.run(line(nil, counting...)))
		if n := r.Wire().Fragments; (n > 0) != (framing == phoenix.Fragmented) {
			t.Errorf("framing %d: %d fragments", framing, n)
		}
	}
}
