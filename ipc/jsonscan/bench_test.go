package jsonscan

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"testing"
)

// benchmarkDocument is the file that JSONSCAN_DATA names, or made-up records.
func benchmarkDocument(b *testing.B) []byte {
	if path := os.Getenv("JSONSCAN_DATA"); path != "" {
		doc, err := os.ReadFile(path)
		if err != nil {
			b.Fatal(err)
		}
		return doc
	}
	doc := []byte(`{"data":[`)
	for i := range 50_000 {
		doc = fmt.Appendf(doc, `{"id":%d,"name":"patient %d","weight":%d.5,"visits":[{"on":"2024-01-%02d","clinic":"north"}],"active":%v},`,
			i, i*7919, 40+i%60, 1+i%28, i%3 == 0)
	}
	doc[len(doc)-1] = ']'
	return append(doc, '}')
}

func BenchmarkValidate(b *testing.B) {
	doc := benchmarkDocument(b)
	for _, c := range []struct {
		name string
		run  func() error
	}{
		{"jsonscan", func() error { return Validate(doc) }},
		{"jsonscan in chunks of 256 KiB", func() error {
			var v Validator
			for rest := doc; len(rest) > 0; {
				n := min(len(rest), DefaultWindow)
				if err := v.Feed(rest[:n]); err != nil {
					return err
				}
				rest = rest[n:]
			}
			return v.Finish()
		}},
		{"encoding/json", func() error {
			if !json.Valid(doc) {
				return ErrEmpty
			}
			return nil
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(doc)))
			for b.Loop() {
				if err := c.run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkTop(b *testing.B) {
	doc := benchmarkDocument(b)
	b.Run("memory", func(b *testing.B) {
		b.SetBytes(int64(len(doc)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Top(doc, Options{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("reader", func(b *testing.B) {
		b.SetBytes(int64(len(doc)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := TopReader(bytes.NewReader(doc), Options{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkLen(b *testing.B) {
	doc := benchmarkDocument(b)
	value := Of(doc, Options{})
	if member, ok, err := value.Member("data"); err == nil && ok {
		value = member
	}
	if kind, err := value.Kind(); err != nil || kind != Array {
		b.Skip("no array at the top or in data")
	}
	b.SetBytes(int64(len(doc)))
	for b.Loop() {
		if _, err := value.Len(); err != nil {
			b.Fatal(err)
		}
	}
}
