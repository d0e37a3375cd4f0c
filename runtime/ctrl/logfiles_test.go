package ctrl

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLogFiles lists and reads log files, and asks for what is not one.
func TestLogFiles(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, newFake())
	top := t.TempDir()
	s.o.Logs = filepath.Join(top, "logs")
	write(t, filepath.Join(top, "secret"), "secret")
	write(t, filepath.Join(s.o.Logs, "0/web/lxc/console.log"), "hello\n")
	write(t, filepath.Join(s.o.Logs, "locals/one/pantavisor/a b?.log"), "x")
	if err := os.Symlink("0", filepath.Join(s.o.Logs, "current")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../secret", filepath.Join(s.o.Logs, "out")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(s.o.Logs, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	const want = `[{"path":"0/web/lxc/console.log","size":6},{"path":"locals/one/pantavisor/a b?.log","size":1}]`
	if r := ask(t, s, asMgmt, "GET", "/logs", ""); r.body != want {
		t.Errorf("GET /logs: %s %s", r.line, r.body)
	}
	for name, want := range map[string]string{
		"0%2Fweb%2Flxc%2Fconsole.log":              "200 hello\n",
		"current%2Fweb%2Flxc%2fconsole.log":        "200 hello\n",
		"locals%2Fone%2Fpantavisor%2Fa%20b%3F.log": "200 x",
		"0%2Fweb%2Fabsent":                         "404",
		"0":                                        "404",
		"fifo":                                     "404",
		"out":                                      "404",
		"..%2Fsecret":                              "400",
		"%2Fetc%2Fpasswd":                          "400",
		"%zz":                                      "400",
	} {
		r := ask(t, s, asMgmt, "GET", "/logs/"+name, "")
		got := strings.Fields(r.line)[1]
		if got == "200" {
			got += " " + r.body
		}
		if got != want {
			t.Errorf("GET /logs/%s: %q, want %q", name, got, want)
		}
	}
	for _, path := range []string{"/logs", "/logs/0%2Fweb%2Flxc%2Fconsole.log"} {
		if r := ask(t, s, &Caller{Name: "app"}, "GET", path, ""); !strings.Contains(r.line, "403") {
			t.Errorf("GET %s by a container without a role: %s", path, r.line)
		}
	}
}
