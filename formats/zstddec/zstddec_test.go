package zstddec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"

	"github.com/pantavisor/pantavisor/formats/zstdenc"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

// contents are of many kinds and sizes.
func contents(t testing.TB) map[string][]byte {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, 300_000)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(noise)
	r := rand.New(rand.NewPCG(1, 2))
	few, skewed, periods := make([]byte, 200_000), make([]byte, 200_000), []byte(nil)
	for i := range few {
		few[i] = "ab"[r.IntN(2)]
		skewed[i] = byte(min(r.ExpFloat64()*20, 255))
	}
	for n := 1; n < 200; n++ {
		periods = append(periods, bytes.Repeat(noise[n:2*n], 1+r.IntN(3000)/n)...)
	}
	set := map[string][]byte{
		"zeros": make([]byte, 1<<20), "noise": noise, "two letters": few, "skewed": skewed, "periods": periods,
		"text":    []byte(strings.Repeat("all work and no play makes Jack a dull boy\n", 10_000)),
		"program": self[:2_000_000],
		"far":     append(bytes.Clone(noise), noise...),
	}
	for n := range 300 {
		set[fmt.Sprint("text of ", n)] = []byte(strings.Repeat("all work and no play ", 15))[:n]
		set[fmt.Sprint("noise of ", n)] = noise[n : 2*n]
	}
	for _, n := range []int{255, 256, 257, 1023, 1024, 1025, 16383, 16384, 65791, 65792, 128 << 10, 128<<10 + 1, 256 << 10} {
		set[fmt.Sprint("program of ", n)] = self[4096 : 4096+n]
	}
	return set
}

func packed(t testing.TB, content []byte, options ...zstd.EOption) []byte {
	t.Helper()
	e, err := zstd.NewWriter(nil, append(options, zstd.WithEncoderConcurrency(1))...)
	if err != nil {
		t.Fatal(err)
	}
	return e.EncodeAll(content, nil)
}

// streamed is packed by an encoder that does not know the size.
func streamed(t testing.TB, content []byte, options ...zstd.EOption) []byte {
	t.Helper()
	var b bytes.Buffer
	e, err := zstd.NewWriter(&b, append(options, zstd.WithEncoderConcurrency(1))...)
	if err != nil {
		t.Fatal(err)
	}
	for rest := content; len(rest) > 0; rest = rest[min(len(rest), 50_000):] {
		if _, err := e.Write(rest[:min(len(rest), 50_000)]); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestEveryLevel(t *testing.T) {
	t.Parallel()
	all := contents(t)
	for _, level := range []zstd.EncoderLevel{zstd.SpeedFastest, zstd.SpeedDefault, zstd.SpeedBetterCompression, zstd.SpeedBestCompression} {
		t.Run(level.String(), func(t *testing.T) {
			t.Parallel()
			z := NewReader(nil, 0)
			for name, content := range all {
				for i, frame := range [][]byte{packed(t, content, zstd.WithEncoderLevel(level)), streamed(t, content, zstd.WithEncoderLevel(level), zstd.WithEncoderCRC(false))} {
					z.Reset(bytes.NewReader(frame))
					if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, content) {
						t.Errorf("%s, %d: %d bytes come back as %d, %v", name, i, len(content), len(got), err)
					}
				}
			}
		})
	}
}

// TestOwnEncoder reads what our own encoder writes.
func TestOwnEncoder(t *testing.T) {
	t.Parallel()
	z := NewReader(nil, 0)
	for _, level := range []int{1, 6, 12, 19} {
		e, err := zstdenc.New(1<<20, level)
		if err != nil {
			t.Fatal(err)
		}
		for name, content := range contents(t) {
			content = content[:min(len(content), 1<<20)]
			frame, err := e.Append(nil, content)
			if err != nil {
				t.Fatal(err)
			}
			z.Reset(bytes.NewReader(frame))
			if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%s, level %d: %d bytes come back as %d, %v", name, level, len(content), len(got), err)
			}
		}
	}
}

// TestReferenceProgram reads what the reference program writes: with trees that are used again,
// long windows, and several frames in a row.
func TestReferenceProgram(t *testing.T) {
	t.Parallel()
	program := oracle.Program(t, "zstd")
	var all []byte
	for _, content := range contents(t) {
		all = append(all, content...)
	}
	for _, options := range []string{"-1", "-3 --no-check", "-6", "-9 --no-content-size", "-13", "-16", "-19 --check", "--ultra -22 --zstd=wlog=23", "--fast=5", "-3 --long=23", "-19 --zstd=wlog=10", "-5 -B50000"} {
		t.Run(options, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(program, append(strings.Fields(options), "-c", "-T1")...)
			cmd.Stdin = bytes.NewReader(all)
			frame, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			z := NewReader(bytes.NewReader(append(frame, frame...)), 0)
			for i := range 2 {
				got := make([]byte, len(all))
				if _, err := io.ReadFull(z, got); err != nil || !bytes.Equal(got, all) {
					t.Fatalf("frame %d: %v, equal %v", i, err, bytes.Equal(got, all))
				}
			}
			if n, err := z.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
				t.Errorf("at the end: %d, %v", n, err)
			}
		})
	}
}

// TestReadInAnyPieces reads small pieces from a source that gives small pieces.
func TestReadInAnyPieces(t *testing.T) {
	t.Parallel()
	want := contents(t)["far"]
	frame := append([]byte("\x5a\x2a\x4d\x18\x03\x00\x00\x00abc"), packed(t, want)...) // behind a skippable frame
	if err := iotest.TestReader(NewReader(iotest.OneByteReader(bytes.NewReader(frame)), 0), want); err != nil {
		t.Error(err)
	}
	if got, err := io.ReadAll(NewReader(strings.NewReader(""), 0)); err != nil || len(got) != 0 {
		t.Errorf("of nothing: %q, %v", got, err)
	}
}

// TestChecksum compares the hash with those of frames that klauspost's encoder writes.
func TestChecksum(t *testing.T) {
	t.Parallel()
	noise := contents(t)["noise"]
	for n := range 200 {
		var h xxh64
		h.start()
		for rest := noise[:n]; len(rest) > 0; { // in pieces of all sizes
			k := min(len(rest), 1+n%37)
			h.write(rest[:k])
			rest = rest[k:]
		}
		want := uint32(0x51d8e999) // of nothing, of which the encoder writes no checksum
		if n > 0 {
			frame := packed(t, noise[:n])
			want = binary.LittleEndian.Uint32(frame[len(frame)-4:])
		}
		if uint32(h.sum()) != want {
			t.Errorf("%d bytes: %08x, want %08x", n, uint32(h.sum()), want)
		}
	}
}

// TestRefused gives frames that must not pass, each with the word that the error must have.
func TestRefused(t *testing.T) {
	t.Parallel()
	text := contents(t)["text of 299"]
	good := packed(t, text, zstd.WithSingleSegment(true))
	with := func(at int, b byte) []byte {
		out := bytes.Clone(good)
		out[at] ^= b
		return out
	}
	dictionary := append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x21, 7, 3}, 1<<3|1, 0, 0, 'x')
	for name, c := range map[string]struct {
		frame []byte
		word  string
	}{
		"another format":       {[]byte("\x1f\x8b\x08\x00text"), "not of this format"},
		"text":                 {[]byte("{}  "), "not of this format"},
		"too short":            {[]byte("{}"), "unexpected EOF"},
		"cut off":              {good[:len(good)-1], "unexpected EOF"},
		"cut off in a block":   {good[:20], "unexpected EOF"},
		"a cut skippable one":  {[]byte("\x50\x2a\x4d\x18\xff\xff\xff\xfftext"), "unexpected EOF"},
		"wrong checksum":       {with(len(good)-1, 1), "checksum"},
		"reserved flag":        {with(4, reservedFlag), "flag"},
		"dictionary":           {dictionary, "dictionary 7"},
		"wrong size":           {with(5, 4), "its header says"},
		"garbage behind":       {append(bytes.Clone(good), "garb"...), "not of this format"},
		"window":               {streamed(t, make([]byte, 17<<20), zstd.WithWindowSize(16<<20)), "at most 8388608 are allowed"},
		"size of all ones":     {[]byte("\x28\xb5\x2f\xfd\xe0\xff\xff\xff\xff\xff\xff\xff\xff"), "size"},
		"type 3":               {[]byte("\x28\xb5\x2f\xfd\x20\x01\x07\x00\x00"), "type"},
		"block beyond maximum": {[]byte("\x28\xb5\x2f\xfd\x20\x01\x13\x00\x00x"), "at most 1"},
	} {
		got, err := io.ReadAll(NewReader(bytes.NewReader(c.frame), 0))
		if err == nil || !strings.Contains(err.Error(), c.word) {
			t.Errorf("%s: %d bytes, %v, want %q", name, len(got), err, c.word)
		}
	}
}

// TestEveryFlippedBit changes single bits of a frame: with a checksum none of them passes
// as something else.
func TestEveryFlippedBit(t *testing.T) {
	t.Parallel()
	text := contents(t)["skewed"][:3000]
	good := packed(t, append(text, text[:2000]...), zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	want, err := io.ReadAll(NewReader(bytes.NewReader(good), 0))
	if err != nil {
		t.Fatal(err)
	}
	z := NewReader(nil, 0)
	for i := range 8 * len(good) {
		bad := bytes.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		z.Reset(bytes.NewReader(bad))
		if got, err := io.ReadAll(z); err == nil && !bytes.Equal(got, want) && len(got) > 0 {
			t.Errorf("bit %d: %d bytes pass", i, len(got))
		}
	}
}

// TestMemory unpacks a GiB of zeros from a few kilobytes.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("unpacks a gigabyte")
	}
	frame := streamed(t, make([]byte, 1<<26), zstd.WithEncoderCRC(false))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	z, n := NewReader(nil, 0), int64(0)
	for range 16 {
		z.Reset(bytes.NewReader(frame))
		m, err := io.Copy(io.Discard, z)
		if err != nil {
			t.Fatal(err)
		}
		n += m
	}
	runtime.ReadMemStats(&after)
	if most := uint64(4 * defaultWindow); n != 1<<30 || after.TotalAlloc-before.TotalAlloc > most {
		t.Errorf("%d bytes took %d, want at most %d", n, after.TotalAlloc-before.TotalAlloc, most)
	}
}

// FuzzReader compares with klauspost's decoder: what it takes we take, and nothing of the fuzzer
// makes a panic or large memory. What it refuses may pass here where it is the stricter one, but
// never as something with another checksum.
func FuzzReader(f *testing.F) {
	for name, content := range contents(f) {
		if len(content) < 300 && strings.HasSuffix(name, "7") || name == "skewed" {
			f.Add(packed(f, content[:min(len(content), 3000)], zstd.WithEncoderLevel(zstd.SpeedBestCompression)))
		}
	}
	f.Add([]byte("\x5a\x2a\x4d\x18\x03\x00\x00\x00abc"))
	const window, most = 1 << 20, 4 << 20
	d, err := zstd.NewReader(nil, zstd.WithDecoderMaxWindow(window), zstd.WithDecoderMaxMemory(most), zstd.WithDecoderConcurrency(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		want, refused := d.DecodeAll(frame, nil)
		z := NewReader(bytes.NewReader(frame), window)
		got, err := io.ReadAll(io.LimitReader(z, most+1))
		if len(z.window.ring) > window+128<<10 {
			t.Fatalf("a ring of %d bytes", len(z.window.ring))
		}
		if refused == nil && (err != nil || !bytes.Equal(got, want)) {
			t.Fatalf("%d bytes, %v; want %d", len(got), err, len(want))
		}
	})
}

func BenchmarkReader(b *testing.B) {
	content := contents(b)["program"]
	for _, c := range []struct {
		name  string
		frame []byte
	}{{"program", packed(b, content, zstd.WithEncoderLevel(zstd.SpeedBestCompression))}, {"text", packed(b, []byte(strings.Repeat("all work and no play makes Jack a dull boy\n", 50_000)))}} {
		b.Run(c.name, func(b *testing.B) {
			z := NewReader(nil, 0)
			for b.Loop() {
				z.Reset(bytes.NewReader(c.frame))
				n, err := io.Copy(io.Discard, z)
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(n)
			}
		})
	}
}
