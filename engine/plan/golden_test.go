package plan

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the expected messages in testdata")

// checkParens stands for the engine's condition compiler.
func checkParens(expr string) error {
	if strings.Count(expr, "(") != strings.Count(expr, ")") || strings.HasSuffix(expr, ">") {
		return errors.New("SyntaxError: unexpected end of input")
	}
	return nil
}

// Every file of testdata/invalid is refused with exactly the messages beside it.
func TestMessages(t *testing.T) {
	files, err := filepath.Glob("testdata/invalid/*")
	if err != nil {
		t.Fatal(err)
	}
	tested := 0
	for _, file := range files {
		if filepath.Ext(file) == ".txt" {
			continue
		}
		tested++
		t.Run(filepath.Base(file), func(t *testing.T) {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Parse(filepath.Base(file), src, "testdata", Options{CheckCondition: checkParens})
			var invalid *InvalidError
			if !errors.As(err, &invalid) {
				t.Fatalf("got %v, want an *InvalidError", err)
			}
			got := invalid.Error() + "\n"
			golden := file + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
	if tested < 30 {
		t.Fatalf("only %d files were tested", tested)
	}
}
