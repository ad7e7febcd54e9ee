package command_test

import (
	"strings"
	"testing"

	"github.com/millrace/millrace/ipc"
)

// BenchmarkCommand is a whole step: start, state in, state out, end.
func BenchmarkCommand(b *testing.B) {
	for _, c := range []struct {
		name string
		spec spec
		size int
	}{
		{"true", spec{Argv: []string{"true"}, Stdout: "ignore"}, 10},
		{"cat 1 KB", spec{Argv: []string{"cat"}}, 1 << 10},
		{"cat 64 MB", spec{Argv: []string{"cat"}}, 64 << 20},
	} {
		b.Run(c.name, func(b *testing.B) {
			h := start(b)
			state := h.World.State(`{"text":"` + strings.Repeat("x", c.size) + `"}`)
			m := h.code(c.spec)
			b.SetBytes(int64(c.size))
			for b.Loop() {
				r := h.Must(m, state)
				h.Release(r.Done.Blocks...)
			}
		})
	}
	b.Run("pipe 64 MB", func(b *testing.B) {
		h := start(b)
		whole := h.World.State(`{"text":"` + strings.Repeat("x", 64<<20) + `","more":1}`)
		state := ipc.Table{Kind: ipc.KindObject, Rows: whole.Rows[:1]}
		m := h.code(spec{Argv: []string{"cat"}})
		b.SetBytes(64 << 20)
		for b.Loop() {
			r := h.Must(m, state)
			h.Release(r.Done.Blocks...)
		}
	})
}
