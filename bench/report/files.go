package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/millrace/millrace/bench"
)

// Files writes results.json, results.txt and the plots into dir, which is made
// if need be.
func Files(dir string, r *bench.Result) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("folder for the results: %w", err)
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the results: %w", err)
	}
	var table bytes.Buffer
	if err := Table(&table, r); err != nil {
		return err
	}
	files := map[string][]byte{"results.json": append(text, '\n'), "results.txt": table.Bytes()}
	for _, p := range Plots(r) {
		files[p.Name] = p.SVG
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return fmt.Errorf("write the results: %w", err)
		}
	}
	return nil
}
