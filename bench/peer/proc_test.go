package peer

import (
	"bytes"
	"strconv"
)

func itoa(n int) string { return strconv.Itoa(n) }

// isZombie reads the state letter of /proc/PID/stat, which follows the
// command's name in parentheses.
func isZombie(stat []byte) bool {
	at := bytes.LastIndexByte(stat, ')')
	return at >= 0 && at+2 < len(stat) && stat[at+2] == 'Z'
}
