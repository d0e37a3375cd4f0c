package verity

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/oracle"
)

const (
	testSalt = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	testUUID = "6f2b1a34-0c5d-4e7f-8a90-b1c2d3e4f506"
)

func makeTree(t testing.TB, data []byte, piece int) (*Tree, []byte, string) {
	t.Helper()
	p, err := ParseParams(testSalt, testUUID)
	if err != nil {
		t.Fatal(err)
	}
	tree := NewTree(p)
	for at := 0; at < len(data); at += piece {
		if _, err := tree.Write(data[at:min(at+piece, len(data))]); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if _, err := tree.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	root, err := tree.Root()
	if err != nil {
		t.Fatal(err)
	}
	return tree, b.Bytes(), root
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8 + i>>16)
	}
	return b
}

func TestPiecesDoNotMatter(t *testing.T) {
	data := pattern(1<<20 + 100)
	_, want, root := makeTree(t, data, len(data))
	for _, piece := range []int{1 << 12, 100_001, 4095} {
		if _, got, r := makeTree(t, data, piece); !bytes.Equal(got, want) || r != root {
			t.Errorf("written in pieces of %d bytes the tree differs", piece)
		}
	}
}

// TestVeritysetupAgrees has the reference program verify trees of several depths,
// and refuse one after a bit was turned.
func TestVeritysetupAgrees(t *testing.T) {
	veritysetup := oracle.Program(t, "veritysetup")
	for _, blocks := range []int{1, 2, 127, 128, 129, 128 * 128, 128*128 + 1} {
		data := pattern(blocks * BlockSize)
		_, tree, root := makeTree(t, data, 1<<20)
		verify := func() error {
			dir := t.TempDir()
			for name, b := range map[string][]byte{"data": data, "hash": tree} {
				if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			return exec.Command(veritysetup, "verify", filepath.Join(dir, "data"), filepath.Join(dir, "hash"), root).Run()
		}
		if err := verify(); err != nil {
			t.Errorf("%d blocks: %v", blocks, err)
		}
		data[len(data)/2] ^= 1
		if err := verify(); err == nil {
			t.Errorf("%d blocks: a turned bit was not found", blocks)
		}
	}
}

func TestRecordedVolumes(t *testing.T) {
	dir := oracle.Recordings(t, "golden/pvr/dm")
	text := oracle.Read(t, "golden/pvr/dm/volumes.json")
	var recorded struct {
		Volumes []struct {
			Volume, Manifest string
			Size             int
			HashFile         string `json:"hash_file"`
		}
	}
	if err := json.Unmarshal(text, &recorded); err != nil {
		t.Fatal(err)
	}
	if len(recorded.Volumes) == 0 {
		t.Fatal("no volume in the recording")
	}
	for i, v := range recorded.Volumes {
		t.Run(v.Volume, func(t *testing.T) {
			var m struct {
				Root string `json:"root_hash"`
				Salt string
				UUID string
			}
			if err := json.Unmarshal([]byte(v.Manifest), &m); err != nil {
				t.Fatal(err)
			}
			p, err := ParseParams(m.Salt, m.UUID)
			if err != nil {
				t.Fatal(err)
			}
			tree := NewTree(p)
			_, _ = tree.Write(recordedData(i, v.Size))
			var got bytes.Buffer
			if _, err := tree.WriteTo(&got); err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(filepath.Join(dir, v.HashFile))
			if err != nil {
				t.Fatal(err)
			}
			if root, _ := tree.Root(); root != m.Root || !bytes.Equal(got.Bytes(), want) {
				t.Errorf("root hash %s, want %s; same hash device: %t", root, m.Root, bytes.Equal(got.Bytes(), want))
			}
		})
	}
}

func recordedData(volume, size int) []byte {
	var b []byte
	for i := 0; len(b) < size; i++ {
		sum := sha256.Sum256(fmt.Appendf(nil, "dm-g-%d:%d", volume, i))
		b = append(b, sum[:]...)
	}
	return b[:size]
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct{ salt, uuid, want string }{
		{"xy", testUUID, "salt"}, {strings.Repeat("00", 257), testUUID, "salt"},
		{testSalt, "", "UUID"}, {testSalt, testUUID[:35] + "g", "UUID"}, {testSalt, strings.ReplaceAll(testUUID, "-", "_"), "UUID"},
	} {
		if _, err := ParseParams(c.salt, c.uuid); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("salt %.10q UUID %q: error %v, want one about the %s", c.salt, c.uuid, err, c.want)
		}
	}
	tree := NewTree(Params{})
	_, _ = tree.Write(make([]byte, BlockSize-1))
	if _, err := tree.WriteTo(&bytes.Buffer{}); err == nil {
		t.Error("less than a block: no error")
	}
	if _, err := tree.Root(); err == nil {
		t.Error("less than a block: a root hash")
	}
}

func BenchmarkTree(b *testing.B) {
	data := pattern(64 << 20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		makeTree(b, data, 1<<20)
	}
}
