package powercut

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestServesKernel writes and flushes through the kernel.
func TestServesKernel(t *testing.T) {
	if _, err := os.Stat("/dev/fuse"); err != nil || os.Geteuid() != 0 {
		t.Skipf("needs root and FUSE: %v", err)
	}
	path := filepath.Join(t.TempDir(), "disk")
	must(t, os.WriteFile(path, nil, 0o600))
	rec := newRecorder(newDisk(bytes.NewReader(bytes.Repeat([]byte{7}, 1<<20)), 4<<20), 0)
	s, err := serveFile(path, rec)
	must(t, err)
	defer func() { must(t, s.Close()) }()
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0) // without Go's poller: the server is in this process
	must(t, err)
	defer unix.Close(fd)
	var st unix.Stat_t
	must(t, unix.Fstat(fd, &st))
	if st.Size != 4<<20 {
		t.Errorf("the file has %d bytes", st.Size)
	}
	for _, at := range []int64{5000, 4998} {
		_, err = unix.Pwrite(fd, []byte("hello"), at)
		must(t, err)
		must(t, unix.Fsync(fd))
	}
	b := make([]byte, 9)
	_, err = unix.Pread(fd, b, 4997)
	must(t, err)
	if string(b) != "\x07hellolo\x07" {
		t.Errorf("it has %q", b)
	}
	type op struct {
		kind kind
		off  int64
		data string
	}
	var got []op
	for _, e := range rec.Log() {
		got = append(got, op{e.Kind, e.Off, string(e.Data)})
	}
	want := []op{{wrote, 5000, "hello"}, {flushed, 0, ""}, {wrote, 4998, "hello"}, {flushed, 0, ""}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(op{})); diff != "" {
		t.Errorf("recorded: want(-), got(+):\n%s", diff)
	}
}
