package emulator

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestRoomForSmallWrites: a guest that prints 16 bytes at a time is not held up by a reader that
// comes late.
func TestRoomForSmallWrites(t *testing.T) {
	conn, theirs, err := socketPair("test")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	defer theirs.Close()
	fd := int(theirs.Fd())
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; n < 32<<10; n += 16 {
		if _, err := unix.Write(fd, make([]byte, 16)); err != nil {
			t.Fatalf("after %d bytes that nobody has read: %v", n, err)
		}
	}
}
