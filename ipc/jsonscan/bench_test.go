package jsonscan

import (
	"encoding/json"
	"os"
	"testing"
)

func BenchmarkValidate(b *testing.B) {
	path := os.Getenv("JSONSCAN_DATA")
	if path == "" {
		b.Skip("JSONSCAN_DATA is not set")
	}
	doc, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("jsonscan", func(b *testing.B) {
		b.SetBytes(int64(len(doc)))
		for b.Loop() {
			if err := Validate(doc); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding-json", func(b *testing.B) {
		b.SetBytes(int64(len(doc)))
		for b.Loop() {
			if !json.Valid(doc) {
				b.Fatal("invalid")
			}
		}
	})
}
