package filecopy

import "bytes"

// IsZero reports whether a piece of a file holds only zeros and could be a hole.
func IsZero(b []byte) bool {
	return len(b) == 0 || b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1])
}
