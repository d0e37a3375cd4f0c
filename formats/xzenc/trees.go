package xzenc

import "encoding/binary"

const (
	nearBits   = 12 // of the hash of two bytes
	shortBits  = 16 // of three
	longMin    = 16 // of four, for the smallest window
	longMax    = 24 // and for the largest
	hashedMore = 4  // bytes that a search needs
)

// found is an earlier occurrence of what comes next.
type found struct {
	length int
	dist   uint32 // less one, as it is encoded
}

// trees finds matches of every length, each at its smallest distance, in binary search
// trees: one for each hash of four bytes, of the places in the window with this hash, in
// the order of what follows them. The newest place is the root, so a search for a place's
// matches also inserts it: it splits the tree at the place into the two below it. Two and
// three bytes are looked up where they were last.
//
// Places are counted from the size of the window on, so that 0 is beyond it from all of them.
type trees struct {
	block  []byte
	pos    int // the next place to look at
	mask   uint32
	last2  [1 << nearBits]uint32
	last3  [1 << shortBits]uint32
	roots  []uint32
	shift  uint
	sons   [][2]uint32 // of each place in the window: smaller, then larger
	enough int         // the length of a match that ends a search
	steps  int         // places that a search compares, at most
}

// windowFor returns the window for a block of size bytes.
func windowFor(size, limit int) int {
	window := MinDictionary
	for window < size && window < limit {
		window *= 2
	}
	return window
}

// reset prepares for a block, with a window of a power of two.
func (t *trees) reset(block []byte, window int) {
	t.block, t.pos, t.mask = block, 0, uint32(window-1)
	clear(t.last2[:])
	clear(t.last3[:])
	longBits := uint(longMin)
	for 1<<longBits < window/4 && longBits < longMax {
		longBits++
	}
	t.shift = 32 - longBits
	if len(t.roots) != 1<<longBits {
		t.roots = make([]uint32, 1<<longBits)
	} else {
		clear(t.roots)
	}
	if len(t.sons) < window {
		t.sons = make([][2]uint32, window)
	}
}

// heads returns the last places of two, three and four bytes, and takes the place here.
func (t *trees) heads(v, here uint32) (two, three, four uint32) {
	h2, h3, h4 := v<<16*prime>>(32-nearBits), v<<8*prime>>(32-shortBits), v*prime>>t.shift
	two, three, four = t.last2[h2], t.last3[h3], t.roots[h4]
	t.last2[h2], t.last3[h3], t.roots[h4] = here, here, here
	return two, three, four
}

// find appends the matches of the next place by their length, and goes to the place after it.
func (t *trees) find(dst []found) []found {
	pos, block := t.pos, t.block
	rest := min(len(block)-pos, maxMatch)
	limit := min(rest, t.enough)
	t.pos++
	if limit < hashedMore {
		return dst
	}
	here := uint32(pos) + t.mask + 1
	two, three, four := t.heads(binary.LittleEndian.Uint32(block[pos:]), here)
	dst = t.short(dst, pos, limit, here-two, here-three)
	best := 3
	if n := len(dst); n > 0 {
		best = max(best, dst[n-1].length)
	}
	if best < limit {
		dst = t.search(dst, pos, limit, best, four)
	} else {
		t.search(nil, pos, limit, limit, four)
	}
	if n := len(dst); n > 0 && dst[n-1].length == limit && limit < rest {
		last := &dst[n-1]
		last.length += extend(block, pos-int(last.dist)-1+limit, pos+limit, rest-limit)
	}
	return dst
}

// skip inserts the next n places.
func (t *trees) skip(n int) {
	for ; n > 0; n-- {
		pos := t.pos
		t.pos++
		limit := min(len(t.block)-pos, t.enough)
		if limit < hashedMore {
			continue
		}
		here := uint32(pos) + t.mask + 1
		_, _, four := t.heads(binary.LittleEndian.Uint32(t.block[pos:]), here)
		t.search(nil, pos, limit, limit, four)
	}
}

// short appends the matches at the last places of two and of three bytes.
func (t *trees) short(dst []found, pos, limit int, two, three uint32) []found {
	block := t.block
	v := binary.LittleEndian.Uint32(block[pos:])
	if two <= t.mask && uint32(binary.LittleEndian.Uint16(block[pos-int(two):])) == v&0xffff {
		n := extend(block, pos-int(two), pos, limit)
		dst = append(dst, found{n, two - 1})
		if two == three || n > 2 {
			return dst
		}
	}
	if three <= t.mask && (binary.LittleEndian.Uint32(block[pos-int(three):])^v)<<8 == 0 {
		dst = append(dst, found{extend(block, pos-int(three), pos, limit), three - 1})
	}
	return dst
}

// search inserts a place as the root of its tree, and appends the matches that are longer
// than best; best of limit appends none.
func (t *trees) search(dst []found, pos, limit, best int, at uint32) []found {
	block, mask := t.block, t.mask
	sons := t.sons[:mask+1]
	here := uint32(pos) + mask + 1
	next := block[pos : pos+limit]
	// Where the next place goes that is smaller and larger than this one, and how many
	// bytes all places below there have in common with it.
	pair := &sons[here&mask]
	smaller, larger := &pair[0], &pair[1]
	var common, commonLarger int
	for steps := t.steps; steps > 0; steps-- {
		back := here - at
		if back > mask {
			break
		}
		pair := &sons[at&mask]
		other := block[pos-int(back):][:len(next)]
		n := min(common, commonLarger)
		for n < len(next) && other[n] == next[n] {
			n++
		}
		if n > best {
			best = n
			dst = append(dst, found{n, back - 1})
		}
		if n >= len(next) {
			*smaller, *larger = pair[0], pair[1]
			return dst
		}
		if other[n] < next[n] {
			*smaller, at = at, pair[1]
			smaller, common = &pair[1], n
		} else {
			*larger, at = at, pair[0]
			larger, commonLarger = &pair[0], n
		}
	}
	*smaller, *larger = 0, 0
	return dst
}
