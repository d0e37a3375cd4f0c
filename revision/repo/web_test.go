package repo

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/archive"
)

// exportServer serves an export, the first time only its first half.
type exportServer struct {
	*httptest.Server
	text []byte
	half bool     // the next answer ends early
	said []string // of each request the status and the range
}

func serveExport(t *testing.T, files tree) *exportServer {
	t.Helper()
	r := open(t, committed(t, files), false)
	defer r.Close()
	var out bytes.Buffer
	if err := r.Export(t.Context(), &out, archive.ExportOptions{Gzip: true}); err != nil {
		t.Fatal(err)
	}
	s := &exportServer{text: out.Bytes()}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *exportServer) serve(w http.ResponseWriter, req *http.Request) {
	if req.Header.Get("Accept-Encoding") != "identity" {
		http.Error(w, "another encoding has other offsets", http.StatusNotAcceptable)
		return
	}
	if !strings.HasSuffix(req.URL.Path, "/x.tgz") {
		http.NotFound(w, req)
		return
	}
	w.Header().Set("ETag", fmt.Sprintf(`"%x"`, len(s.text)))
	if s.half {
		s.half = false
		s.said = append(s.said, "half")
		w.Header().Set("Content-Length", fmt.Sprint(len(s.text)))
		_, _ = w.Write(s.text[:len(s.text)/2])
		return // the server closes the connection
	}
	rec := httptest.NewRecorder()
	rec.Header().Set("ETag", w.Header().Get("ETag"))
	http.ServeContent(rec, req, "", time.Time{}, bytes.NewReader(s.text))
	s.said = append(s.said, strings.TrimSpace(fmt.Sprint(rec.Code, " ", req.Header.Get("Range"))))
	for name, v := range rec.Header() {
		w.Header()[name] = v
	}
	w.WriteHeader(rec.Code)
	_, _ = w.Write(rec.Body.Bytes())
}

// An export that a URL serves is as good as the file: its download goes on where it was
// interrupted, is not repeated when nothing changed, and is what it is pinned to.
func TestExportsFromURLs(t *testing.T) {
	t.Parallel()
	s := serveExport(t, tree{"web/x": "1", "other/y": "2"})
	s.half = true
	cache := filepath.Join(t.TempDir(), "cache")
	take := func(name string) error {
		ref, err := ParseRef(name, "https://hub")
		if err != nil {
			return err
		}
		src, err := Web(ref.Export, cache, s.Client())
		if err != nil {
			return err
		}
		r := open(t, committed(t, nil), true)
		defer r.Close()
		if _, err := r.GetAll(t.Context(), false, Taken{src, ref}); err != nil {
			return err
		}
		if _, ok := r.Committed().Object("web/x"); !ok {
			return fmt.Errorf("it has %v", r.Committed().Keys())
		}
		return nil
	}
	url := s.URL + "/files/x.tgz"
	sum := fmt.Sprintf("%x", sha256.Sum256(s.text))
	for range 2 {
		if err := take(url + "#web"); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"half", fmt.Sprintf("206 bytes=%d-", len(s.text)/2), "304"}
	if diff := cmp.Diff(want, s.said); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if err := take(url + pin + sum + "#web"); err != nil {
		t.Error(err)
	}
	if err := take(url + pin + strings.Repeat("0", 64)); fault.Of(err) != fault.Digest {
		t.Errorf("another pin: %v", err)
	}
	secret := strings.Replace(s.URL, "://", "://user:hidden@", 1)
	if err := take(secret + "/missing/y.tgz"); err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("a password in the address: %v", err)
	}
	if err := take(s.URL + "/missing/y.tgz"); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("a missing one: %v", err)
	}
	// A power cut may leave fewer bytes of a complete file than it had.
	files, err := filepath.Glob(cache + "/export-*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.Contains(filepath.Base(f), ".") {
			if err := os.Truncate(f, 10); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := take(url + "#web"); err != nil {
		t.Errorf("after a cut: %v", err)
	}
	s.text = bytes.Replace(s.text, s.text[20:30], make([]byte, 10), 1)
	if err := os.RemoveAll(cache); err != nil {
		t.Fatal(err)
	}
	if err := take(url); err == nil {
		t.Error("a damaged one is taken")
	}
	if left, _ := filepath.Glob(cache + "/export-????????????????????????????????"); len(left) > 0 {
		t.Errorf("a damaged one is kept: %v", left)
	}
}

func TestExportNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"https://h/a/x.tgz": "x", "http://h/x.tar.gz?token=1": "x", "https://h/latest" + pin + "00": "latest",
		"https://h/nick/device": "", "192.168.0.1": "", "ftp://h/x.tgz": "",
	} {
		ref, err := ParseRef(name, "https://hub")
		if err != nil || (ref.Export == name) != (want != "") || want != "" && ref.Base() != want {
			t.Errorf("%s: %+v, base %s, %v", name, ref, ref.Base(), err)
		}
	}
}
