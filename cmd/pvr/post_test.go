package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// endpoint is a device's own endpoint: the protocol without authentication.
type endpoint struct {
	mu      sync.Mutex
	state   string
	objects map[string][]byte
	posts   []map[string]any
	puts    int // uploads
}

func newEndpoint(t *testing.T) (*endpoint, string) {
	t.Helper()
	e := &endpoint{state: `{"#spec":"pantavisor-service-system@1"}`, objects: map[string][]byte{}}
	srv := httptest.NewServer(e)
	t.Cleanup(srv.Close)
	return e, srv.URL + "/cgi-bin/pvr"
}

// ServeHTTP implements http.Handler.
func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	base := "http://" + r.Host + "/cgi-bin/pvr"
	path := strings.TrimPrefix(r.URL.Path, "/cgi-bin/pvr")
	body, _ := io.ReadAll(r.Body)
	sum := filepath.Base(path)
	reply := func(v any) { _ = json.NewEncoder(w).Encode(v) }
	switch {
	case path == "/.pvrremote":
		reply(map[string]any{"pvr-spec": "pvr-pantahub-1", "json-get-url": base + "/json", "json-key": "state",
			"objects-endpoint": base + "/objects", "post-url": base + "/steps", "post-fields": []string{}, "post-fields-opt": []string{}})
	case path == "/json":
		_, _ = io.WriteString(w, e.state)
	case strings.HasPrefix(path, "/data/") && r.Method == http.MethodPut:
		e.objects[sum], e.puts = body, e.puts+1
	case strings.HasPrefix(path, "/data/"):
		_, _ = w.Write(e.objects[sum])
	case path == "/objects/" && r.Method == http.MethodPost:
		e.announced(w, base, body, reply)
	case strings.HasPrefix(path, "/objects/"):
		reply(map[string]any{"id": sum, "sha256sum": sum, "size": fmt.Sprint(len(e.objects[sum])), "sizeint": len(e.objects[sum]),
			"objectname": "x", "signed-geturl": base + "/data/" + sum})
	case path == "/steps":
		e.step(body, reply)
	default:
		http.NotFound(w, r)
	}
}

func (e *endpoint) announced(w http.ResponseWriter, base string, body []byte, reply func(any)) {
	var o struct {
		Sum string `json:"sha256sum"`
	}
	_ = json.Unmarshal(body, &o)
	if _, ok := e.objects[o.Sum]; ok {
		w.WriteHeader(http.StatusConflict)
	}
	reply(map[string]any{"id": o.Sum, "sha256sum": o.Sum, "signed-puturl": base + "/data/" + o.Sum, "signed-geturl": base + "/data/" + o.Sum})
}

func (e *endpoint) step(body []byte, reply func(any)) {
	var post map[string]any
	var raw struct {
		State json.RawMessage `json:"state"`
	}
	_ = json.Unmarshal(body, &post)
	_ = json.Unmarshal(body, &raw)
	e.posts, e.state = append(e.posts, post), string(raw.State)
	reply(map[string]any{"rev": len(e.posts), "state-sha": sumOf(raw.State), "trail-id": "trail"})
}

// Two developers change one device: clone, change, commit, post; the other merges.
func TestTwoDevelopers(t *testing.T) {
	s := newScene(t)
	device, url := newEndpoint(t)
	const files = 230 // more new objects than a post could hold at once
	for i := range files {
		s.write(fmt.Sprintf("app/file%d", i), fmt.Sprint("content ", i))
	}
	s.write("app/run.json", `{"v":1}`)
	s.must("init", "-o", "@WORK@/objects-one")
	s.must("add", ".")
	s.must("commit")
	got := s.must("post", "-m", "first", url)
	if !strings.Contains(got.stderr, "Successfully posted Revision 1 (") || device.puts != files {
		t.Fatalf("%d uploads: %.300s", device.puts, got.stderr)
	}
	if device.posts[0]["commit-msg"] != "first" {
		t.Errorf("posted %v", device.posts[0])
	}

	t.Chdir(s.work)
	s.must("clone", "-o", "@WORK@/objects-two", url, "two")
	t.Chdir(filepath.Join(s.work, "two"))
	s.write("app/run.json", `{"v":2}`)
	s.write("app/file1", "changed by two")
	s.must("commit")
	s.must("post")
	if device.puts != files+1 {
		t.Errorf("%d uploads for one new object", device.puts-files)
	}

	t.Chdir(s.repo)
	got = s.must("merge")
	if !strings.Contains(got.stdout, "Imported 1 objects") {
		t.Errorf("%s", got.stdout)
	}
	s.must("checkout")
	if s.read("app/file1") != "changed by two" || !strings.Contains(s.read("app/run.json"), "2") {
		t.Error("what the other posted did not come")
	}
	if got := s.must("status"); got.stdout != "" {
		t.Errorf("status: %s", got.stdout)
	}
	if got := s.must("inspect", "-c", url); strings.TrimSpace(got.stdout) != device.state {
		t.Errorf("inspect: %.200s", got.stdout)
	}
	s.must("remoteinfo", url)
}

// A remote that sends other content than it names is found out, and nothing changes.
func TestWrongDownload(t *testing.T) {
	s := newScene(t)
	device, url := newEndpoint(t)
	sum := sumOf([]byte("right"))
	device.state, device.objects[sum] = `{"#spec":"x","a":"`+sum+`"}`, []byte("wrong")
	s.must("init", "-o", "@WORK@/objects")
	before := s.read(".pvr/json")
	if got := s.run("get", url); got.rc != 3 || !strings.Contains(got.stderr, sum[:8]) {
		t.Errorf("%+v", got)
	}
	if s.read(".pvr/json") != before {
		t.Error("the state changed")
	}
	if got := s.run("clone", url, "../c"); got.rc != 7 {
		t.Errorf("%+v", got)
	}
	if _, err := os.Lstat(filepath.Join(s.work, "objects", sum)); err == nil {
		t.Error("the wrong object is in the store")
	}
}

// TestDestination reads the names of remotes, those of devices in reach among them.
func TestDestination(t *testing.T) {
	t.Parallel()
	tool := &tool{global: global{repoBaseURL: "https://hub.example", configDir: t.TempDir()}}
	for name, want := range map[string]string{
		"192.168.0.17":             "http://192.168.0.17:12368/cgi-bin/pvr",
		"fe80::1":                  "http://[fe80::1]:12368/cgi-bin/pvr",
		"nick/device":              "https://hub.example/nick/device",
		"https://example.com/t/ID": "https://example.com/t/ID",
		"word":                     "",
		"./path":                   "",
		"192.168.0.17.tgz":         "",
	} {
		client, ref, err := tool.destination([]string{name}, "")
		if (err == nil) != (want != "") {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		client.Close()
		if got := ref.URL.String(); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}
