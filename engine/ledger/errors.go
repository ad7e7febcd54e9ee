package ledger

import (
	"errors"
	"fmt"

	"github.com/millrace/millrace/shm"
)

// ErrOwnerGone is a result that came too late: its executor died before it could
// be entered, and what it had written with it.
var ErrOwnerGone = errors.New("ledger: the executor is gone")

// RefError is a reference, block or segment from an executor that is not what
// it may be. It is the executor's fault, never its user's.
type RefError struct {
	// Key is the state key that was being entered, or "".
	Key string
	Ref shm.Ref
	Msg string
}

// Error implements error.
func (e *RefError) Error() string {
	where := ""
	if e.Key != "" {
		where = fmt.Sprintf("key %q: ", e.Key)
	}
	return fmt.Sprintf("executor sent a bad reference: %ssegment %#x offset %d length %d: %s",
		where, uint64(e.Ref.Segment), e.Ref.Offset, e.Ref.Length, e.Msg)
}

func blockError(b shm.Block, format string, args ...any) error {
	return &RefError{Ref: shm.Ref{Segment: b.Segment, Offset: b.Offset, Length: b.Length}, Msg: fmt.Sprintf(format, args...)}
}

// BudgetError is a state that outgrew its run's budget.
type BudgetError struct {
	Run string
	// Key is the largest key that the result would have added, and KeySize its
	// length.
	Key     string
	KeySize uint64
	// Size is what the run would hold, Limit what it may.
	Size, Limit uint64
}

// Error implements error.
func (e *BudgetError) Error() string {
	return fmt.Sprintf("state too large: with key %q (%d bytes) run %s would hold %d bytes of state, its limit is %d: raise the run's memory option, or drop keys that later steps do not need",
		e.Key, e.KeySize, e.Run, e.Size, e.Limit)
}
