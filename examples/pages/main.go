// Command pages is an example worker: it reads a stream of batches of flight
// records, which another step still produces, and has each batch worked on by a
// step of its own. Nowhere are all records at once. See
// examples/flights-pages.yaml.
package main

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/millrace/millrace/worker"
)

// Flight is one record: the arrival delay in minutes and the distance in miles.
type Flight struct {
	Delay    float64 `json:"delay"`
	Distance float64 `json:"distance"`
}

// Delays are those of all flights of about the same distance.
type Delays struct {
	Miles   int     `json:"miles"` // from so many
	Flights int     `json:"flights"`
	Minutes float64 `json:"minutes"` // all together
}

func main() { worker.Main(worker.Functions{"pages": pages, "page": page}) }

// pages asks for batches as they are worked on: the file is read no faster.
func pages(ctx context.Context, s *worker.State) error {
	batches, err := s.OpenStream(ctx, "batches")
	if err != nil {
		return err
	}
	all := make(map[int]Delays)
	for reply, err := range worker.EachStream(ctx, s, "page", batches, worker.EachOptions{}) {
		if err != nil {
			return err
		}
		delays, err := worker.Get[[]Delays](reply.State(), "delays")
		if err != nil {
			return err
		}
		for _, d := range delays {
			all[d.Miles] = d.plus(all[d.Miles])
		}
	}
	return s.Set("delays", sorted(all))
}

// page works on one batch.
func page(_ context.Context, s *worker.State) error {
	flights, err := worker.Get[[]Flight](s, "data")
	if err != nil {
		return err
	}
	groups := make(map[int]Delays)
	for _, f := range flights {
		miles := int(f.Distance) / 500 * 500
		groups[miles] = Delays{miles, 1, f.Delay}.plus(groups[miles])
	}
	return errors.Join(s.Clear(), s.Set("delays", sorted(groups)))
}

func (d Delays) plus(o Delays) Delays {
	d.Flights += o.Flights
	d.Minutes += o.Minutes
	return d
}

func sorted(groups map[int]Delays) []Delays {
	return slices.SortedFunc(maps.Values(groups), func(a, b Delays) int { return cmp.Compare(a.Miles, b.Miles) })
}
