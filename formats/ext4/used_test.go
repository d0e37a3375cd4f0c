package ext4

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/pantavisor/pantavisor/internal/oracle"
)

// fileSystem makes one of so many KiB at an offset of a file.
func fileSystem(t testing.TB, offset int64, kib string, args ...string) string {
	t.Helper()
	tool := oracle.Program(t, "mke2fs")
	img := filepath.Join(t.TempDir(), "img")
	args = append(args, "-q", "-F", "-E", "offset="+strconv.FormatInt(offset, 10), "-d", "testdata", img, kib+"k")
	if err := os.WriteFile(img, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(tool, args...).CombinedOutput(); err != nil {
		t.Fatalf("mke2fs %v: %v\n%s", args, err, out)
	}
	return img
}

var counts = regexp.MustCompile(`(?s)\nBlock count: +(\d+).*\nFree blocks: +(\d+).*\nFirst block: +(\d+).*\nBlock size: +(\d+)`)

// TestUsedIsWhatIsNotFree compares the blocks with the counts of dumpe2fs, and what they
// are with the list of free ones.
func TestUsedIsWhatIsNotFree(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		offset int64
		kib    string
		args   []string
	}{
		"as in images":          {1 << 20, "4000000", []string{"-t", "ext4", "-b", "4096", "-O", "64bit,metadata_csum"}},
		"of 32 bits":            {0, "600000", []string{"-t", "ext4", "-b", "4096", "-O", "^64bit,^metadata_csum"}},
		"small blocks":          {512, "100001", []string{"-t", "ext4", "-b", "1024"}},
		"a copy in every group": {0, "60000", []string{"-t", "ext4", "-b", "1024", "-O", "^sparse_super,^resize_inode"}},
		"our own":               {},
		"no flexible groups":    {0, "700000", []string{"-t", "ext4", "-O", "^flex_bg"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			img := write(t, options(900<<20), randomTree(5, 200)...)
			if c.args != nil {
				img = fileSystem(t, c.offset, c.kib, c.args...)
			}
			f, err := os.Open(img)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			used, err := Used(f, c.offset)
			if err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(oracle.Program(t, "dumpe2fs"), img+"?offset="+strconv.FormatInt(c.offset, 10)).Output()
			if err != nil {
				t.Fatal(err)
			}
			n := numbers(t, counts.FindSubmatch(out)[1:])
			want := (n[0] - n[1] - n[2]) * n[3]
			var total, end int64
			for _, e := range used {
				if e.Offset <= end && end > 0 {
					t.Errorf("%v is not behind %d", e, end)
				}
				total, end = total+e.Length, e.Offset+e.Length
			}
			if total != want {
				t.Errorf("%d bytes are in use, dumpe2fs says %d", total, want)
			}
			for _, free := range regexp.MustCompile(`  Free blocks: (\d+)-`).FindAllSubmatch(out, -1) {
				at := c.offset + numbers(t, free[1:])[0]*n[3]
				for _, e := range used {
					if e.Offset <= at && at < e.Offset+e.Length {
						t.Errorf("the free block at %d is in use", at)
					}
				}
			}
		})
	}
}

func numbers(t *testing.T, texts [][]byte) []int64 {
	t.Helper()
	var out []int64
	for _, text := range texts {
		n, err := strconv.ParseInt(string(text), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, n)
	}
	return out
}

func TestOthersAreRefused(t *testing.T) {
	t.Parallel()
	for _, features := range []string{"meta_bg,^resize_inode", "bigalloc"} {
		text, err := os.ReadFile(fileSystem(t, 0, "30000", "-t", "ext4", "-O", features))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Used(bytes.NewReader(text), 0); !errors.Is(err, errFormat) {
			t.Errorf("%s: %v", features, err)
		}
	}
	if _, err := Used(bytes.NewReader(make([]byte, 4096)), 0); !errors.Is(err, errFormat) {
		t.Errorf("zeros: %v", err)
	}
	if _, err := Used(bytes.NewReader(nil), 0); err == nil {
		t.Error("nothing was taken for a file system")
	}
}

// FuzzUsed: whatever the superblock says, no range leaves the file system.
func FuzzUsed(f *testing.F) {
	text, err := os.ReadFile(fileSystem(f, 0, "2000", "-t", "ext4", "-b", "1024"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text[1024:4096])
	f.Fuzz(func(t *testing.T, head []byte) {
		whole := make([]byte, 64<<10)
		copy(whole[1024:], head)
		used, err := Used(bytes.NewReader(whole), 0)
		if err == nil && len(used) > 0 && used[0].Offset < 0 {
			t.Errorf("got %v", used[0])
		}
	})
}
