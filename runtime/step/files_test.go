package step

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// slowMedium gives a MiB in three seconds.
type slowMedium struct{ left int }

func (s *slowMedium) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	time.Sleep(3 * time.Second)
	n := min(len(p), 1<<20, s.left)
	s.left -= n
	return n, nil
}

func TestProgressOfSlowMedium(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said []string
		f := &Files{Progress: func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }}
		buf := make([]byte, 1<<20)
		r := f.reader(t.Context(), "bsp/modules.squashfs", 5<<20, &slowMedium{5 << 20})
		if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, buf); n != 5<<20 || err != nil {
			t.Fatalf("read %d bytes, %v", n, err)
		}
		want := []string{"checking bsp/modules.squashfs: 2 of 5 MiB", "checking bsp/modules.squashfs: 4 of 5 MiB"}
		if diff := cmp.Diff(want, said); diff != "" {
			t.Errorf("want(-), got(+):\n%s", diff)
		}
	})
}

func TestFastMediumIsSilent(t *testing.T) {
	f := &Files{Progress: func(string, ...any) { t.Error("a line for a small object") }}
	if _, err := io.Copy(io.Discard, f.reader(t.Context(), "bsp/drivers.json", 2, strings.NewReader("{}"))); err != nil {
		t.Error(err)
	}
}

// TestObjectsOfAnotherFileSystemAreCopied lays out a revision where no links to objects are
// possible.
func TestObjectsOfAnotherFileSystemAreCopied(t *testing.T) {
	t.Parallel()
	s := newStorage(t)
	s.revision("1", "content")
	elsewhere, err := os.MkdirTemp("/dev/shm", "objects")
	if err != nil {
		t.Skipf("no second file system: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(elsewhere) })
	sum := s.object("content")
	if err := os.Link(filepath.Join(s.objects.Dir(), sum), filepath.Join(elsewhere, "x")); err == nil {
		t.Skip("/dev/shm is the file system of the temporary directory")
	}
	f, err := s.garbage.Steps.Files("1", s.objects.Dir())
	if err != nil {
		t.Fatal(err)
	}
	f.Dir = elsewhere
	if err := f.Restore(func(string) bool { return true }); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(elsewhere, "app/0")); string(text) != "content" || err != nil {
		t.Errorf("the copy is %q, %v", text, err)
	}
}
