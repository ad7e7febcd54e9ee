package shm

// ArenaStats is a snapshot of an arena's accounts. All but Blocks and Segments
// are bytes.
type ArenaStats struct {
	Published   int64 // in live blocks
	Unpublished int64 // promised to blocks being written
	Blocks      int64 // live blocks
	Segments    int64 // segments held
	Reserved    int64 // size of the segments: address space
	Resident    int64 // pages that exist in them, live or free; an estimate from below
	Retained    int64 // of those, in segments kept free for reuse
	Reused      int64 // since the start: written into blocks over pages that existed
	Fresh       int64 // since the start: written into blocks over new pages
}

// Stats returns the accounts at this instant.
func (a *Arena) Stats() ArenaStats {
	a.mu.Lock()
	defer a.mu.Unlock()
	stats := ArenaStats{
		Published:   a.publishedBytes,
		Unpublished: max(a.used.Load()-a.publishedBytes, 0),
		Blocks:      a.publishedBlocks,
		Segments:    int64(len(a.segments)),
		Retained:    a.keptBytes,
		Reused:      a.reusedBytes,
		Fresh:       a.freshBytes,
	}
	for _, s := range a.segments {
		stats.Reserved += s.seg.Size()
		stats.Resident += max(s.touched.Load(), s.retained)
	}
	return stats
}
