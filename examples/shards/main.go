// Command shards is an example worker: it rebuilds the shards of an archive
// that are stale, as GenStage's own example does. One step finds the stale
// shards and calls a builder for each; a builder calls a step for each snapshot
// that its shard needs, compresses each snapshot as it comes, and joins the
// pieces. See examples/shards.yaml for the limits.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/klauspost/compress/zstd"

	"github.com/millrace/millrace/worker"
)

// Flight is one record of the archive; the rest of it is passed on as it is.
type Flight struct {
	Origin string `json:"origin"`
}

// Shard is what a builder is to build: the flights from some airports.
type Shard struct {
	ID       string   `json:"id"`
	Airports []string `json:"airports"`
}

// Built says what became of a shard.
type Built struct {
	Shard      string `json:"shard"`
	Snapshots  int    `json:"snapshots"`
	Bytes      int    `json:"bytes"`
	Compressed int    `json:"compressed"`
}

func main() {
	worker.Main(worker.Functions{"stale": stale, "build": build, "snapshot": snapshot})
}

// stale finds the shards, one for each first letter of an airport, and has each
// built. If configuration.folder is set, the shards are written there.
func stale(ctx context.Context, s *worker.State) error {
	var configuration struct {
		Folder string `json:"folder"`
	}
	if s.Has("configuration") {
		if err := s.Decode("configuration", &configuration); err != nil {
			return err
		}
	}
	flights, err := worker.Get[[]Flight](s, "data")
	if err != nil {
		return err
	}
	airports := make(map[string][]string)
	for _, f := range flights {
		id := f.Origin[:min(1, len(f.Origin))]
		if !slices.Contains(airports[id], f.Origin) {
			airports[id] = append(airports[id], f.Origin)
		}
	}
	shards := func(yield func(Shard) bool) {
		for _, id := range slices.Sorted(maps.Keys(airports)) {
			if !yield(Shard{id, airports[id]}) {
				return
			}
		}
	}
	// Each builder gets the records by reference: they are in memory once.
	with := s.New()
	if err := with.SetFrom("flights", s, "data"); err != nil {
		return err
	}
	var built []Built
	for reply, err := range worker.Each(ctx, s, "build", shards, worker.EachOptions{Key: "shard", With: with}) {
		if err != nil {
			return err
		}
		b, err := worker.Get[Built](reply.State(), "built")
		if err != nil {
			return err
		}
		built = append(built, b)
		if configuration.Folder != "" {
			archive, err := reply.State().Raw("archive")
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(configuration.Folder, b.Shard+".json.zst"), archive, 0o644); err != nil {
				return err
			}
		}
	}
	slices.SortFunc(built, func(a, b Built) int { return cmp.Compare(a.Shard, b.Shard) })
	if err := s.Delete("data"); err != nil {
		return err
	}
	return s.Set("built", built)
}

// build makes one shard. It holds one snapshot at a time, and the compressed
// rest: the frames of zstd that it appends are one archive together.
func build(ctx context.Context, s *worker.State) error {
	shard, err := worker.Get[Shard](s, "shard")
	if err != nil {
		return err
	}
	with := s.New()
	if err := with.SetFrom("flights", s, "flights"); err != nil {
		return err
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	built := Built{Shard: shard.ID}
	var frame []byte
	for reply, err := range worker.Each(ctx, s, "snapshot", slices.Values(shard.Airports), worker.EachOptions{Key: "airport", With: with}) {
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
		built.Snapshots++
		built.Bytes += len(piece)
		built.Compressed += len(frame)
	}
	for _, key := range []string{"shard", "flights"} {
		if err := s.Delete(key); err != nil {
			return err
		}
	}
	return s.Set("built", built)
}

// snapshot picks one airport's flights.
func snapshot(_ context.Context, s *worker.State) error {
	airport, err := worker.Get[string](s, "airport")
	if err != nil {
		return err
	}
	flights, err := worker.Get[[]json.RawMessage](s, "flights")
	if err != nil {
		return err
	}
	mark, err := json.Marshal(airport)
	if err != nil {
		return err
	}
	mark = append([]byte(`"origin":`), mark...)
	kept := slices.DeleteFunc(flights, func(f json.RawMessage) bool { return !bytes.Contains(f, mark) })
	if err := s.Clear(); err != nil {
		return err
	}
	return s.Set("snapshot", kept)
}
