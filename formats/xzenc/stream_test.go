package xzenc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/oracle"
)

// compress compresses data, handed over in pieces.
func compress(t testing.TB, o Options, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(t.Context(), &out, o)
	if err != nil {
		t.Fatal(err)
	}
	for len(data) > 0 {
		n := min(len(data), 100_000)
		if got, err := w.Write(data[:n]); err != nil || got != n {
			t.Fatalf("%d of %d bytes are taken: %v", got, n, err)
		}
		data = data[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// variants are options of many kinds.
var variants = map[string]Options{
	"fast":         {},
	"fast, CRC64":  {Check: CRC64, Block: 100_000},
	"fast, pieces": {Window: 64 << 10, Block: 200_000},
	"strong":       {Effort: Strong},
	"x86":          {Effort: Strong, X86: true, Check: CRC64},
	"words":        {Effort: Strong, Words: true},
	"small window": {Effort: Strong, Window: MinDictionary},
	"small blocks": {Effort: Strong, X86: true, Block: 50_001},
}

// branches is data full of what looks like calls and jumps of x86.
func branches(n int) []byte {
	rng, b := rand.New(rand.NewPCG(3, 4)), make([]byte, n)
	for i := range b {
		b[i] = []byte{0xe8, 0xe9, 0, 0xff, 0, 0xff, 1, byte(rng.Uint32())}[rng.IntN(8)]
	}
	return b
}

// contents are contents for streams.
func contents(t testing.TB) map[string][]byte {
	c := blocks(t)
	for name, data := range c {
		c[name] = data[:min(len(data), 150_000)]
	}
	c["branches"] = branches(100_000)
	c["noise, text, noise"] = bytes.Join([][]byte{c["noise"], c["text"], c["noise"][:100_000], c["program"]}, nil)
	return c
}

func TestStreamsComeBack(t *testing.T) {
	t.Parallel()
	oracle.Need(t, "xz")
	contents := contents(t)
	for name, o := range variants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for name, data := range contents {
				o.Workers = 1
				packed := compress(t, o, data)
				if !bytes.Equal(decode(t, packed), data) || !bytes.Equal(run(t, packed, "-dc"), data) {
					t.Errorf("%s comes back as something else", name)
				}
				if limit := len(data) + len(data)/1000 + 100; len(packed) > limit {
					t.Errorf("%s: %d bytes became %d", name, len(data), len(packed))
				}
				if o.Workers = 3; len(data) > o.Block && !bytes.Equal(packed, compress(t, o, data)) {
					t.Errorf("%s: several workers give other bytes", name)
				}
			}
		})
	}
}

// run gives data to the system's xz.
func run(t *testing.T, data []byte, args ...string) []byte {
	t.Helper()
	var errOut strings.Builder
	cmd := exec.Command(oracle.Program(t, "xz"), args...)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(data), &errOut
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("xz %v: %v\n%s", args, err, errOut.String())
	}
	return out
}

// TestListing looks at what the system's xz sees in a stream.
func TestListing(t *testing.T) {
	t.Parallel()
	packed := compress(t, Options{Effort: Strong, X86: true, Block: 40_000, Window: 1 << 20, Check: CRC64}, make([]byte, 100_000))
	file := t.TempDir() + "/a.xz"
	if err := os.WriteFile(file, packed, 0o600); err != nil {
		t.Fatal(err)
	}
	list := string(run(t, nil, "-lvv", file))
	for _, want := range []string{"Blocks:            3\n", "CRC64", "--x86 --lzma2=dict=64KiB", "--x86 --lzma2=dict=32KiB", " 40000 ", "Sizes in headers:  Yes"} {
		if !strings.Contains(strings.ReplaceAll(list, ",", ""), want) {
			t.Errorf("it does not list %q:\n%s", want, list)
		}
	}
}

// TestAsSmallAsXZ compares with the tool at preset 5, on this program.
func TestAsSmallAsXZ(t *testing.T) {
	t.Parallel()
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	program = program[:min(len(program), 3<<19)]
	for name, o := range map[string]Options{"": {Effort: Strong}, "--x86": {Effort: Strong, X86: true}} {
		args := []string{"-c", "--check=crc32", "-T1", "--lzma2=preset=5,dict=8MiB"}
		if name != "" {
			args = append([]string{name}, args...)
		}
		ours, tool := len(compress(t, o, program)), len(run(t, program, args...))
		if ours > tool+tool/200 {
			t.Errorf("%q: %d bytes, xz makes %d", name, ours, tool)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{
		{Effort: 2}, {Check: 2}, {Check: 10}, {Window: 5000}, {Window: 2048}, {Effort: Strong, Window: 128 << 20}, {Effort: Strong, Window: -4096},
		{Block: -1}, {Block: MaxBlock + 1}, {Workers: -1}, {Words: true},
	} {
		if _, err := NewWriter(t.Context(), io.Discard, o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

func TestCanceled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w, err := NewWriter(ctx, io.Discard, Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write([]byte("text"))
	if err = errors.Join(err, w.Close()); !errors.Is(err, context.Canceled) {
		t.Errorf("a stream ends with %v", err)
	}
	if _, err := w.Write([]byte("text")); !errors.Is(err, context.Canceled) {
		t.Errorf("and goes on with %v", err)
	}
}

// full takes so many writes.
type full int

var errFull = errors.New("no space")

func (f *full) Write(p []byte) (int, error) {
	if *f--; *f < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestNoSpace(t *testing.T) {
	t.Parallel()
	data := make([]byte, 1000)
	for n := range 100 {
		to := full(n)
		w, err := NewWriter(t.Context(), &to, Options{Block: 100, Workers: 2})
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Write(data)
		err = errors.Join(err, w.Close())
		if done := to >= 0; done != (err == nil) || !done && !errors.Is(err, errFull) {
			t.Fatalf("after %d writes: %v", n, err)
		}
		if _, err := w.Write(data); err == nil {
			t.Fatal("a closed stream takes more")
		}
		if to >= 0 {
			return
		}
	}
	t.Error("it is never done")
}

// TestMatchesAreThere has the matches of the search trees compared with the block, and with
// all places before.
func TestMatchesAreThere(t *testing.T) {
	t.Parallel()
	rng, block := rand.New(rand.NewPCG(5, 6)), make([]byte, 3000)
	for i := range block {
		block[i] = "aab"[rng.IntN(3)]
	}
	const window, enough = 1 << 10, 20
	f := trees{enough: enough, steps: window}
	f.reset(block, window)
	for pos := 0; pos < len(block); pos++ {
		if rng.IntN(4) == 0 && pos > 0 {
			f.skip(1)
			continue
		}
		got := f.find(nil)
		longest := 0
		for at := max(0, pos-window+1); at < pos; at++ {
			longest = max(longest, extend(block, at, pos, min(len(block)-pos, maxMatch)))
		}
		if len(block)-pos < hashedMore {
			longest = 0
		}
		last := found{}
		for _, m := range got {
			back := int(m.dist) + 1
			if m.length <= last.length || back >= window || extend(block, pos-back, pos, m.length) != m.length {
				t.Fatalf("at %d: a match %+v after %+v", pos, m, last)
			}
			last = m
		}
		if last.length < min(longest, enough) && longest > 3 {
			t.Fatalf("at %d: the longest of %d bytes is not found, only %d", pos, longest, last.length)
		}
	}
}

func FuzzStream(f *testing.F) {
	for _, b := range contents(f) {
		f.Add(b[:min(len(b), 5000)], byte(7), uint16(3000))
	}
	f.Fuzz(func(t *testing.T, data []byte, how byte, block uint16) {
		o := Options{Effort: Effort(how & 1), X86: how&2 != 0, Window: MinDictionary << (how >> 4), Block: max(1, int(block)), Workers: 1}
		o.Words = o.Effort == Strong && how&4 != 0
		o.Window = min(o.Window, MaxDictionary)
		if how&8 != 0 {
			o.Check = CRC64
		}
		if !bytes.Equal(decode(t, compress(t, o, data)), data) {
			t.Error("it comes back as something else")
		}
	})
}

func BenchmarkWriter(b *testing.B) {
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		b.Fatal(err)
	}
	for _, o := range []Options{{Effort: Fast}, {Effort: Strong}} {
		b.Run(fmt.Sprintf("effort %d", o.Effort), func(b *testing.B) {
			b.SetBytes(int64(len(program)))
			for b.Loop() {
				o.Workers = 1
				compress(b, o, program)
			}
		})
	}
}
