package xz4_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os/exec"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ulikunitz/xz"

	"github.com/pantavisor/pantavisor/formats/xz4"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

// stream compresses data in Go, with one block.
func stream(t testing.TB, check byte, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := xz.WriterConfig{CheckSum: check, DictCap: 1 << 16}.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func input(b []byte) xz4.Input { return xz4.Input{ReaderAt: bytes.NewReader(b), Size: int64(len(b))} }

func join(t testing.TB, parts ...[]byte) []byte {
	t.Helper()
	var ins []xz4.Input
	for _, p := range parts {
		ins = append(ins, input(p))
	}
	var b bytes.Buffer
	if err := xz4.Join(&b, ins...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func noise(n int) []byte {
	r, b := rand.New(rand.NewPCG(1, uint64(n))), make([]byte, n)
	for i := range b {
		b[i] = byte(r.IntN(7))
	}
	return b
}

// tool runs the system's xz over data.
func tool(t *testing.T, data []byte, args ...string) []byte {
	t.Helper()
	path := oracle.Program(t, "xz")
	var errOut bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(data), &errOut
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("xz %v: %v\n%s", args, err, errOut.Bytes())
	}
	return out
}

func TestSystemXzUnpacksJoinedStream(t *testing.T) {
	a, b, c := noise(100_003), noise(1), noise(70_001)
	byTool := tool(t, c, "-6", "--check=crc32", "-T1", "--block-size=20000")
	joined := join(t, stream(t, xz.CRC32, a), stream(t, xz.CRC32, b), byTool)
	if !bytes.Equal(tool(t, joined, "-dc", "--single-stream"), bytes.Join([][]byte{a, b, c}, nil)) {
		t.Error("unpacked content differs")
	}
	tool(t, joined, "-t")
	blocks, err := xz4.Blocks(input(joined))
	if err != nil || len(blocks) != 2+4 {
		t.Errorf("%d blocks, want 6: %v", len(blocks), err)
	}
}

func TestJoinedStreamsJoinAgain(t *testing.T) {
	a, b := stream(t, xz.CRC32, noise(5)), stream(t, xz.CRC32, noise(6000))
	nested, flat := join(t, join(t, a, b), a), join(t, a, b, a)
	if diff := cmp.Diff(flat, nested); diff != "" {
		t.Error(diff)
	}
}

// TestSplitStreams: each is a whole stream, and together they are what they were.
func TestSplitStreams(t *testing.T) {
	parts := [][]byte{noise(1000), noise(5), noise(70000)}
	whole := join(t, stream(t, xz.CRC32, parts[0]), stream(t, xz.CRC32, parts[1]), stream(t, xz.CRC32, parts[2]))
	streams, blocks, err := xz4.Split(input(whole))
	if err != nil || len(streams) != 3 || len(blocks) != 3 {
		t.Fatalf("%d streams, %v", len(streams), err)
	}
	var all [][]byte
	for i, s := range streams {
		b, err := io.ReadAll(io.NewSectionReader(s, 0, s.Size))
		if err != nil || int64(len(b)) != s.Size || blocks[i].Uncompressed != uint64(len(parts[i])) {
			t.Fatalf("stream %d: %d bytes, want %d: %v", i, len(b), s.Size, err)
		}
		if got := tool(t, b, "-dc"); !bytes.Equal(got, parts[i]) {
			t.Errorf("stream %d has other data", i)
		}
		for at := range b { // from any place
			two := make([]byte, 2)
			n, _ := s.ReadAt(two, int64(at))
			if n != min(2, len(b)-at) || !bytes.Equal(two[:n], b[at:at+n]) {
				t.Fatalf("stream %d: %x at %d, want %x", i, two[:n], at, b[at:min(at+2, len(b))])
			}
			if at > 3000 {
				break
			}
		}
		all = append(all, b)
	}
	if !bytes.Equal(join(t, all...), whole) {
		t.Error("joined again, it is another stream")
	}
	if _, _, err := xz4.Split(input(whole[:100])); err == nil {
		t.Error("a cut stream was split")
	}
}

func TestResultIsPadded(t *testing.T) {
	for n := range 9 {
		if got := int64(len(join(t, stream(t, xz.CRC32, noise(n+1))))); xz4.Pad(got) != 0 {
			t.Errorf("%d bytes of content: %d bytes", n, got)
		}
	}
	for n, want := range []int64{0, 3, 2, 1, 0} {
		if got := xz4.Pad(int64(n)); got != want {
			t.Errorf("Pad(%d) = %d, want %d", n, got, want)
		}
	}
}

func TestNoPartsIsAnEmptyStream(t *testing.T) {
	if out := tool(t, join(t), "-dc"); len(out) != 0 {
		t.Errorf("%d bytes", len(out))
	}
}

func TestUnusableInputIsRefused(t *testing.T) {
	good := stream(t, xz.CRC32, noise(3000))
	flip := func(at int) []byte {
		b := bytes.Clone(good)
		b[(at+len(b))%len(b)] ^= 0x10
		return b
	}
	for name, data := range map[string][]byte{
		"empty": nil, "short": good[:20], "cut": good[:len(good)-4],
		"two streams": append(bytes.Clone(good), good...), "other check": stream(t, xz.CRC64, noise(9)),
		"header": flip(1), "block header": flip(13), "index": flip(-20), "footer": flip(-7), "padded": append(bytes.Clone(good), 0, 0, 0, 0),
	} {
		if err := xz4.Join(io.Discard, input(data)); !errors.Is(err, xz4.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzBlocks(f *testing.F) {
	f.Add(stream(f, xz.CRC32, noise(300)))
	f.Add(join(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		blocks, err := xz4.Blocks(input(data))
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := xz4.Join(&b, input(data)); err != nil {
			t.Fatal(err)
		}
		again, err := xz4.Blocks(input(b.Bytes()))
		if diff := cmp.Diff(blocks, again); err != nil || diff != "" {
			t.Fatal(err, diff)
		}
	})
}

// TestAsManyBlocksAsAreRead: what Join writes, Blocks reads.
func TestAsManyBlocksAsAreRead(t *testing.T) {
	t.Parallel()
	one := stream(t, xz.CRC32, []byte("x"))
	thousand := join(t, slices.Repeat([][]byte{one}, 1000)...)
	most := join(t, slices.Repeat([][]byte{thousand}, 524)...) // two bytes of index for each block
	blocks, err := xz4.Blocks(input(most))
	if err != nil || len(blocks) != 524_000 {
		t.Errorf("%d blocks: %v", len(blocks), err)
	}
	if err := xz4.Join(io.Discard, input(most), input(thousand)); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("more blocks than an index that is read has: %v", err)
	}
}
