package demand

import "time"

// meter measures how long there was work, and how long a limit was reached
// meanwhile. The clock is read only when one of the two changes.
type meter struct {
	active, full  bool
	since         time.Time
	busy, reached time.Duration
}

func (m *meter) set(active, full bool) {
	full = full && active
	if m.active == active && m.full == full {
		return
	}
	now := time.Now()
	m.busy, m.reached = m.at(now)
	m.active, m.full, m.since = active, full, now
}

// at returns the sums up to now.
func (m *meter) at(now time.Time) (busy, reached time.Duration) {
	busy, reached = m.busy, m.reached
	if m.active {
		busy += now.Sub(m.since)
	}
	if m.full {
		reached += now.Sub(m.since)
	}
	return busy, reached
}
