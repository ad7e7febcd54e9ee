package workload

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strconv"
)

// Steps is the length of the chain that every case runs.
const Steps = 3

// MinSize is the smallest payload, in bytes: room for the envelope and a
// record.
const MinSize = 256

// prefix ends at the mark: the units of the first record's delay, 100.
const (
	prefix      = `{"data":[{"delay":10`
	dataKey     = `{"data":`
	countKey    = `,"count":`
	markedDelay = 100
)

// Payload describes a state document on disk; it is small and crosses process
// borders as JSON. The document has the form {"data":[...],"count":n} and is
// canonical: no spaces, numbers as encoding/json writes them.
type Payload struct {
	Path       string        `json:"path"`        // file that holds the document
	Nominal    int           `json:"nominal"`     // bytes asked for
	Size       int           `json:"size"`        // bytes of the document, less than one record below Nominal
	Mark       int           `json:"mark"`        // offset of the digit that a rewriting step raises
	DataOffset int           `json:"data_offset"` // first byte of the value of "data"
	DataLength int           `json:"data_length"` // bytes of the value of "data"
	Count      int           `json:"count"`       // value of "count"
	Folds      [Steps]uint64 `json:"folds"`       // Fold of the whole document as each rewriting step receives it
	Rewritten  Outcome       `json:"rewritten"`   // right outcome when every step rewrites
	Untouched  Outcome       `json:"untouched"`   // right outcome when every step only raises "count"
}

// Outcome identifies a final state: what a case must report after a run.
type Outcome struct {
	DataCRC uint32 `json:"data_crc"` // CRC-32C of the bytes of "data"
	Count   int    `json:"count"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Build writes a document of about size bytes, made of records repeated as
// often as needed, into a new file in dir. The caller removes the file.
func Build(dir string, size int, records []Record) (*Payload, error) {
	if size < MinSize {
		return nil, fmt.Errorf("payload of %d bytes: the smallest is %d", size, MinSize)
	}
	doc, count, err := document(size, records)
	if err != nil {
		return nil, err
	}
	p := &Payload{
		Path: filepath.Join(dir, "payload-"+strconv.Itoa(size)+".json"), Nominal: size, Size: len(doc),
		Mark: len(prefix), Count: count, DataOffset: len(dataKey),
		DataLength: bytes.LastIndex(doc, []byte(countKey)) - len(dataKey),
	}
	if err := os.WriteFile(p.Path, doc, 0o600); err != nil {
		return nil, fmt.Errorf("write the payload: %w", err)
	}
	if p.Untouched, err = OutcomeOf(doc); err != nil {
		return nil, err
	}
	p.Untouched.Count += Steps
	for i := range p.Folds {
		p.Folds[i] = Fold(doc)
		doc[p.Mark]++
	}
	if p.Rewritten, err = OutcomeOf(doc); err != nil {
		return nil, err
	}
	return p, nil
}

// document builds the bytes record by record and stops before size is passed.
func document(size int, records []Record) (doc []byte, count int, err error) {
	doc = make([]byte, 0, size)
	doc = append(doc, `{"data":[`...)
	tail := len("]" + countKey + "}")
	for ; ; count++ {
		r := records[count%len(records)]
		if count == 0 {
			r.Delay = markedDelay
		}
		text, err := json.Marshal(r)
		if err != nil {
			return nil, 0, fmt.Errorf("encode record %d: %w", count, err)
		}
		digits := len(strconv.Itoa(count + 1))
		if len(doc)+len(",")+len(text)+tail+digits > size {
			break
		}
		if count > 0 {
			doc = append(doc, ',')
		}
		doc = append(doc, text...)
	}
	doc = append(doc, "]"+countKey...)
	doc = strconv.AppendInt(doc, int64(count), 10)
	return append(doc, '}'), count, nil
}

// Load reads the document; front bytes of room are left before it, for a
// frame's header. The caller owns the slice.
func (p *Payload) Load(front int) ([]byte, error) {
	f, err := os.Open(p.Path)
	if err != nil {
		return nil, fmt.Errorf("open the payload: %w", err)
	}
	defer f.Close()
	buf := make([]byte, front+p.Size)
	for n := front; n < len(buf); {
		k, err := f.Read(buf[n:])
		if err != nil {
			return nil, fmt.Errorf("read the payload: %d of %d bytes: %w", n-front, p.Size, err)
		}
		n += k
	}
	return buf, nil
}

// Remove deletes the document's file.
func (p *Payload) Remove() error { return os.Remove(p.Path) }

// OutcomeOf identifies the state in doc, a document of the payload's form.
func OutcomeOf(doc []byte) (Outcome, error) {
	at := bytes.LastIndex(doc, []byte(countKey))
	if !bytes.HasPrefix(doc, []byte(dataKey)) || at < 0 || doc[len(doc)-1] != '}' {
		return Outcome{}, fmt.Errorf("state of %d bytes is not {\"data\":...,\"count\":n}", len(doc))
	}
	n, err := strconv.Atoi(string(doc[at+len(countKey) : len(doc)-1]))
	if err != nil {
		return Outcome{}, fmt.Errorf("state of %d bytes: count: %w", len(doc), err)
	}
	return Outcome{DataCRC: CRC(doc[len(dataKey):at]), Count: n}, nil
}

// CRC is the checksum that [Outcome] holds.
func CRC(data []byte) uint32 { return crc32.Checksum(data, castagnoli) }
