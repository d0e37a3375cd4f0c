package xzenc

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/therootcompany/xz"

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
	r, err := xz.NewReader(bytes.NewReader(packed), MaxWindow)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// blocks are contents of many kinds.
func blocks(t testing.TB) map[string][]byte {
	t.Helper()
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, MaxDictionary)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	return map[string][]byte{
		"empty": nil, "byte": {7}, "two": {7, 7}, "three": {1, 2, 3}, "zeros": make([]byte, MaxDictionary),
		"text": []byte(strings.Repeat("the quick brown fox. ", 3000)), "noise": noise,
		"noise and text": append(bytes.Clone(noise[:200_000]), strings.Repeat("abcabc", 20_000)...),
		"program":        program[:min(len(program), MaxDictionary)], "rare": bytes.Repeat(append(make([]byte, 300), 1), 1000),
	}
}

func TestRoundTrip(t *testing.T) {
	e, err := New(MaxDictionary)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range blocks(t) {
		packed := encode(t, e, block)
		if !bytes.Equal(decode(t, packed), block) {
			t.Errorf("%s comes back as something else", name)
		}
		if limit := len(block) + len(block)/32 + 100; len(packed) > limit {
			t.Errorf("%s: %d bytes became %d", name, len(block), len(packed))
		}
		if again := encode(t, e, block); !bytes.Equal(packed, again) {
			t.Errorf("%s: a second time gives other bytes", name)
		}
	}
}

func TestSystemDecoder(t *testing.T) {
	oracle.Need(t, "xz")
	e, err := New(64 << 10)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range blocks(t) {
		block = block[:min(len(block), 64<<10)]
		cmd := exec.Command("xz", "-dc")
		cmd.Stdin = bytes.NewReader(encode(t, e, block))
		out, err := cmd.Output()
		if err != nil || !bytes.Equal(out, block) {
			t.Errorf("%s: xz says %v", name, err)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, size := range []int{0, 4095, 5000, 2 << 20} {
		if _, err := New(size); err == nil {
			t.Errorf("a dictionary of %d bytes is accepted", size)
		}
	}
	e, err := New(MinDictionary)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Append(nil, make([]byte, MinDictionary+1)); err == nil {
		t.Error("a block beyond the dictionary is accepted")
	}
}

func FuzzRoundTrip(f *testing.F) {
	for _, b := range blocks(f) {
		f.Add(b[:min(len(b), 5000)])
	}
	e, err := New(64 << 10)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, block []byte) {
		if len(block) <= 64<<10 && !bytes.Equal(decode(t, encode(t, e, block)), block) {
			t.Error("it comes back as something else")
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	block := blocks(b)["program"]
	e, err := New(MaxDictionary)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(block)))
	var out []byte
	for b.Loop() {
		if out, err = e.Append(out[:0], block); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(out))/float64(len(block)), "ratio")
}
