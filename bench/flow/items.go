package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/worker"
)

// itemSize is that of a small item as JSON, in bytes.
const itemSize = 1 << 10

// item is one of 1 KB as JSON.
type item struct {
	Number int    `json:"number"`
	Origin string `json:"origin"`
	Note   string `json:"note"`
}

func newItem(n int) item {
	it := item{Number: n, Origin: "SEA"}
	b, err := json.Marshal(it)
	if err != nil {
		panic(err) // a number and two texts
	}
	it.Note = strings.Repeat("x", itemSize-len(b))
	return it
}

func encoded(n, size int) []byte {
	b, err := json.Marshal(newItem(n))
	if err != nil {
		panic(err) // a number and two texts
	}
	if size > len(b) {
		b = append(b[:len(b)-2], bytes.Repeat([]byte("x"), size-len(b))...)
		b = append(b, `"}`...)
	}
	return b
}

// feedBytes streams items that were encoded before.
func feedBytes(ctx context.Context, s *worker.State) error {
	o, err := worker.Get[struct{ Items, Size int }](s, "configuration")
	if err != nil {
		return err
	}
	b := encoded(1, o.Size)
	w, err := s.Stream(ctx, "items", worker.StreamOptions{})
	for i := 0; i < o.Items && err == nil; i++ {
		err = w.Write(b)
	}
	return err
}

// feedValues encodes each item.
func feedValues(ctx context.Context, s *worker.State) error {
	o, err := worker.Get[struct{ Items, Size int }](s, "configuration")
	if err != nil {
		return err
	}
	it := newItem(1)
	w, err := s.Stream(ctx, "items", worker.StreamOptions{})
	for i := 0; i < o.Items && err == nil; i++ {
		it.Number = i
		err = w.Encode(&it)
	}
	return err
}

// drainBytes reads items without decoding them.
func drainBytes(ctx context.Context, s *worker.State) error {
	r, err := s.OpenStream(ctx, "items")
	if err != nil {
		return err
	}
	var c clock
	for e, err := range r.All() {
		if err != nil {
			return err
		}
		c.seen(e.Bytes)
	}
	return c.report(s)
}

// drainValues decodes each item.
func drainValues(ctx context.Context, s *worker.State) error {
	r, err := s.OpenStream(ctx, "items")
	if err != nil {
		return err
	}
	var c clock
	for _, err := range worker.Items[item](r) {
		if err != nil {
			return err
		}
		c.count()
	}
	return c.report(s)
}

// clock counts items and takes the time from the first to the last.
type clock struct {
	items int
	first time.Time
}

// seen counts an item, and looks at both of its ends.
func (c *clock) seen(b []byte) {
	if b[0] == '{' && b[len(b)-1] == '}' {
		c.count()
	}
}

func (c *clock) count() {
	if c.items == 0 {
		c.first = time.Now()
	}
	c.items++
}

func (c *clock) drained() drained {
	return drained{Items: c.items, Took: time.Since(c.first).Nanoseconds()}
}

func (c *clock) report(s *worker.State) error {
	d := c.drained()
	return errors.Join(s.Set("items", d.Items), s.Set("took", d.Took))
}

// pipeEnd is an end of a pipe with lines of JSON.
func pipeEnd(does, what, count string) error {
	items, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	if does == "feed" {
		return feedPipe(what, items)
	}
	var c clock
	if what == "bytes" {
		err = drainLines(&c)
	} else {
		err = drainDecoded(&c)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(c.drained())
}

func feedPipe(what string, items int) error {
	w := bufio.NewWriterSize(os.Stdout, 64<<10)
	if what == "bytes" {
		line := append(encoded(1, itemSize), '\n')
		for range items {
			if _, err := w.Write(line); err != nil {
				return err
			}
		}
		return w.Flush()
	}
	enc, it := json.NewEncoder(w), newItem(1)
	for i := range items {
		it.Number = i
		if err := enc.Encode(&it); err != nil {
			return err
		}
	}
	return w.Flush()
}

func drainLines(c *clock) error {
	r := bufio.NewReaderSize(os.Stdin, 64<<10)
	for {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		c.seen(line[:len(line)-1])
	}
}

func drainDecoded(c *clock) error {
	dec := json.NewDecoder(bufio.NewReaderSize(os.Stdin, 64<<10))
	for {
		var it item
		err := dec.Decode(&it)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("item %d: %w", c.items, err)
		}
		c.count()
	}
}
