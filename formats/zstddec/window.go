package zstddec

import "github.com/pantavisor/pantavisor/formats/zstdcode"

// window is a ring of what was unpacked: the bytes that matches may refer to, and those of the
// last block that are still to be read. It grows up to its size as bytes come.
type window struct {
	ring  []byte
	limit int   // of the ring
	reach int   // how far back matches may go
	made  int64 // bytes of the frame
	at    int   // where the next byte comes
	from  int   // where the bytes to be read begin
	left  int   // how many those are
}

// firstRing is the size of a ring in bytes before it grows.
const firstRing = 64 << 10

// start prepares for a frame. All bytes of the one before have been read.
func (w *window) start(reach int) {
	w.reach, w.limit = reach, reach+zstdcode.MaxBlock
	w.made, w.at, w.from, w.left = 0, 0, 0, 0
	if len(w.ring) > w.limit {
		w.ring = w.ring[:w.limit]
	}
}

// room returns the place for the next bytes, n at most.
func (w *window) room(n int) []byte {
	if w.at == len(w.ring) {
		if len(w.ring) < w.limit {
			w.grow()
		} else {
			w.at = 0
		}
	}
	return w.ring[w.at:min(w.at+n, len(w.ring))]
}

func (w *window) grow() {
	size := min(max(2*len(w.ring), firstRing), w.limit)
	if size <= cap(w.ring) {
		w.ring = w.ring[:size]
		return
	}
	ring := make([]byte, size)
	copy(ring, w.ring)
	w.ring = ring
}

// took counts n bytes that were put where room says.
func (w *window) took(n int) {
	w.at += n
	w.left += n
	w.made += int64(n)
}

func (w *window) write(p []byte) {
	for len(p) > 0 {
		n := copy(w.room(len(p)), p)
		w.took(n)
		p = p[n:]
	}
}

func (w *window) repeat(b byte, n int) {
	for n > 0 {
		to := w.room(n)
		for i := range to {
			to[i] = b
		}
		w.took(len(to))
		n -= len(to)
	}
}

// match writes n bytes again that begin dist bytes ago. It reports whether there are such.
func (w *window) match(dist, n int) bool {
	if dist <= 0 || dist > w.reach || int64(dist) > w.made {
		return false
	}
	for n > 0 {
		to := w.room(min(n, dist))
		from := w.at - dist
		if from < 0 {
			from += len(w.ring)
		}
		c := copy(to, w.ring[from:])
		w.took(c)
		n -= c
		if c == dist && 2*dist <= w.reach {
			dist *= 2 // what was written repeats itself, so that it can be taken in longer pieces
		}
	}
	return true
}

// unread returns the bytes to be read.
func (w *window) unread() (a, b []byte) {
	a = w.ring[w.from:min(w.from+w.left, len(w.ring))]
	return a, w.ring[:w.left-len(a)]
}

// read moves bytes to p.
func (w *window) read(p []byte) int {
	a, b := w.unread()
	n := copy(p, a)
	if n == len(a) {
		m := copy(p[n:], b)
		n += m
	}
	w.left -= n
	if w.from += n; w.from >= len(w.ring) && len(w.ring) == w.limit {
		w.from -= len(w.ring)
	}
	return n
}

// drop forgets the bytes to be read.
func (w *window) drop() { w.from, w.left = w.at, 0 }
