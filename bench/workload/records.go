package workload

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
)

// Record is one flight, the shape of vega-datasets' flights-200k.json.
type Record struct {
	Delay    int     `json:"delay"`    // minutes; negative when early
	Distance int     `json:"distance"` // miles
	Time     float64 `json:"time"`     // hour of departure, with decimals
}

// State is the decoded form of a payload. The order of its fields is the order
// of the document's keys.
type State struct {
	Data  []Record `json:"data"`
	Count int      `json:"count"`
}

// generated is how many records are made up when there is no file: as many
// distinct ones as a cache cannot make look small.
const generated = 50_000

// LoadRecords reads the records of a payload from path. A missing file is not
// an error: the records are then generated from a fixed seed, and source says
// so. A file of another shape is an error, because the JSON case decodes into
// [Record].
func LoadRecords(path string) (records []Record, source string, err error) {
	f, err := os.Open(path)
	if path == "" || errors.Is(err, fs.ErrNotExist) {
		return GenerateRecords(generated), "generated records of the flights' shape (fixed seed)", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("open the records: %w", err)
	}
	defer f.Close()
	dec := json.NewDecoder(f)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&records); err != nil {
		return nil, "", fmt.Errorf("read the records of %s: want an array of {delay, distance, time}: %w", path, err)
	}
	if len(records) == 0 {
		return nil, "", fmt.Errorf("read the records of %s: the array is empty", path)
	}
	return records, fmt.Sprintf("%s, %d records", path, len(records)), nil
}

// GenerateRecords makes n records in the ranges of the real ones. The same n
// gives the same records on every machine.
func GenerateRecords(n int) []Record {
	rng := rand.New(rand.NewPCG(2001, 200_000))
	records := make([]Record, n)
	for i := range records {
		delay := int(rng.NormFloat64()*20) + 5
		if rng.IntN(20) == 0 {
			delay += rng.IntN(300)
		}
		records[i] = Record{
			Delay:    delay,
			Distance: 100 + rng.IntN(2500),
			Time:     float64(rng.IntN(24*60)) / 60,
		}
		records[i].Time = float64(int(records[i].Time*10_000)) / 10_000
	}
	return records
}
