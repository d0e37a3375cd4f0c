package xzenc

// The limits of a chunk of LZMA2, in bytes.
const (
	chunkMax    = 64 << 10 // of code, or copied
	chunkPlain  = 2 << 20  // that the code stands for
	chunkMargin = 512      // more than the symbols take that are encoded at once
	plainMargin = 3 << 10  // more than they stand for
	codeHeader  = 5        // and one byte of parameters, where needed
	copyHeader  = 3
)

// Control bytes of chunks.
const (
	copyFirst  = 0x01 // resets the dictionary
	copyNext   = 0x02
	codeFirst  = 0xe0 // resets the dictionary and the state, has parameters
	codeParams = 0xc0 // resets the state, has parameters
	codeState  = 0xa0 // resets the state
	codeNext   = 0x80
)

// packer encodes the symbols of one block after the other.
type packer interface {
	coding() *coder
	// start prepares for a block.
	start(block []byte)
	// chunk appends the code for what comes next, as much as goes into a chunk.
	chunk(dst []byte) []byte
	// giveUp drops what is prepared for the next symbols, and returns how far the search
	// for matches has come, where it goes on.
	giveUp() int
}

// chunks writes a block in chunks.
type chunks struct {
	packer
	// copies allows chunks that hold their bytes as they are.
	copies bool
	// What the decoder has had since the dictionary was reset, and whether its state is
	// that of the coder.
	started, params, inStep bool
}

// begin prepares for a block. The dictionary begins anew.
func (c *chunks) begin(block []byte) {
	c.start(block)
	c.started, c.params, c.inStep = false, false, false
}

// more reports whether the block goes on.
func (c *chunks) more() bool { return c.coding().pos < len(c.coding().block) }

// next appends a chunk, or several when the bytes are copied.
func (c *chunks) next(dst []byte) []byte {
	coding := c.coding()
	head, from, control := len(dst), coding.pos, c.control()
	dst = append(dst, control, 0, 0, 0, 0)
	if control >= codeParams {
		dst = append(dst, coding.context.property())
	}
	start := len(dst)
	dst = c.chunk(dst)
	if c.copies && len(dst)-head >= coding.pos-from+copyHeader {
		coding.pos = c.giveUp()
		coding.reset()
		return c.copy(dst[:head], coding.block[from:coding.pos])
	}
	plain, packed := coding.pos-from-1, len(dst)-start-1
	dst[head] |= byte(plain >> 16)
	dst[head+1], dst[head+2] = byte(plain>>8), byte(plain)
	dst[head+3], dst[head+4] = byte(packed>>8), byte(packed)
	c.started, c.params, c.inStep = true, true, true
	return dst
}

func (c *chunks) control() byte {
	switch {
	case !c.started:
		return codeFirst
	case !c.params:
		return codeParams
	case !c.inStep:
		return codeState
	}
	return codeNext
}

// copy appends bytes as they are. The coder starts again behind them.
func (c *chunks) copy(dst, plain []byte) []byte {
	for len(plain) > 0 {
		n := min(len(plain), chunkMax)
		control := byte(copyNext)
		if !c.started {
			control = copyFirst
		}
		dst = append(append(dst, control, byte((n-1)>>8), byte(n-1)), plain[:n]...)
		plain = plain[n:]
		c.started, c.inStep = true, false
	}
	return dst
}
