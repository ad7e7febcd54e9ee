package ledger

// What nothing refers to any more is memory until the last process that has the
// segment closes it. A large block is a segment of its own, so it lingers: it
// counts as held (see Held) while its writer keeps the segment for reuse, and
// after that until this process and every reader have closed theirs. Readers
// answer for that: see Owed.

// lingerFrom is the length from which a block counts on after it was let go.
// Smaller ones share a segment, whose free parts its writer uses again.
const lingerFrom = 256 << 10

// departure is a segment that is off the table, and how many processes are
// still to close it.
type departure struct {
	bytes   uint64
	holders int
}

// linger enters that a block of the segment is not referred to any more. mu is
// held.
func (l *Ledger) linger(s *segment, bytes uint64) {
	if bytes >= lingerFrom {
		s.dead += bytes
		l.lingering.Add(bytes)
	}
}

// reuse enters that its writer has filled that much of the segment again. mu is
// held.
func (l *Ledger) reuse(s *segment, bytes uint64) {
	n := min(s.dead, bytes)
	s.dead -= n
	l.lingering.Add(-n)
}

// depart enters that one more process has closed the segment. mu is held.
func (l *Ledger) depart(d *departure) {
	if d.holders--; d.holders == 0 && d.bytes > 0 {
		l.lingering.Add(-d.bytes)
		l.freed()
	}
}

// Held returns the memory that the host's state takes: Bytes, and what
// executors and this process have not given back yet. It takes no lock.
func (l *Ledger) Held() uint64 { return l.bytes.Load() + l.lingering.Load() }
