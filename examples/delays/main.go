// Command delays is an example worker: three functions over flight records in
// JSON. See examples/flights-go.yaml.
package main

import (
	"context"
	"math"

	"github.com/millrace/millrace/worker"
)

// Flight is one record: the arrival delay in minutes, the distance in miles and
// the hour of departure.
type Flight struct {
	Delay    float64 `json:"delay"`
	Distance float64 `json:"distance"`
	Time     float64 `json:"time"`
}

func main() {
	worker.Main(worker.Functions{"late": late, "label": label, "summary": summary})
}

// late keeps the flights that came later than configuration.minutes.
func late(ctx context.Context, s *worker.State) error {
	configuration := struct {
		Minutes float64 `json:"minutes"`
	}{Minutes: 60}
	if s.Has("configuration") {
		if err := s.Decode("configuration", &configuration); err != nil {
			return err
		}
	}
	flights, err := worker.Get[[]Flight](s, "data")
	if err != nil {
		return err
	}
	var kept []Flight
	for _, f := range flights {
		if f.Delay > configuration.Minutes {
			kept = append(kept, f)
		}
	}
	worker.Logger(ctx).Info("kept late flights", "late", len(kept), "of", len(flights))
	if err := s.Set("flights", len(flights)); err != nil {
		return err
	}
	return s.Set("data", kept)
}

// label sets one small key. It does not touch data, so data is passed on: it is
// neither read nor written, however large it is.
func label(_ context.Context, s *worker.State) error {
	return s.Set("label", "flights more than an hour late")
}

// summary replaces the state by a few figures.
func summary(_ context.Context, s *worker.State) error {
	flights, err := worker.Get[[]Flight](s, "data")
	if err != nil {
		return err
	}
	worst, sum := 0.0, 0.0
	for _, f := range flights {
		worst = math.Max(worst, f.Delay)
		sum += f.Delay
	}
	s.Delete("data")
	if err := s.Set("late", len(flights)); err != nil {
		return err
	}
	if len(flights) == 0 {
		return nil
	}
	if err := s.Set("worst", worst); err != nil {
		return err
	}
	return s.Set("mean", math.Round(sum/float64(len(flights))))
}
