package step

import (
	"fmt"
	"io"
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
