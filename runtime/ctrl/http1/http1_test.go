package http1

import (
	"bufio"
	"bytes"
	"io"
	"testing"
)

func FuzzChunks(f *testing.F) {
	f.Add([]byte("3\r\nabc\r\n0\r\n\r\nrest"))
	f.Add([]byte("ffffffffffffffff\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := NewBody(bufio.NewReader(bytes.NewReader(data)), &Head{Length: -1}, nil)
		n, _ := io.Copy(io.Discard, b)
		if n > int64(len(data)) {
			t.Fatalf("%d bytes came out of %d", n, len(data))
		}
	})
}
