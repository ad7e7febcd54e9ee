package shm

import (
	"bytes"
	"cmp"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// arenaModel drives an arena at random beside a plain map of what must be
// there.
type arenaModel struct {
	arena *Arena
	segs  *readers
	live  map[Block][]byte
	open  []*openBlock
	seed  byte
}

type openBlock struct {
	w    *BlockWriter
	want []byte
}

func (m *arenaModel) pick(t *rapid.T) *openBlock {
	if len(m.open) == 0 {
		t.Skip("no open block")
	}
	return m.open[rapid.IntRange(0, len(m.open)-1).Draw(t, "writer")]
}

func (m *arenaModel) remove(b *openBlock) {
	m.open = slices.DeleteFunc(m.open, func(x *openBlock) bool { return x == b })
}

var blockSizes = rapid.OneOf(rapid.IntRange(0, 300), rapid.IntRange(0, 10_000), rapid.IntRange(0, 90_000))

func (m *arenaModel) actions() map[string]func(*rapid.T) {
	bytesOf := func(t *rapid.T) []byte { m.seed += 31; return pattern(blockSizes.Draw(t, "size"), m.seed) }
	return map[string]func(*rapid.T){
		"open": func(t *rapid.T) {
			if len(m.open) < 6 {
				hint := int64(rapid.IntRange(-1, 100_000).Draw(t, "hint"))
				m.open = append(m.open, &openBlock{w: m.arena.NewBlock(hint)})
			}
		},
		"write": func(t *rapid.T) {
			b, p := m.pick(t), bytesOf(t)
			must(b.w.Write(p))
			b.want = append(b.want, p...)
		},
		"reserve": func(t *rapid.T) {
			b, p := m.pick(t), bytesOf(t)
			n := rapid.IntRange(0, len(p)).Draw(t, "used")
			copy(must(b.w.Reserve(len(p))), p)
			b.w.Advance(n)
			b.want = append(b.want, p[:n]...)
		},
		"commit": func(t *rapid.T) {
			b := m.pick(t)
			m.remove(b)
			ref := must(b.w.Commit(Raw))
			if ref.Length != uint64(len(b.want)) || ref.Offset%blockAlign != 0 {
				t.Fatalf("%v for %d bytes", ref, len(b.want))
			}
			m.live[ref.Block()] = b.want
		},
		"abort": func(t *rapid.T) {
			b := m.pick(t)
			m.remove(b)
			b.w.Abort()
		},
		"free": func(t *rapid.T) {
			if len(m.live) == 0 {
				t.Skip("no block")
			}
			b := rapid.SampledFrom(m.blocks()).Draw(t, "block")
			delete(m.live, b)
			if err := m.arena.Free(b); err != nil {
				t.Fatal(err)
			}
			if m.arena.Free(b) == nil {
				t.Fatal("freed twice")
			}
		},
		"reset": func(t *rapid.T) {
			if rapid.IntRange(0, 4).Draw(t, "rarely") == 0 {
				clear(m.live)
				_ = m.arena.Reset()
			}
		},
		"trim":     func(*rapid.T) { _ = m.arena.Trim() },
		"prefault": func(t *rapid.T) { _ = m.arena.Prefault(int64(blockSizes.Draw(t, "bytes"))) },
		"":         m.check,
	}
}

func (m *arenaModel) blocks() []Block {
	var blocks []Block
	for b := range m.live {
		blocks = append(blocks, b)
	}
	slices.SortFunc(blocks, func(a, b Block) int {
		return cmp.Or(cmp.Compare(a.Segment, b.Segment), cmp.Compare(a.Offset, b.Offset))
	})
	return blocks
}

func (m *arenaModel) check(t *rapid.T) {
	var published int64
	blocks := m.blocks()
	for i, b := range blocks {
		if !bytes.Equal(m.segs.read(b.Ref(Raw, 0)), m.live[b]) {
			t.Fatalf("%v changed", b)
		}
		if i > 0 && blocks[i-1].Segment == b.Segment && blocks[i-1].Offset+blocks[i-1].Length > b.Offset {
			t.Fatalf("%v and %v overlap", blocks[i-1], b)
		}
		published += int64(b.Length)
	}
	for _, b := range m.open {
		if !bytes.Equal(b.w.Bytes(), b.want) {
			t.Fatalf("an open block changed")
		}
	}
	s := m.arena.Stats()
	if s.Published != published || s.Blocks != int64(len(blocks)) || s.Retained > 128<<10 || s.Unpublished < 0 {
		t.Fatalf("%d bytes in %d blocks, %+v", published, len(blocks), s)
	}
	checkArena(t, m.arena)
}

// checkArena verifies the whole of the allocator's accounts.
func checkArena(t interface{ Fatalf(string, ...any) }, a *Arena) {
	a.mu.Lock()
	defer a.mu.Unlock()
	free := 0
	for _, s := range a.small {
		end, live, lastFree := int64(0), 0, false
		var first *run
		for r := s.top; r != nil; r = r.below {
			if r.below != nil && r.below.above != r {
				t.Fatalf("neighbours disagree")
			}
			first = r
		}
		for r := first; r != nil; r = r.above {
			if r.offset != end || r.size < blockAlign || r.size%blockAlign != 0 || r.owner != s {
				t.Fatalf("run at %d of %d bytes, expected at %d", r.offset, r.size, end)
			}
			if r.free && (lastFree || r == s.top) {
				t.Fatalf("free run at %d is not joined", r.offset)
			}
			if r.free {
				free++
			} else {
				live++
			}
			end, lastFree = r.end(), r.free
		}
		if end != s.bump || live != s.live {
			t.Fatalf("segment ends at %d with %d runs, accounts say %d, %d", end, live, s.bump, s.live)
		}
	}
	for class, r := range a.freeRuns.heads {
		if (r != nil) != (a.freeRuns.nonEmpty[class/64]>>(class%64)&1 == 1) {
			t.Fatalf("class %d: bit and list disagree", class)
		}
		for ; r != nil; r = r.freeNext {
			if !r.free || classOf(r.size) != class {
				t.Fatalf("class %d holds a run of %d bytes, free %v", class, r.size, r.free)
			}
			free--
		}
	}
	if free != 0 {
		t.Fatalf("%d free runs are in no list", free)
	}
}

func TestArenaAgainstModel(t *testing.T) {
	noLeftovers(t)
	rapid.Check(t, func(rt *rapid.T) {
		segs := &readers{t: t, open: make(map[SegmentID]*Segment)}
		m := &arenaModel{arena: NewArena(tiny(segs)), segs: segs, live: make(map[Block][]byte)}
		defer func() {
			for _, b := range m.open {
				b.w.Abort()
			}
			for b := range m.live {
				if err := m.arena.Free(b); err != nil {
					rt.Fatal(err)
				}
			}
			if s := m.arena.Stats(); s.Published+s.Unpublished+s.Blocks != 0 {
				rt.Fatalf("all freed: %+v", s)
			}
			m.arena.Close()
			for _, s := range segs.open {
				s.Close()
			}
		}()
		rt.Repeat(m.actions())
	})
}

func TestArenaHammer(t *testing.T) {
	noLeftovers(t)
	var mu sync.Mutex
	r := newReaders(t)
	options := tiny(r)
	options.OnSegment = func(s *Segment) error { mu.Lock(); defer mu.Unlock(); return r.receive(s) }
	options.OnDrop = func(id SegmentID) { mu.Lock(); defer mu.Unlock(); r.drop(id) }
	a := NewArena(options)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			type block struct {
				ref  Ref
				want []byte
			}
			var mine []block
			for i := range 150 {
				want := pattern((i*i*137+g*1000)%30_000, byte(g*31+i))
				w := a.NewBlock(int64(i%3) * int64(len(want)) / 2)
				for p := want; len(p) > 0; {
					n, _ := w.Write(p[:min(len(p), 1+i*50)])
					p = p[n:]
				}
				if i%7 == 0 {
					w.Abort()
					continue
				}
				mine = append(mine, block{must(w.Commit(Raw)), want})
				if len(mine) > 5 {
					b := mine[i%5]
					mine = slices.Delete(mine, i%5, i%5+1)
					mu.Lock()
					got := r.read(b.ref)
					mu.Unlock()
					if !bytes.Equal(got, b.want) {
						t.Errorf("%v changed", b.ref)
					}
					if err := a.Free(b.ref.Block()); err != nil {
						t.Error(err)
					}
				}
				switch i % 20 {
				case 3:
					a.Stats()
				case 9:
					_ = a.Trim()
				case 13:
					_ = a.Prefault(20_000)
				}
			}
			for _, b := range mine {
				if err := a.Free(b.ref.Block()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	checkArena(t, a)
	if s := a.Stats(); s.Published+s.Unpublished+s.Blocks != 0 {
		t.Errorf("all freed: %+v", s)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}
