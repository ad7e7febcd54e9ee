package worker_test

import (
	"context"
	"testing"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/worker/internal/testhost"
)

// BenchmarkRoundTrip is execute, an empty function, done: from one process to
// another and back.
func BenchmarkRoundTrip(b *testing.B) {
	for _, c := range []struct {
		name  string
		state string
	}{
		{"empty", `{}`},
		{"five keys", `{"a":1,"b":2,"c":3,"d":4,"e":5}`},
	} {
		b.Run(c.name, func(b *testing.B) {
			h := start(b, testhost.Options{})
			state := h.World.State(c.state)
			m := h.call("empty")
			h.Must(m, state)
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				if _, err := h.Call(context.Background(), &ipc.Envelope{Message: &m, State: state}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
