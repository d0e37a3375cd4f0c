package workspace

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/fragment"
	"github.com/pantavisor/pantavisor/revision/remote"
	"github.com/pantavisor/pantavisor/revision/state"
)

func source(t *testing.T, name, cache string) mergeSource {
	t.Helper()
	return mergeSource{name: name, cache: cache, warn: func(string) {}, remote: remote.Options{ConfigDir: t.TempDir(), Attempts: 1}}
}

// server is a Hub with one device and its steps, and a device with its own endpoint. Both
// want a token.
type server struct {
	*httptest.Server
	t       *testing.T
	steps   []*state.State
	objects map[string]string
	asked   []string
}

const token = "the-token"

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{t: t, objects: map[string]string{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

// step makes the device's next revision, in which each file holds its name and the text.
func (s *server) step(text string, files ...string) {
	s.t.Helper()
	st := state.New(state.Spec)
	for _, f := range files {
		sum := fmt.Sprintf("%x", sha256.Sum256([]byte(f+text)))
		s.objects[sum] = f + text
		if err := st.SetObject(f, sum); err != nil {
			s.t.Fatal(err)
		}
	}
	s.steps = append(s.steps, st)
}

// ServeHTTP implements http.Handler.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked = append(s.asked, r.URL.Path)
	if r.Header.Get("Authorization") != "Bearer "+token && !strings.HasPrefix(r.URL.Path, "/data/") {
		http.Error(w, "no token", http.StatusForbidden)
		return
	}
	last := len(s.steps) - 1
	var rev int
	sum := path.Base(r.URL.Path)
	describe := func(state, objects string) {
		fmt.Fprintf(w, `{"json-get-url":"%s%s","json-key":"state","objects-endpoint":"%s%s"}`, s.URL, state, s.URL, objects)
	}
	trail := func(rev int) { describe(fmt.Sprintf("/trails/x/steps/%d/state", rev), "/objects") }
	switch p := r.URL.Path; {
	case p == "/nick/device/.pvrremote":
		trail(last)
	case p == "/cgi-bin/pvr/.pvrremote":
		describe("/cgi-bin/pvr/json", "/objects")
	case p == "/cgi-bin/pvr/json":
		_, _ = w.Write(s.steps[last].Encode())
	case scan(p, "/trails/x/steps/%d/.pvrremote", &rev):
		trail(rev)
	case scan(p, "/trails/x/steps/%d/state", &rev):
		_, _ = w.Write(s.steps[rev].Encode())
	case strings.HasPrefix(p, "/objects/"):
		fmt.Fprintf(w, `{"id":%q,"sha256sum":%q,"size":"%d","signed-geturl":"%s/data/%s"}`, sum, sum, len(s.objects[sum]), s.URL, sum)
	case strings.HasPrefix(p, "/data/"):
		_, _ = io.WriteString(w, s.objects[sum])
	default:
		http.NotFound(w, r)
	}
}

func scan(path, format string, n *int) bool {
	_, err := fmt.Sscanf(path, format, n)
	return err == nil && path == fmt.Sprintf(format, *n)
}

// names lists the files of the state at a path; all its objects must be there.
func names(t *testing.T, dir string) []string {
	t.Helper()
	st, err := fragment.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, o := range st.Objects() {
		text, err := os.ReadFile(filepath.Join(dir, fragment.Objects, o.Sum))
		if err != nil || !strings.HasPrefix(string(text), o.Path) {
			t.Errorf("%s is %q, %v", o.Path, text, err)
		}
		out = append(out, string(text))
	}
	return out
}

// TestClonedReference takes what a Hub has, pins it, and builds with the pin when the device
// has moved on and when nothing can be asked.
func TestClonedReference(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.step("-0", "app/root.squashfs", "web/root.squashfs", "bsp/kernel.img")
	cache := t.TempDir()
	m := source(t, s.URL+"/nick/device", cache)
	m.remote.AccessToken = token
	var warned []string
	m.warn = func(text string) { warned = append(warned, text) }
	at, got, err := m.fetch(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"app/root.squashfs-0", "web/root.squashfs-0"}, names(t, at)); diff != "" {
		t.Error(diff)
	}
	if len(warned) != 1 || !strings.Contains(warned[0], got.SHA256) || !strings.Contains(warned[0], "mage lock") {
		t.Errorf("warnings: %q", warned)
	}
	pin, err := m.pin(t.Context(), nil)
	want := &debian.Reference{Source: m.name, Step: s.URL + "/trails/x/steps/0", SHA256: got.SHA256}
	if diff := cmp.Diff(want, pin); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	s.step("-1", "app/root.squashfs")
	if at, _, err := m.fetch(t.Context(), nil); err != nil || !slices.Equal(names(t, at), []string{"app/root.squashfs-1"}) {
		t.Errorf("without a pin: %s, %v", at, err)
	}
	fresh := m
	fresh.cache, fresh.locked = t.TempDir(), true
	if at, _, err := fresh.fetch(t.Context(), pin); err != nil || len(names(t, at)) != 2 {
		t.Errorf("the pinned step in another cache: %s, %v", at, err)
	}
	if _, _, err := fresh.fetch(t.Context(), nil); fault.Of(err) != fault.Locked {
		t.Errorf("locked without a pin: %v", err)
	}
	fresh.name, fresh.bsp, fresh.locked = s.URL+"/nick/device#app,bsp", true, false
	if at, _, err := fresh.fetch(t.Context(), pin); err != nil || !slices.Equal(names(t, at), []string{"app/root.squashfs-1"}) {
		t.Errorf("selected parts of another source than the pinned one: %s, %v", at, err)
	}
	s.Close()
	if again, _, err := m.fetch(t.Context(), pin); again != at || err != nil {
		t.Errorf("without a network: %s, %v", again, err)
	}
	if _, _, err := m.fetch(t.Context(), nil); fault.Of(err) != fault.Unreachable {
		t.Errorf("without a network and a pin: %v", err)
	}
	if kept, err := source(t, "", cache).pin(t.Context(), pin); kept != pin || err != nil {
		t.Errorf("mage lock without PVR_MERGE_SRC: %v, %v", kept, err)
	}
}

// TestDeviceAsReference: a device has no revision but its latest.
func TestDeviceAsReference(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.step("-0", "app/root.squashfs")
	m := source(t, s.URL+"/cgi-bin/pvr", t.TempDir())
	if _, _, err := m.fetch(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "PVR_MERGE_SRC") {
		t.Errorf("without a token: %v", err)
	}
	m.remote.AccessToken = token
	pin, err := m.pin(t.Context(), nil)
	if err != nil || pin.Step != "" {
		t.Fatalf("%+v, %v", pin, err)
	}
	s.step("-1", "app/root.squashfs")
	m.cache = t.TempDir()
	if _, _, err := m.fetch(t.Context(), pin); fault.Of(err) != fault.Digest || !strings.Contains(err.Error(), "mage lock") {
		t.Errorf("it has another state than the pinned one: %v", err)
	}
}
