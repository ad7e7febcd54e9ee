package ipc

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

const laneVectorsFile = "testdata/lanes.json"

// laneVectors is what frames look like in the ring's memory, for every
// implementation to test against.
type laneVectors struct {
	About string       `json:"about"`
	Lanes []laneVector `json:"lanes"`
}

type laneVector struct {
	Name     string   `json:"name"`
	RingSize int      `json:"ringSize"`
	Lane     int      `json:"lane"`
	Frames   []string `json:"frames"`
	Head     string   `json:"head"`
	Data     string   `json:"data"`
}

const aboutLanes = "Frames in the memory of the control channel's ring, see PROTOCOL.md. " +
	"In a new ring each frame is written to the lane (0 from the supervisor, 1 to it) and read before the next; " +
	"then the reader finds nothing and stores 2 in asleep. head is the lane's 192 bytes of counters after that, data its bytes."

// laneCases are the sizes of the frames written.
var laneCases = []struct {
	name  string
	lane  int
	sizes []int
}{
	{"one frame", 0, []int{104}},
	{"a frame that wraps", 1, []int{1024, 1016, 1008, 1000, 160}},
}

// TestLaneVectors is updated by -update, as TestVectors is.
func TestLaneVectors(t *testing.T) {
	file := laneVectors{About: aboutLanes}
	for _, c := range laneCases {
		v := laneVector{Name: c.name, RingSize: minRingSize, Lane: c.lane}
		for i, size := range c.sizes {
			empty := len(frameOf(t, Envelope{ID: 1, Message: &Log{}}))
			m := &Log{Message: strings.Repeat(string(rune('a'+i)), size-empty)}
			v.Frames = append(v.Frames, hex.EncodeToString(frameOf(t, Envelope{ID: uint64(i + 1), Message: m})))
		}
		v.Head, v.Data = v.throughRing(t)
		file.Lanes = append(file.Lanes, v)
	}
	var want bytes.Buffer
	e := json.NewEncoder(&want)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(file); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(laneVectorsFile, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(laneVectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%s is not what the cases give: go test -run TestLaneVectors -update ./ipc", laneVectorsFile)
	}
}

// throughRing has the frames written and read, checks them, and returns the
// lane's memory.
func (v *laneVector) throughRing(t *testing.T) (head, data string) {
	writer, f, err := createRing(v.RingSize)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	reader, err := openRing(f, v.RingSize)
	if err != nil {
		t.Fatal(err)
	}
	out, in := &writer.out, &reader.in
	if v.Lane == 1 {
		out, in = &reader.out, &writer.in
	}
	var total uint64
	buf := make([]byte, v.RingSize)
	for _, text := range v.Frames {
		frame := unhex(t, text)
		if ok, err := out.write(frame); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if _, got, err := in.readFrame(buf); err != nil || !bytes.Equal(got, frame) {
			t.Fatalf("%x, %v", got, err)
		}
		total += uint64(len(frame))
	}
	in.asleep.Store(wakeOnWord)
	mem := bytes.Clone(writer.mem)
	if err := writer.unmap(); err != nil {
		t.Fatal(err)
	}
	if err := reader.unmap(); err != nil {
		t.Fatal(err)
	}
	counters := mem[v.Lane*ringLaneSize:][:ringLaneSize]
	for _, at := range []int{ringWritten, ringRead} {
		if n := binary.LittleEndian.Uint64(counters[at:]); n != total {
			t.Errorf("%s: counter at %d is %d, written were %d", v.Name, at, n, total)
		}
	}
	return hex.EncodeToString(counters), hex.EncodeToString(mem[ringHeaderSize+v.Lane*v.RingSize:][:v.RingSize])
}
