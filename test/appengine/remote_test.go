package appengine

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/fault"
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
