package ext4

import "io"

// sinkSize is the number of bytes that are written at once where what is written is
// contiguous.
const sinkSize = 1 << 20

// sink joins writes to neighbouring places. Its first error stays.
type sink struct {
	w   io.WriterAt
	at  int64 // of buf
	buf []byte
	err error
}

// write takes data for a place.
func (s *sink) write(at int64, data []byte) {
	if at != s.at+int64(len(s.buf)) || len(s.buf)+len(data) > sinkSize {
		s.flush()
		s.at = at
	}
	if len(data) >= sinkSize/4 && len(s.buf) == 0 {
		s.direct(at, data)
		return
	}
	s.buf = append(s.buf, data...)
}

func (s *sink) direct(at int64, data []byte) {
	if s.err == nil {
		_, s.err = s.w.WriteAt(data, at)
	}
	s.at = at + int64(len(data))
}

// flush writes what has been taken.
func (s *sink) flush() {
	if len(s.buf) > 0 {
		s.direct(s.at, s.buf)
		s.buf = s.buf[:0]
	}
}
