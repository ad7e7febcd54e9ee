package arrowipc

import "unsafe"

// aligned reports whether b starts at a multiple of n, a power of two, in
// memory. An empty slice is always aligned.
func aligned(b []byte, n int64) bool {
	return len(b) == 0 || uintptr(unsafe.Pointer(unsafe.SliceData(b)))&uintptr(n-1) == 0
}
