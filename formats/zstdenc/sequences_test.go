package zstdenc

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/pantavisor/pantavisor/formats/zstdcode"
)

// TestSymbolsCoverTheirValues checks both tables of symbols against the ranges of
// RFC 8878, 3.1.1.3.2.1.1, for every value that a zstd block can have.
func TestSymbolsCoverTheirValues(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		first  uint32
		codes  []zstdcode.Range
		symbol func(uint32) byte
	}{
		{"literal length", 0, litLenCodes, litLenSymbol},
		{"match length", 3, lengthCodes, lengthSymbol},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for v := c.first; v < zstdcode.MaxBlock; v++ {
				s := c.symbol(v)
				r := c.codes[s]
				if v < r.Base || v-r.Base >= 1<<r.Bits {
					t.Fatalf("%d is symbol %d, from %d on with %d bits", v, s, r.Base, r.Bits)
				}
			}
		})
	}
}

// TestCodesOfTheSpecification spot-checks lines of the two tables in the RFC.
func TestCodesOfTheSpecification(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		codes  []zstdcode.Range
		symbol int
		want   zstdcode.Range
	}{
		{litLenCodes, 0, zstdcode.Range{Base: 0, Bits: 0}},
		{litLenCodes, 16, zstdcode.Range{Base: 16, Bits: 1}},
		{litLenCodes, 24, zstdcode.Range{Base: 48, Bits: 4}},
		{litLenCodes, 25, zstdcode.Range{Base: 64, Bits: 6}},
		{litLenCodes, 35, zstdcode.Range{Base: 65536, Bits: 16}},
		{lengthCodes, 0, zstdcode.Range{Base: 3, Bits: 0}},
		{lengthCodes, 32, zstdcode.Range{Base: 35, Bits: 1}},
		{lengthCodes, 42, zstdcode.Range{Base: 99, Bits: 5}},
		{lengthCodes, 43, zstdcode.Range{Base: 131, Bits: 7}},
		{lengthCodes, 52, zstdcode.Range{Base: 65539, Bits: 16}},
	} {
		if got := c.codes[c.symbol]; got != c.want {
			t.Errorf("symbol %d: %+v, want %+v", c.symbol, got, c.want)
		}
	}
}

// TestDistancesAfterAMatch follows RFC 8878, 3.1.1.5.
func TestDistancesAfterAMatch(t *testing.T) {
	t.Parallel()
	before := distances{10, 20, 30}
	for _, c := range []struct {
		off      uint32
		literals bool
		want     distances
	}{
		{1, true, distances{10, 20, 30}},
		{2, true, distances{20, 10, 30}},
		{3, true, distances{30, 10, 20}},
		{4, true, distances{1, 10, 20}},
		{103, true, distances{100, 10, 20}},
		{1, false, distances{20, 10, 30}},
		{2, false, distances{30, 10, 20}},
		{3, false, distances{9, 10, 20}},
		{103, false, distances{100, 10, 20}},
	} {
		if got := nextReps(before, c.off, c.literals); got != c.want {
			t.Errorf("offset value %d, literals %v: %v, want %v", c.off, c.literals, got, c.want)
		}
	}
}

// TestNormalizedFrequencies checks what a decoder asks for: they add up to the size
// of the table, and every symbol that occurs has one.
func TestNormalizedFrequencies(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	for round := range 5000 {
		counts := make([]uint32, 2+r.IntN(51))
		n := 0
		for s := range counts {
			if r.IntN(3) > 0 {
				counts[s] = uint32(r.IntN(1 << r.IntN(15)))
			}
			n += int(counts[s])
		}
		counts[len(counts)-1]++
		counts[0]++
		n += 2
		var tab table
		log := min(maxTableLog, bestLog(n, len(counts)-1))
		tab.normalize(counts, n, log)
		sum := 0
		for s, share := range tab.norm {
			sum += int(share)
			if (counts[s] > 0) != (share > 0) {
				t.Fatalf("round %d: symbol %d occurs %d times and has the frequency %d", round, s, counts[s], share)
			}
		}
		if sum != 1<<log {
			t.Fatalf("round %d: frequencies of %v add up to %d, want %d", round, counts, sum, 1<<log)
		}
	}
}

// TestStatesLeadToTheirSymbol walks a table as a decoder does: from every state, the
// step that an encoder takes for a symbol ends in a state of that symbol.
func TestStatesLeadToTheirSymbol(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]coder{"literal lengths": litLenCoder(), "lengths": lengthCoder(), "offsets": offsetCoder()} {
		tab := &c.predefined
		size := 1 << tab.log
		owner := make([]byte, size)
		zstdcode.Spread(owner, tab.norm)
		for s, share := range tab.norm {
			reached := map[uint32]bool{}
			for state := size; state < 2*size; state++ {
				_, next := tab.step(bits64{}, uint32(state), byte(s))
				if owner[int(next)-size] != byte(s) {
					t.Fatalf("%s: symbol %d leads from %d to %d, a state of %d", name, s, state, next, owner[int(next)-size])
				}
				reached[next] = true
			}
			if want := max(int(share), -int(share)); len(reached) != want {
				t.Errorf("%s: symbol %d has %d states, want %d", name, s, len(reached), want)
			}
		}
	}
}

// TestSequencesMakeTheBlock replays what each search found, without any coding.
func TestSequencesMakeTheBlock(t *testing.T) {
	t.Parallel()
	all := blocks(t)
	for _, level := range levels {
		t.Run(fmt.Sprint(level), func(t *testing.T) {
			t.Parallel()
			e, err := New(maxSize, level)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"program", "mixed", "far", "skewed", "text"} {
				block := all[name][:min(len(all[name]), zstdcode.MaxBlock)]
				encode(t, e, block)
				if got := replay(t, e); string(got) != string(block) {
					t.Errorf("%s: the sequences make %d other bytes", name, len(got))
				}
			}
		})
	}
}

// replay does what a decoder does with the sequences and literals of one block.
func replay(t *testing.T, e *Encoder) []byte {
	t.Helper()
	var out []byte
	lits, reps := e.lits, distances{1, 4, 8}
	for i, s := range e.seqs {
		out, lits = append(out, lits[:s.lits]...), lits[s.lits:]
		reps = nextReps(reps, s.off, s.lits > 0)
		if reps[0] < 1 || int(reps[0]) > len(out) {
			t.Fatalf("sequence %d: distance %d behind %d bytes", i, reps[0], len(out))
		}
		for range s.length {
			out = append(out, out[len(out)-int(reps[0])])
		}
	}
	return append(out, lits...)
}

// TestOptimalSearchPays checks that the search of the default level finds what the
// lazy one cannot: on data of few distances it must save at least 2 %.
func TestOptimalSearchPays(t *testing.T) {
	t.Parallel()
	block := blocks(t)["program"][:256<<10]
	sizes := map[int]int{}
	for _, level := range []int{optimalLevel - 1, optimalLevel} {
		e, err := New(len(block), level)
		if err != nil {
			t.Fatal(err)
		}
		sizes[level] = len(encode(t, e, block))
	}
	if lazy, optimal := sizes[optimalLevel-1], sizes[optimalLevel]; optimal*100 > lazy*98 {
		t.Errorf("%d bytes, %d with the lazy search", optimal, lazy)
	}
}
