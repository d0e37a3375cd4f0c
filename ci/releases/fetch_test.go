package releases

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/internal/fault"
)

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// flaky serves data, and breaks off after some bytes the first times.
type flaky struct {
	data   []byte
	breaks int
	after  int
	plain  bool // knows no ranges

	mu   sync.Mutex
	said []string
}

func (f *flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.said = append(f.said, r.Header.Get("Range"))
	if f.plain {
		r.Header.Del("Range")
	}
	if f.breaks > 0 {
		f.breaks--
		w = &breaking{w, f.after}
	}
	http.ServeContent(w, r, "x", time.Time{}, bytes.NewReader(f.data))
}

// breaking breaks a connection off.
type breaking struct {
	http.ResponseWriter
	left int
}

func (b *breaking) Write(p []byte) (int, error) {
	if len(p) <= b.left {
		b.left -= len(p)
		return b.ResponseWriter.Write(p)
	}
	_, _ = b.ResponseWriter.Write(p[:b.left])
	_ = http.NewResponseController(b.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

func TestFetch(t *testing.T) {
	retryPause = time.Millisecond
	data := bytes.Repeat([]byte("0123456789"), 10_000)
	for name, c := range map[string]struct {
		server *flaky
		there  []byte // what an earlier download has left
		said   string
		kind   fault.Kind
	}{
		"at once":            {server: &flaky{}},
		"goes on":            {server: &flaky{breaks: 2, after: 40_000}, said: " bytes=40000- bytes=80000-"},
		"begins anew":        {server: &flaky{breaks: 1, after: 40_000, plain: true}, said: " bytes=40000-"},
		"what is left":       {there: data[:1000], said: "bytes=1000-"},
		"what is left wrong": {there: []byte("wrong"), said: "bytes=5- "},
		"too much is left":   {there: append(bytes.Clone(data), 'x'), said: ""},
		"all is left":        {there: data, said: "-"},
		"never":              {server: &flaky{breaks: 100, after: 10}, kind: fault.Unreachable, said: " bytes=10- bytes=20- bytes=30-"},
		"another file":       {server: &flaky{data: []byte("another")}, kind: fault.Digest},
	} {
		t.Run(name, func(t *testing.T) {
			if c.server == nil {
				c.server = &flaky{}
			}
			if c.server.data == nil {
				c.server.data = data
			}
			s := httptest.NewServer(c.server)
			defer s.Close()
			p, err := OpenPlace(s.URL + "/sub")
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			own := filepath.Join(dir, sum(data))
			if c.there != nil {
				if err := errors.Join(os.MkdirAll(own, 0o755), os.WriteFile(filepath.Join(own, "f.img.part"), c.there, 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			var last, total int64
			d := Download{Ref: "1.0/f.img", Name: "f.img", SHA256: sum(data), Bytes: int64(len(data)), Progress: func(d, n int64) { last, total = d, n }}
			got, err := p.Fetch(t.Context(), dir, d)
			if said := strings.Join(c.server.said, " "); said != strings.TrimPrefix(c.said, "-") {
				t.Errorf("asked %q, want %q", said, c.said)
			}
			if c.kind != 0 {
				if fault.Of(err) != c.kind {
					t.Errorf("%v: %v; want %v", fault.Of(err), err, c.kind)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if text, err := os.ReadFile(got); !bytes.Equal(text, data) || err != nil {
				t.Errorf("%d bytes, %v", len(text), err)
			}
			if len(c.server.said) > 0 && (last != total || total != int64(len(data))) {
				t.Errorf("progress ended with %d of %d", last, total)
			}
			n := len(c.server.said)
			if again, err := p.Fetch(t.Context(), dir, d); again != got || err != nil || len(c.server.said) != n {
				t.Errorf("once more: %s, %v, %d requests", again, err, len(c.server.said)-n)
			}
		})
	}
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, CatalogueName), []byte(forms), 0o600); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer s.Close()
	for _, place := range []string{dir, filepath.Join(dir, CatalogueName), s.URL, s.URL + "/", s.URL + "/" + CatalogueName} {
		p, err := OpenPlace(place)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := p.Catalogue(t.Context()); err != nil || len(c) != 3 {
			t.Errorf("%s: %d channels, %v", place, len(c), err)
		}
		if _, err := p.Fetch(t.Context(), t.TempDir(), Download{Ref: "none", Name: "none", SHA256: digest}); fault.Of(err) != fault.Missing {
			t.Errorf("%s: a file that is not there: %v", place, err)
		}
		if _, err := p.ReadLink(t.Context(), &Link{CatalogueName, digest}, 1<<20); fault.Of(err) != fault.Digest {
			t.Errorf("%s: another digest: %v", place, err)
		}
		for _, ref := range []string{"file:///etc/passwd", "ftp://x/y", "\x00"} {
			if _, err := p.Read(t.Context(), ref, 10); fault.Of(err) != fault.BadInput {
				t.Errorf("%s: %q: %v", place, ref, err)
			}
		}
	}
	p, _ := OpenPlace(dir)
	for _, ref := range []string{"../x", "/etc/passwd", "a/../../x", "%2e%2e/x"} {
		if _, err := p.Read(t.Context(), ref, 10); fault.Of(err) != fault.BadInput {
			t.Errorf("%q leads out: %v", ref, err)
		}
	}
	for place, kind := range map[string]fault.Kind{"ftp://x/y": fault.BadInput, "https://": fault.BadInput, filepath.Join(dir, "none"): fault.Missing} {
		if _, err := OpenPlace(place); fault.Of(err) != kind {
			t.Errorf("%s: %v", place, err)
		}
	}
	if got := Beside("https://x/1.0/b/index.json?v=2", "sbom/a b.json"); got != "https://x/1.0/b/sbom/a%20b.json" {
		t.Error(got)
	}
	if got := Beside("1.0/b/index.json", "SHA256SUMS"); got != "1.0/b/SHA256SUMS" {
		t.Error(got)
	}
}
