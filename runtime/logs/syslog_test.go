package logs

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// syslog3 sends as syslog(3) does.
func syslog3(t *testing.T, path string, messages ...string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		if _, err := unix.Write(fd, []byte(m)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSyslogOfAContainer(t *testing.T) {
	s, dir := start(t, Options{})
	path := filepath.Join(t.TempDir(), "app")
	l, err := s.ServeSyslog(path, "app")
	if err != nil {
		t.Fatal(err)
	}
	// An empty message is not an end.
	syslog3(t, path, "<14>Oct 11 22:14:15 one: a", "", "<14>one: b\n")
	await(t, s, "Oct 11 22:14:15 one: a\none: b\n", dir, "0/app/one")
	for i := range 200 {
		syslog3(t, path, fmt.Sprintf("<11>two: %d", i))
	}
	l.Close()
	l.Close()
	s.Flush()
	want := ""
	for i := range 200 {
		want += fmt.Sprintf("two: %d\n", i)
	}
	if got := read(t, dir, "0/app/two"); got != want {
		t.Errorf("%d bytes came, want all %d", len(got), len(want))
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the socket is left")
	}
	if _, err := s.ServeSyslog(filepath.Join(path, "no/directory"), "app"); err == nil {
		t.Error("a socket without a directory was made")
	}
}
