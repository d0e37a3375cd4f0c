package web

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLogs(t *testing.T) {
	t.Parallel()
	w := device(t, "{}", nil)
	var lines strings.Builder
	for range 20_000 {
		lines.WriteString("a line of the runtime\n")
	}
	w.logFile("pantavisor/pantavisor.log", lines.String()+"the last line\n")
	w.logFile("pantavisor/pantavisor.log.1.gz", "old")
	w.logFile("web/lxc/console.log", "one\ntwo\nthree")
	w.logFile("web/syslog", "four\n")
	if err := os.Symlink("/etc/passwd", filepath.Join(w.dir, "logs/0/web/passwd")); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]string{
		"":                                  lines.String() + "the last line\n",
		"?tail=true&tailn=2":                "a line of the runtime\nthe last line\n",
		"?tail=true":                        strings.Repeat("a line of the runtime\n", 9) + "the last line\n",
		"?rev=0&source=web/lxc/console.log": "one\ntwo\nthree",
		"?source=web/lxc/console.log&tail=true&tailn=1":    "three",
		"?source=web/lxc/console.log&tail=true&tailn=2":    "two\nthree",
		"?source=web/lxc/console.log&tail=true&tailn=0":    "",
		"?source=web/lxc/console.log&tail=true&tailn=9999": "one\ntwo\nthree",
		"?source=web": "==> web/lxc/console.log <==\none\ntwo\nthree\n==> web/syslog <==\nfour\n",
	} {
		if got := w.ok("GET", "/cgi-bin/logs"+query, ""); got != want {
			t.Errorf("%s: %d bytes, …%q; want …%q", query, len(got), got[max(0, len(got)-80):], want[max(0, len(want)-80):])
		}
	}
	if got := w.ok("GET", "/app/api/logs", ""); strings.Contains(got, "gz") || strings.Contains(got, "passwd") || !strings.Contains(got, `{"source":"web/syslog","size":5}`) {
		t.Errorf("list: %s", got)
	}
	for query, status := range map[string]int{
		"?source=../../secret": 400, "?source=/etc/passwd": 400, "?source=.": 400, "?rev=..": 400, "?tail=true&tailn=-1": 400,
		"?rev=7": 404, "?source=other": 404,
	} {
		w.fails(status, "", "GET", "/cgi-bin/logs"+query, "")
	}
	if code, _, text := w.do("GET", "/cgi-bin/logs?source=web/passwd", nil); strings.Contains(text, "root:") {
		t.Errorf("a link leads out: %d %s", code, text)
	}
}

// TestLogWithoutEnd wants the lines that are written while a log is followed, also when the
// file was emptied or replaced.
func TestLogWithoutEnd(t *testing.T) {
	t.Parallel()
	w := device(t, "{}", nil)
	w.logFile("web/syslog", "before\nlast\n")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", w.web.URL+"/cgi-bin/logs?source=web/syslog&tail=true&follow=true&tailn=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := w.web.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	in := bufio.NewScanner(resp.Body)
	next := func(want string) {
		t.Helper()
		if !in.Scan() || in.Text() != want {
			t.Fatalf("%q, %v; want %q", in.Text(), in.Err(), want)
		}
	}
	next("last")
	path := filepath.Join(w.dir, "logs/0/web/syslog")
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("new\n"); errors.Join(err, f.Close()) != nil {
		t.Fatal(err)
	}
	next("new")
	w.logFile("web/syslog", "x\n")
	next("x")
	w.logFile("web/next", "a longer text than before\n")
	if err := os.Rename(filepath.Join(w.dir, "logs/0/web/next"), path); err != nil {
		t.Fatal(err)
	}
	next("a longer text than before")
}
