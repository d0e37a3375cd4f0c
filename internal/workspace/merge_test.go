package workspace

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// TestMergeSourceOfTheNetwork: PVR_MERGE_SRC takes the URL of an export. A download that was
// cut goes on, and what it is pinned to is checked.
func TestMergeSourceOfTheNetwork(t *testing.T) {
	t.Parallel()
	export := bytes.Repeat([]byte("export"), 1000)
	var said []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		said = append(said, r.Header.Get("Range"))
		w.Header().Set("ETag", `"1"`)
		if len(said) == 1 {
			w.Header().Set("Content-Length", fmt.Sprint(len(export)))
			_, _ = w.Write(export[:100])
			return // the server closes the connection
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(export))
	}))
	t.Cleanup(s.Close)
	cache, url := t.TempDir(), s.URL+"/bsp.tgz"
	sum := fmt.Sprintf("%x", sha256.Sum256(export))
	path, err := source(t, url+"@sha256:"+sum, cache).export(t.Context(), url+"@sha256:"+sum)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, export) {
		t.Errorf("%d bytes arrived, %v", len(got), err)
	}
	if diff := cmp.Diff([]string{"", "bytes=100-"}, said); diff != "" {
		t.Errorf("ranges (-want +got):\n%s", diff)
	}
	if _, _, err := source(t, url+"@sha256:"+strings.Repeat("0", 64), cache).fetch(t.Context(), nil); fault.Of(err) != fault.Digest {
		t.Errorf("another pin: %v", err)
	}
	if path, pin, err := source(t, "device/.pvr", cache).fetch(t.Context(), nil); path != "device/.pvr" || pin != nil || err != nil {
		t.Errorf("a path: %q, %v, %v", path, pin, err)
	}
	pin, err := source(t, url, cache).pin(t.Context(), nil)
	if err != nil || pin.SHA256 != sum || pin.Source != url {
		t.Fatalf("pin %+v, %v", pin, err)
	}
	s.Close()
	if _, _, err := source(t, url, cache).fetch(t.Context(), pin); err != nil {
		t.Errorf("a pinned export in the cache, without a network: %v", err)
	}
}
