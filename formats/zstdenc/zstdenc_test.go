package zstdenc

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/pantavisor/pantavisor/formats/zstdcode"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

func encode(t testing.TB, e *Encoder, block []byte) []byte {
	t.Helper()
	out, err := e.Append([]byte("before"), block)
	if err != nil || !bytes.HasPrefix(out, []byte("before")) {
		t.Fatalf("%v", err)
	}
	return out[len("before"):]
}

func decode(t testing.TB, packed []byte) []byte {
	t.Helper()
	d, err := zstd.NewReader(nil, zstd.WithDecoderMaxWindow(maxSize), zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	b, err := d.DecodeAll(packed, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// blocks are contents of many kinds.
func blocks(t testing.TB) map[string][]byte {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, 300_000)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(noise)
	r := rand.New(rand.NewPCG(1, 2))
	few, skewed, mixed := make([]byte, 200_000), make([]byte, 200_000), []byte(nil)
	for i := range few {
		few[i] = "ab"[r.IntN(2)]
		skewed[i] = byte(min(r.ExpFloat64()*20, 255))
	}
	for len(mixed) < 400_000 {
		at, n := r.IntN(250_000), r.IntN(1<<uint(1+r.IntN(13)))
		mixed = append(append(mixed, noise[at:at+n]...), bytes.Repeat([]byte{byte(n)}, r.IntN(300))...)
	}
	set := map[string][]byte{
		"zeros": make([]byte, maxSize), "noise": noise, "two letters": few, "skewed": skewed, "mixed": mixed[:400_000],
		"text":    []byte(strings.Repeat("all work and no play makes Jack a dull boy\n", 10_000)),
		"program": self[:400_000],
		// Its only table would be followed by a single byte.
		"short end": []byte("\x16\x16\x16\x16\x16LLLL\xb9\xb9\xb9\xb90000\xce"),
		"far":       append(bytes.Clone(noise), noise...),
	}
	for n := range 300 {
		set[fmt.Sprint("text of ", n)] = []byte(strings.Repeat("all work and no play ", 15))[:n]
		set[fmt.Sprint("noise of ", n)] = noise[n : 2*n]
	}
	for _, n := range []int{255, 256, 257, 1023, 1024, 1025, 4095, 4096, 16383, 16384, 65791, 65792, 128 << 10, 128<<10 + 1, 256 << 10} {
		set[fmt.Sprint("program of ", n)] = self[4096 : 4096+n]
	}
	return set
}

var levels = []int{1, 3, 6, 9, 12, 15, 19}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	all := blocks(t)
	for _, level := range levels {
		e, err := New(maxSize, level)
		if err != nil {
			t.Fatal(err)
		}
		for name, block := range all {
			if got := decode(t, encode(t, e, block)); !bytes.Equal(got, block) {
				t.Errorf("level %d, %s: %d bytes come back as %d others", level, name, len(block), len(got))
			}
		}
	}
}

// TestReferenceDecoderAgrees has the reference program unpack every frame.
func TestReferenceDecoderAgrees(t *testing.T) {
	t.Parallel()
	program := oracle.Program(t, "zstd")
	for _, level := range levels {
		e, err := New(maxSize, level)
		if err != nil {
			t.Fatal(err)
		}
		var frames, want []byte
		for _, block := range blocks(t) {
			frames, want = append(frames, encode(t, e, block)...), append(want, block...)
		}
		cmd := exec.Command(program, "-d", "-c")
		cmd.Stdin = bytes.NewReader(frames)
		got, err := cmd.Output()
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("level %d: zstd -d: %v, %d bytes, want %d", level, err, len(got), len(want))
		}
	}
}

// TestFramesFitTheKernel checks what squashfs asks for: one segment, so that the
// window is the block, and never more than a few bytes beyond it.
func TestFramesFitTheKernel(t *testing.T) {
	t.Parallel()
	e, err := New(maxSize, 1)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range blocks(t) {
		packed := encode(t, e, block)
		var h zstd.Header
		if err := h.Decode(packed); err != nil {
			t.Fatal(err)
		}
		if !h.SingleSegment || h.HasCheckSum || h.FrameContentSize != uint64(len(block)) {
			t.Errorf("%s: header %+v", name, h)
		}
		if most := len(block) + 9 + 3*(len(block)/zstdcode.MaxBlock+1); len(packed) > most {
			t.Errorf("%s: %d bytes became %d, want at most %d", name, len(block), len(packed), most)
		}
	}
}

// TestSameBlockSameFrame checks that nothing of the blocks before shows in a frame.
func TestSameBlockSameFrame(t *testing.T) {
	t.Parallel()
	all := blocks(t)
	for _, level := range levels {
		used, err := New(maxSize, level)
		if err != nil {
			t.Fatal(err)
		}
		for name, block := range all {
			if len(block) <= 1000 {
				continue
			}
			fresh, err := New(maxSize, level)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(encode(t, used, block), encode(t, fresh, block)) {
				t.Errorf("level %d, %s: a used encoder gives another frame than a new one", level, name)
			}
		}
	}
}

func TestHigherLevelsAreSmaller(t *testing.T) {
	t.Parallel()
	block := blocks(t)["program"]
	last := len(block)
	for _, level := range []int{1, 3, 6, 9, 12, 15, 19} {
		e, err := New(maxSize, level)
		if err != nil {
			t.Fatal(err)
		}
		n := len(encode(t, e, block))
		if n >= last {
			t.Errorf("level %d gives %d bytes, the one before %d", level, n, last)
		}
		last = n
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ size, level int }{{0, 1}, {maxSize + 1, 1}, {4096, 0}, {4096, 23}} {
		if _, err := New(c.size, c.level); err == nil {
			t.Errorf("New(%d, %d): no error", c.size, c.level)
		}
	}
	e, err := New(4096, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Append(nil, make([]byte, 4097)); err == nil {
		t.Error("a block larger than the encoder is made for: no error")
	}
}

func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("abcabcabcabd"), uint8(1))
	f.Add([]byte("\x16\x16\x16\x16\x16LLLL\xb9\xb9\xb9\xb90000\xce"), uint8(5))
	f.Add(bytes.Repeat([]byte("0123456789abcdef"), 600), uint8(9))
	encoders := map[int]*Encoder{}
	for _, level := range levels {
		e, err := New(maxSize, level)
		if err != nil {
			f.Fatal(err)
		}
		encoders[level] = e
	}
	f.Fuzz(func(t *testing.T, block []byte, level uint8) {
		e := encoders[levels[int(level)%len(levels)]]
		if len(block) > maxSize {
			return
		}
		if got := decode(t, encode(t, e, block)); !bytes.Equal(got, block) {
			t.Errorf("%d bytes come back as %d others", len(block), len(got))
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	block := blocks(b)["program"][:256<<10]
	for _, level := range levels {
		b.Run(fmt.Sprint(level), func(b *testing.B) {
			e, err := New(len(block), level)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(block)))
			var out []byte
			for b.Loop() {
				out, _ = e.Append(out[:0], block)
			}
			b.ReportMetric(float64(len(out)), "packed-bytes")
		})
	}
}
