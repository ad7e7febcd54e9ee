package arrowipc_test

import "unsafe"

// inside reports whether part lies wholly in whole, in memory.
func inside(part, whole []byte) bool {
	p, w := uintptr(unsafe.Pointer(unsafe.SliceData(part))), uintptr(unsafe.Pointer(unsafe.SliceData(whole)))
	return p >= w && p+uintptr(len(part)) <= w+uintptr(len(whole))
}

// shifted copies b to an address that is the given number of bytes past a
// multiple of 8.
func shifted(b []byte, by int) []byte {
	room := make([]byte, len(b)+16)
	for uintptr(unsafe.Pointer(unsafe.SliceData(room)))%8 != uintptr(by) {
		room = room[1:]
	}
	return room[:copy(room, b)]
}
