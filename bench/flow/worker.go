package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/millrace/millrace/worker"
	"github.com/millrace/millrace/worker/source"
)

var functions = worker.Functions{
	"pages": pages, "late": late, "sum": sum,
	"caller": caller, "empty": empty, "last": empty,
	"feed bytes": feedBytes, "feed values": feedValues, "drain bytes": drainBytes, "drain values": drainValues,
	"build": build, "builder": builder, "snapshot": snapshot,
}

type flight struct {
	Date        string  `json:"date"`
	Delay       float64 `json:"delay"`
	Distance    float64 `json:"distance"`
	Origin      string  `json:"origin"`
	Destination string  `json:"destination"`
}

// total is what a page, and all of them, come to.
type total struct {
	Late  int     `json:"late"`
	Delay float64 `json:"delay"`
}

// pages reads records in pages, has two steps work on each page, and sums up.
// own is how long it was at work itself on each page, took all of it, in µs.
func pages(ctx context.Context, s *worker.State) error {
	o, err := worker.Get[struct {
		Path                     string `json:"path"`
		Pages, Page, Concurrency int
	}](s, "configuration")
	if err != nil {
		return err
	}
	r, err := source.Open(&source.Spec{Paths: []string{o.Path}, Batch: o.Page})
	if err != nil {
		return err
	}
	defer r.Close()
	var all total
	own, took := make([]float64, o.Pages), make([]float64, 0, o.Pages)
	last := time.Now()
	results := worker.EachOf(ctx, s, "late", read(r, own), worker.EachOptions{Concurrency: o.Concurrency, Until: worker.Leaf})
	for reply, err := range results {
		if err != nil {
			return err
		}
		begin := time.Now()
		one, err := worker.Get[total](reply.State(), "total")
		if err != nil {
			return err
		}
		all.Late += one.Late
		all.Delay += one.Delay
		now := time.Now()
		own[reply.Index()] += micros(now.Sub(begin))
		took = append(took, micros(now.Sub(last)))
		last = now
	}
	return errors.Join(s.Set("total", all), s.Set("own", own), s.Set("took", took))
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

// read yields the first pages of the file, as many as own has room for.
func read(r *source.Reader, own []float64) iter.Seq2[worker.Encoded, error] {
	return func(yield func(worker.Encoded, error) bool) {
		var page []byte
		for i := range own {
			begin := time.Now()
			var err error
			page, err = r.Next(page[:0])
			own[i] += micros(time.Since(begin))
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("the file has fewer than %d pages", len(own))
			}
			if !yield(worker.Encoded{Encoding: worker.JSON, Bytes: page, Checked: true}, err) || err != nil {
				return
			}
		}
	}
}

// late keeps the flights that came late.
func late(_ context.Context, s *worker.State) error {
	flights, err := worker.Get[[]flight](s, "data")
	if err != nil {
		return err
	}
	kept := flights[:0]
	for _, f := range flights {
		if f.Delay > 15 {
			kept = append(kept, f)
		}
	}
	return s.Set("data", kept)
}

// sum sums a page up.
func sum(_ context.Context, s *worker.State) error {
	flights, err := worker.Get[[]flight](s, "data")
	if err != nil {
		return err
	}
	var t total
	for _, f := range flights {
		t.Late++
		t.Delay += f.Delay
	}
	return errors.Join(s.Delete("data"), s.Set("total", t))
}

// caller calls a step that does nothing, one call after the other.
func caller(ctx context.Context, s *worker.State) error {
	o, err := worker.Get[struct{ Calls int }](s, "configuration")
	if err != nil {
		return err
	}
	took := make([]int64, o.Calls)
	for i := range took {
		t := time.Now()
		reply, err := worker.Call(ctx, "empty", nil, worker.CallOptions{})
		if err != nil {
			return err
		}
		if err := reply.Close(); err != nil {
			return err
		}
		took[i] = time.Since(t).Nanoseconds()
	}
	return s.Set("took", took)
}

func empty(context.Context, *worker.State) error { return nil }

type building struct {
	Builders, Snapshots, Concurrency, Bytes int
}

// build has all builders at work at once.
func build(ctx context.Context, s *worker.State) error {
	o, err := worker.Get[building](s, "configuration")
	if err != nil {
		return err
	}
	numbers := func(yield func(int) bool) {
		for i := range o.Builders {
			if !yield(i) {
				return
			}
		}
	}
	built := 0
	for reply, err := range worker.Each(ctx, s, "builder", numbers, worker.EachOptions{Concurrency: o.Builders}) {
		if err != nil {
			return err
		}
		n, err := worker.Get[int](reply.State(), "snapshots")
		if err != nil {
			return err
		}
		built += n
	}
	return s.Set("built", built)
}

// builder asks for snapshots, compresses each as it comes and lets it go.
func builder(ctx context.Context, s *worker.State) error {
	o, err := worker.Get[building](s, "configuration")
	if err != nil {
		return err
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return err
	}
	sizes := func(yield func(int) bool) {
		for range o.Snapshots {
			if !yield(o.Bytes) {
				return
			}
		}
	}
	n := 0
	var frame []byte
	for reply, err := range worker.Each(ctx, s, "snapshot", sizes, worker.EachOptions{Concurrency: o.Concurrency}) {
		if err != nil {
			return err
		}
		piece, err := reply.State().Raw("snapshot")
		if err != nil {
			return err
		}
		frame = encoder.EncodeAll(piece, frame[:0])
		if err := s.AppendRaw("archive", frame); err != nil {
			return err
		}
		n++
	}
	return errors.Join(s.Delete("archive"), s.Set("snapshots", n))
}

// snapshot makes as many bytes as it is asked for, and is done a little later,
// as what asks a database would be.
func snapshot(_ context.Context, s *worker.State) error {
	size, err := worker.Get[int](s, "data")
	if err != nil {
		return err
	}
	w, err := s.Create("snapshot", worker.Raw, int64(size))
	if err != nil {
		return err
	}
	rows := bytes.Repeat([]byte(`{"patient":"0c3f","visits":[1,2,3],"note":"stable"},`), 1000)
	for left := size; left > 0; left -= min(left, len(rows)) {
		if _, err := w.Write(rows[:min(left, len(rows))]); err != nil {
			return err
		}
	}
	time.Sleep(snapshotTakes)
	return errors.Join(w.Close(), s.Delete("data"))
}

const snapshotTakes = 20 * time.Millisecond
