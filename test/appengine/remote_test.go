package appengine

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/archive"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
)

// hub is a remote repository with one object in each of two parts.
func hub(t *testing.T) (url string, sums map[string]string) {
	t.Helper()
	sums = map[string]string{}
	content := map[string]string{}
	st := state.New(state.Spec)
	for _, part := range []string{"app", "other"} {
		sum := sha256.Sum256([]byte(part))
		sums[part] = hex.EncodeToString(sum[:])
		content[sums[part]] = part
		if err := st.SetObject(part+"/root.squashfs", sums[part]); err != nil {
			t.Fatal(err)
		}
	}
	var s *httptest.Server
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
		switch {
		case r.URL.Path == "/team/assets/3/.pvrremote":
			fmt.Fprintf(w, `{"pvr-spec":"pvr-pantahub-1","json-get-url":"%[1]s/state","json-key":"state","objects-endpoint":"%[1]s/objects","post-url":"%[1]s/steps"}`, s.URL)
		case r.URL.Path == "/state":
			_, _ = w.Write(st.Encode())
		case strings.HasPrefix(r.URL.Path, "/objects/"):
			fmt.Fprintf(w, `{"id":%q,"sha256sum":%[1]q,"size":"%d","signed-geturl":"%s/content/%[1]s"}`, name, len(content[name]), s.URL)
		case strings.HasPrefix(r.URL.Path, "/content/"):
			_, _ = w.Write([]byte(content[name]))
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL + "/team/assets/3", sums
}

func TestURLOfTheNetwork(t *testing.T) {
	t.Setenv("PVR_CONFIG_DIR", t.TempDir())
	url, sums := hub(t)
	store, err := objects.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	src, err := fromURL("/t", url+"#app")
	if err != nil {
		t.Fatal(err)
	}
	st, err := src.add(t.Context(), state.New(state.Spec), store)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"app"}, st.Parts()); diff != "" {
		t.Errorf("parts (-want +got):\n%s", diff)
	}
	for part, want := range map[string]bool{"app": true, "other": false} {
		f, err := store.Open(sums[part])
		if err == nil {
			_ = f.Close()
		}
		if (err == nil) != want {
			t.Errorf("the object of %s: %v", part, err)
		}
	}
	gone, err := fromURL("/t", strings.Replace(url, "assets", "absent", 1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gone.add(t.Context(), state.New(state.Spec), store); err == nil || fault.Of(err) == fault.Internal || !strings.Contains(err.Error(), "pvr clone") {
		t.Errorf("a repository that is not there: %v (%v)", err, fault.Of(err))
	}
}

// TestExportOfAURL: "urls" names exports too. A download that was cut goes on, what it is
// pinned to is checked, and only the named parts come.
func TestExportOfAURL(t *testing.T) {
	t.Setenv("PVR_CONFIG_DIR", t.TempDir())
	made, err := objects.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	st, sums := state.New(state.Spec), map[string]string{}
	for _, part := range []string{"app", "other"} {
		if sums[part], err = made.Put(t.Context(), strings.NewReader(part), ""); err == nil {
			err = st.SetObject(part+"/root.squashfs", sums[part])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var export bytes.Buffer
	if err := archive.Export(t.Context(), &export, st, made, archive.ExportOptions{Gzip: true}); err != nil {
		t.Fatal(err)
	}
	var said []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		said = append(said, r.Header.Get("Range"))
		w.Header().Set("ETag", `"1"`)
		if len(said) == 1 {
			w.Header().Set("Content-Length", fmt.Sprint(export.Len()))
			_, _ = w.Write(export.Bytes()[:100])
			return // the server closes the connection
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(export.Bytes()))
	}))
	t.Cleanup(s.Close)
	take := func(url string) (*state.State, *objects.Store, error) {
		store, err := objects.Create(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		src, err := fromURL("/t", url)
		if err != nil {
			t.Fatal(err)
		}
		st, err := src.add(t.Context(), state.New(state.Spec), store)
		return st, store, err
	}
	pinned := s.URL + "/x.tgz@sha256:" + fmt.Sprintf("%x", sha256.Sum256(export.Bytes()))
	got, store, err := take(pinned + "#app")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"app"}, got.Parts()); diff != "" {
		t.Errorf("parts (-want +got):\n%s", diff)
	}
	if !store.Has(sums["app"]) || store.Has(sums["other"]) {
		t.Errorf("the objects of app: %v, of other: %v", store.Has(sums["app"]), store.Has(sums["other"]))
	}
	if diff := cmp.Diff([]string{"", "bytes=100-"}, said); diff != "" {
		t.Errorf("ranges (-want +got):\n%s", diff)
	}
	if _, _, err := take(s.URL + "/x.tgz@sha256:" + strings.Repeat("0", 64)); fault.Of(err) != fault.Digest {
		t.Errorf("another pin: %v", err)
	}
}
