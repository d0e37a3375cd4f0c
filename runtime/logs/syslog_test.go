package logs

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"unicode/utf8"

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
	// An empty message is no end.
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
	if _, err := s.ServeSyslog(filepath.Join(path, "no/folder"), "app"); err == nil {
		t.Error("a socket without a folder was made")
	}
}

// FuzzAppendJSON writes strings that any JSON reader gives back.
func FuzzAppendJSON(f *testing.F) {
	for _, seed := range []string{"", "plain", "\"\\\n\r\t\x00\x1f\x7f", "é\xff\xfe\u2028", "\xe2\x82", "\ufffd"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var back string
		out := appendJSON(nil, text)
		if err := json.Unmarshal(out, &back); err != nil || !utf8.Valid(out) {
			t.Fatalf("%q becomes %s: %v", text, out, err)
		}
		reference, _ := json.Marshal(text)
		var want string
		if err := json.Unmarshal(reference, &want); err != nil || back != want {
			t.Fatalf("%q comes back as %q", text, back)
		}
		if same := appendJSON(nil, []byte(text)); string(same) != string(out) {
			t.Fatalf("bytes become %s, a string %s", same, out)
		}
	})
}
