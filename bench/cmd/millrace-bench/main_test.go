package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/millrace/millrace/bench"
	"github.com/millrace/millrace/bench/child"
	"github.com/millrace/millrace/bench/subject"
)

func TestMain(m *testing.M) {
	child.Main()
	subject.Main()
	if os.Getenv("GORACE") == "" {
		// With the race detector every child would sleep a second at its end.
		os.Setenv("GORACE", "atexit_sleep_ms=0")
	}
	os.Exit(m.Run())
}

func TestFlagsMakeAConfig(t *testing.T) {
	o := options{quick: true, cases: "pipe-raw, unix-ping", dataFile: "missing"}
	cfg, err := o.config()
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Cases) != 1 || cfg.Cases[0].Info().Name != "pipe-raw" || len(cfg.Pings) != 1 {
		t.Errorf("cases %v, round trips %v", cfg.Cases, cfg.Pings)
	}
	if last := cfg.Sizes[len(cfg.Sizes)-1]; last != quickLargest {
		t.Errorf("the largest quick size is %d", last)
	}
	o = options{sizes: "1MB,300,1MB", dataFile: "missing"}
	if cfg, err = o.config(); err != nil || !slices.Equal(cfg.Sizes, []int{300, 1 << 20}) {
		t.Errorf("sizes %v, %v", cfg.Sizes, err)
	}
	all := allCases()
	if len(cfg.Cases) != len(all.cases) || len(cfg.Pings) != len(all.pings) || len(cfg.Figures) != len(all.figures) {
		t.Errorf("%d cases and %d round trips without -cases", len(cfg.Cases), len(cfg.Pings))
	}
	for _, bad := range []options{{cases: "nonesuch"}, {sizes: "big"}, {dataFile: t.TempDir()}} {
		if _, err := bad.config(); err == nil {
			t.Errorf("options %+v were accepted", bad)
		}
	}
}

func TestNamesAreUniqueAndTitlesFit(t *testing.T) {
	all := allCases()
	var infos []bench.Info
	for _, c := range all.cases {
		infos = append(infos, c.Info())
	}
	for _, p := range all.pings {
		infos = append(infos, p.Info())
	}
	seen := map[string]bool{}
	baselines := 0
	for i, info := range infos {
		if seen[info.Name] {
			t.Errorf("two cases are named %s", info.Name)
		}
		seen[info.Name] = true
		if n := len([]rune(info.Title)); n == 0 || n > 24 {
			t.Errorf("title %q has %d characters", info.Title, n)
		}
		if i < len(all.cases) && info.Role == bench.Baseline {
			baselines++
		}
	}
	if baselines != 1 {
		t.Errorf("%d baselines, want one", baselines)
	}
}

func TestABenchmarkWritesItsFiles(t *testing.T) {
	o := options{quick: true, sizes: "300", cases: "pipe-raw", dataFile: "missing", outDir: filepath.Join(t.TempDir(), "out")}
	cfg, err := o.config()
	if err != nil {
		t.Fatal(err)
	}
	if err := o.measure(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"results.json", "results.txt", "wall.svg", "handover.svg", "memory.svg"} {
		if _, err := os.Stat(filepath.Join(o.outDir, name)); err != nil {
			t.Error(err)
		}
	}
}
