package differential

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"testing"
)

// defaultCases are enough to meet every operation, and quick enough for each
// change.
const defaultCases = 500

func TestSame(t *testing.T) {
	n := defaultCases
	if s := os.Getenv("MILLRACE_DIFFERENTIAL_CASES"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil || n < 1 {
			t.Fatalf("MILLRACE_DIFFERENTIAL_CASES=%q is not a number of cases", s)
		}
	}
	nodePackages(t, ".")
	nodePackages(t, workerFolder)
	flows := make([]flow, n)
	for i := range flows {
		flows[i] = newFlow(uint64(i))
	}
	want := onReference(t, flows, nil)
	eng := newEngine(t, "")
	for i, f := range flows {
		t.Run(fmt.Sprintf("seed=%d", f.Seed), func(t *testing.T) {
			t.Parallel()
			got := onMillrace(t, eng, f)
			for _, p := range compare(f, want[i], got) {
				t.Error(p)
			}
			if t.Failed() {
				b, _ := json.MarshalIndent(f, "", "  ")
				t.Logf("the case:\n%s", unescape(string(b)))
			}
		})
	}
}
