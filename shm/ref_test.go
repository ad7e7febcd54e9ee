package shm

import (
	"math"
	"testing"
)

func TestRefEnd(t *testing.T) {
	for _, c := range []struct {
		offset, length, end uint64
		ok                  bool
	}{
		{0, 0, 0, true},
		{64, 36, 100, true},
		{math.MaxUint64, 0, math.MaxUint64, true},
		{math.MaxUint64, 1, 0, false},
		{1 << 63, 1 << 63, 0, false},
	} {
		end, ok := Ref{Offset: c.offset, Length: c.length}.End()
		if ok != c.ok || ok && end != c.end {
			t.Errorf("%d+%d: got %d %v", c.offset, c.length, end, ok)
		}
	}
}

func TestBlockContains(t *testing.T) {
	block := Block{Segment: 7, Offset: 100, Length: 50}
	for _, c := range []struct {
		ref  Ref
		want bool
	}{
		{block.Ref(JSON, 0), true},
		{Ref{Segment: 7, Offset: 150, Length: 0}, true},
		{Ref{Segment: 7, Offset: 120, Length: 30}, true},
		{Ref{Segment: 7, Offset: 120, Length: 31}, false},
		{Ref{Segment: 7, Offset: 99, Length: 2}, false},
		{Ref{Segment: 8, Offset: 100, Length: 1}, false},
		{Ref{Segment: 7, Offset: 120, Length: math.MaxUint64}, false},
		{Ref{Segment: 7, Offset: 120, Length: math.MaxUint64 - 119}, false},
	} {
		if got := block.Contains(c.ref); got != c.want {
			t.Errorf("Contains(%v) = %v", c.ref, got)
		}
	}
	if r := block.Ref(Raw, FlagStream); r.Block() != block {
		t.Errorf("Ref and Block are not inverse: %v", r.Block())
	}
}

func TestEncodingNames(t *testing.T) {
	for e := Encoding(0); e < 10; e++ {
		parsed, err := ParseEncoding(e.String())
		if e.Valid() != (e >= 1 && e <= 3) || (err == nil) != e.Valid() || e.Valid() && parsed != e {
			t.Errorf("%d: valid %v, name %q, parsed %v %v", e, e.Valid(), e, parsed, err)
		}
	}
}
