package squashfs

import (
	"slices"
	"testing"
)

// TestEstimateAgreesWithTheCompressors compares the guess with what a search gives:
// no block that would shrink by twice the limit may be taken for noise.
func TestEstimateAgreesWithTheCompressors(t *testing.T) {
	const size = 128 << 10
	with := func(at int, insert []byte) []byte {
		return slices.Replace(noise(1, size), at, at+len(insert), insert...)
	}
	narrow := noise(2, size)
	for i := range narrow {
		narrow[i] = narrow[i] % 224
	}
	for name, c := range map[string]struct {
		block []byte
		want  bool
	}{
		"noise":                        {noise(1, size), false},
		"a little text in noise":       {with(5000, text(1, 500)), false},
		"text":                         {text(1, size), true},
		"zeros at the end of noise":    {with(size-5000, make([]byte, 5000)), true},
		"text in the middle of noise":  {with(70_000, text(1, 6000)), true},
		"noise that occurs again":      {with(100_001, noise(1, 8000)[:8000]), true},
		"noise that occurs again soon": {with(9001, noise(1, 9000)), true},
		"bytes of 7.8 bits":            {narrow, true},
		"a short block":                {noise(1, estimateMin-1), true},
		"odd length":                   {noise(1, size-3), false},
		"odd length of text":           {text(1, estimateRange+3), true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := new(estimator).compressible(c.block); got != c.want {
				t.Errorf("compressible: %v, want %v", got, c.want)
			}
			for _, o := range forms[:3] {
				o, _ := o.checked()
				comp, err := newCompressor(o)
				if err != nil {
					t.Fatal(err)
				}
				packed, err := comp.compress(c.block)
				if err != nil {
					t.Fatal(err)
				}
				if saved := len(c.block) - len(packed); !c.want && saved > 2*len(c.block)/worthwhile {
					t.Errorf("%v saves %d of %d bytes of a block taken for noise", o.Compression, saved, len(c.block))
				}
			}
		})
	}
}

// TestSkewOfEqualBytes has the largest numbers that skew computes with, which do not fit
// into an int of 32 bits.
func TestSkewOfEqualBytes(t *testing.T) {
	if got := skew(make([]byte, estimateRange)); got != estimateRange {
		t.Errorf("a code for one byte saves %d of %d bytes", got, estimateRange)
	}
}

func BenchmarkEstimate(b *testing.B) {
	for name, block := range map[string][]byte{"noise": noise(1, 128<<10), "text": text(1, 128<<10)} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(block)))
			e := &estimator{}
			for b.Loop() {
				e.compressible(block)
			}
		})
	}
}
