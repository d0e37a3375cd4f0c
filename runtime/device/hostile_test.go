package device

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/pantavisor/pantavisor/runtime/ctrl/replaytest"
)

// hostileNames are names that must neither become paths nor break an answer.
var hostileNames = []string{
	"..", ".", "...", "%2e%2e", "..%2f..%2f..%2fetc%2fpasswd", "%2fetc%2fpasswd", "..%5c..", "a%00b", "%", "%zz", "\xff\xfe", "%ff%fe",
	"{}", "\"", "'", "\\", "<script>", "~", "*", "$(id)", "-rf", ".hidden", ".trash-x", "current", "locals", "_pv_", "_", "pantavisor",
	"é", "\u202e", strings.Repeat("x", 255), strings.Repeat("x", 256), strings.Repeat("x", 4000), strings.Repeat("é", 2000), strings.Repeat("..%2f", 800),
}

// hostilePaths are all paths that take a name.
var hostilePaths = []struct{ method, path, body string }{
	{"PUT", "/containers/%s", `{"action":"stop"}`}, {"PUT", "/daemons/%s", `{"action":"stop"}`}, {"GET", "/objects/%s", ""}, {"PUT", "/objects/%s", "x"},
	{"GET", "/steps/%s", ""}, {"GET", "/steps/locals/%s", ""}, {"PUT", "/steps/locals/%s", `{"#spec":"pantavisor-service-system@1"}`},
	{"GET", "/steps/%s/progress", ""}, {"GET", "/steps/locals/%s/progress", ""}, {"PUT", "/steps/%s/commitmsg", "x"}, {"PUT", "/steps/locals/%s/commitmsg", "x"},
	{"PUT", "/user-meta/%s", "x"}, {"DELETE", "/user-meta/%s", ""}, {"PUT", "/device-meta/%s", "x"}, {"DELETE", "/device-meta/%s", ""},
	{"PUT", "/drivers/%s/load", ""}, {"PUT", "/drivers/%s/unload", ""}, {"GET", "/%s", ""}, {"POST", "/%s", "{}"},
}

// files lists the files below a directory, without logs and unfinished objects.
func files(dir string, but ...string) (list []string) {
	_ = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, path)
		if err == nil && !slices.ContainsFunc(but, func(b string) bool { return strings.HasPrefix(rel, b) }) {
			list = append(list, rel)
		}
		return nil //nolint:nilerr // files come and go
	})
	return list
}

// TestHostileNames sends every name to every path that takes one. Each gets an answer
// or the end of its connection, and nothing appears but metadata and local steps.
func TestHostileNames(t *testing.T) {
	d := newDevice(t)
	d.add("one", "app", "/sbin/init wait", nil)
	d.boot()
	d.await(map[string]string{"one": "STARTED"})
	places := []string{"logs", "cache/meta", "cache/devmeta", "trails/locals", "trails/0/.pv/commitmsg"}
	before := files(d.dir+"/storage", places...)
	for _, p := range hostilePaths {
		for _, name := range hostileNames {
			what := fmt.Sprintf("%s %s", p.method, fmt.Sprintf(p.path, name))
			raw := fmt.Sprintf("%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", what, len(p.body), p.body)
			conn := d.as(nil, "_pv_")
			a := replaytest.RoundTrip(t, conn, raw, p.method)
			_ = conn.Close()
			switch {
			case a == nil:
				t.Errorf("%.80q: no answer", what)
			case a.Body != "" && (!json.Valid([]byte(a.Body)) || !utf8.ValidString(a.Body)):
				t.Errorf("%.80q: the answer is not JSON: %.200q", what, a.Body)
			case strings.HasPrefix(a.Line, "HTTP/1.1 5"):
				t.Errorf("%.80q: %s %.200s", what, a.Line, a.Body)
			}
		}
	}
	if after := files(d.dir+"/storage", places...); !slices.Equal(before, after) {
		t.Errorf("the storage holds\n%q\nbefore it held\n%q", after, before)
	}
	for _, list := range []string{"/steps", "/user-meta", "/device-meta", "/objects", "/containers"} {
		if body := d.ask("GET", list, ""); !json.Valid([]byte(body)) || !utf8.ValidString(body) {
			t.Errorf("%s is not JSON: %.300q", list, body)
		}
	}
	if outside, _ := filepath.Glob(d.dir + "/*"); len(outside) > 8 {
		t.Errorf("the device's directory holds %q", outside)
	}
}

// TestWrongUTF8 sends names, values and payloads that are not valid UTF-8.
func TestWrongUTF8(t *testing.T) {
	d := newDevice(t)
	d.add("one", "app", "/sbin/init wait", nil)
	d.boot()
	d.await(map[string]string{"one": "STARTED"})
	const wrong = "a\xff\xc0\x80\xed\xa0\x80z"
	for _, r := range []struct{ method, path, body string }{
		{"PUT", "/user-meta/k", wrong}, {"PUT", "/device-meta/k", wrong}, {"PUT", "/user-meta/j", `{"k":"` + wrong + `"}`},
		{"PUT", "/steps/0/commitmsg", wrong}, {"PUT", "/containers/one", `{"action":"` + wrong + `"}`}, {"POST", "/commands", `{"op":"` + wrong + `","payload":""}`},
		{"POST", "/commands", wrong}, {"POST", "/signal", `{"type":"` + wrong + `"}`}, {"PUT", "/steps/locals/x", `{"#spec":"` + wrong + `"}`},
		{"PUT", "/steps/locals/y", `{"#spec":"pantavisor-service-system@1","` + wrong + `/run.json":{}}`},
	} {
		if _, err := d.try(r.method, r.path, r.body); err != nil && (!utf8.ValidString(err.Error()) || strings.HasPrefix(err.Error(), "500 {\"Error\":\"Internal")) {
			t.Errorf("%s %s: %q", r.method, r.path, err)
		}
	}
	for _, list := range []string{"/steps", "/user-meta", "/device-meta", "/containers"} {
		if body := d.ask("GET", list, ""); !json.Valid([]byte(body)) || !utf8.ValidString(body) {
			t.Errorf("%s is not JSON: %q", list, body)
		}
	}
}

// timed asks for the containers over a new connection, n times, and returns how long each took.
func (d *device) timed(n int) []time.Duration {
	d.t.Helper()
	const request = "GET /containers HTTP/1.0\r\nHost: localhost\r\n\r\n"
	took := make([]time.Duration, n)
	for i := range took {
		began := time.Now()
		conn, err := net.Dial("unix", d.dir+"/run/pv-ctrl")
		if err != nil {
			d.t.Fatal(err)
		}
		_, _ = io.WriteString(conn, request)
		if body, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(body), "HTTP/1.0 200") {
			d.t.Fatalf("%q, %v", body, err)
		}
		_ = conn.Close()
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return took
}

// report adds the median, the 99th percentile and the longest to a benchmark.
func report(b *testing.B, took []time.Duration) {
	ms := func(i int) float64 { return took[i].Seconds() * 1000 }
	b.ReportMetric(ms(len(took)/2), "p50-ms")
	b.ReportMetric(ms(len(took)*99/100), "p99-ms")
	b.ReportMetric(ms(len(took)-1), "max-ms")
}

// BenchmarkContainers asks a device with four containers for them, each time over a new connection.
func BenchmarkContainers(b *testing.B) {
	d := newDevice(b)
	up := map[string]string{}
	for _, n := range []string{"a", "b", "c", "d"} {
		d.add(n, "app", "/sbin/init wait", nil)
		up[n] = "STARTED"
	}
	d.boot()
	d.await(up)
	d.timed(200)
	b.ResetTimer()
	report(b, d.timed(b.N))
}

// BenchmarkUnderAttack asks for the containers while other clients send malformed or
// oversized requests: each attack uses eight connections.
func BenchmarkUnderAttack(b *testing.B) {
	half := strings.Repeat("x", 1<<16)
	for name, request := range map[string]string{
		"half-requests": "GET /contai", "no-end": "PUT /user-meta/k HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + "10000\r\n" + half + "\r\n",
		"1GiB-body":   "PUT /steps/locals/x HTTP/1.1\r\nContent-Length: 1073741824\r\n\r\n" + half,
		"1GiB-object": "PUT /objects/" + strings.Repeat("0", 64) + " HTTP/1.1\r\nContent-Length: 1073741824\r\n\r\n" + half,
		"long-names":  "PUT /containers/" + strings.Repeat("x", 4000) + " HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
		"garbage":     "\xff\xfe\x00 / HTTP/9.9\r\n\r\n", "dots": "PUT /steps/locals/..%2f..%2f HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
	} {
		b.Run(name, func(b *testing.B) {
			d := newDevice(b)
			d.add("one", "app", "/sbin/init wait", map[string]any{"roles": []string{"mgmt"}})
			d.boot()
			d.await(map[string]string{"one": "STARTED"})
			stop := d.attack(request)
			defer stop()
			d.timed(20)
			b.ResetTimer()
			report(b, d.timed(b.N))
		})
	}
}

// attack sends a request repeatedly from a process of the container "one", until stop is
// called.
func (d *device) attack(request string) (stop func()) {
	socket := d.relayIn("lxc/one")
	var over atomic.Bool
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for !over.Load() {
				conn, err := net.Dial("unix", socket)
				if err != nil {
					return
				}
				_ = conn.SetDeadline(time.Now().Add(100 * time.Millisecond))
				_, _ = io.WriteString(conn, request)
				_, _ = io.Copy(io.Discard, conn)
				_ = conn.Close()
			}
		})
	}
	return func() {
		over.Store(true)
		wg.Wait()
		_ = os.Remove(socket)
	}
}
