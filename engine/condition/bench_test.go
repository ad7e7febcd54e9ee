package condition

import (
	"context"
	"testing"
)

func BenchmarkEval(b *testing.B) {
	state := stateOf(b, sample)
	for _, expr := range []string{
		`always`, `!state.errors`, `on_job_success`, `state.list.length > 0`, `state.data.items[3].name === 'x'`,
		`Object.keys(state).length > 0`, `state.list.map(x => x + 1).includes(3)`,
		`JSON.stringify(state.list).length > 0`,
	} {
		c := compileFor(b, expr)
		b.Run(expr, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Eval(context.Background(), state, Upstream{StepID: "a"}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
