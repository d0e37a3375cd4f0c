package catalogue

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/ci/releases"
	"github.com/pantavisor/pantavisor/ci/store"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Handler serves a store to browsers and to programs that write cards, for a laptop or a small
// network. Addresses in releases.json that are relative become those of the request.
func Handler(s *store.Store) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
			return
		}
		name := strings.TrimPrefix(path.Clean("/"+r.URL.Path), "/")
		if name == "" {
			name = "index.html"
		}
		o, err := s.Open(r.Context(), name)
		if err != nil {
			answer(w, err)
			return
		}
		defer o.Close()
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Content-Type", store.MIMEType(name))
		if name == releases.CatalogueName {
			serveCatalogue(w, r, o)
			return
		}
		if seeker, ok := o.ReadCloser.(io.ReadSeeker); ok {
			http.ServeContent(w, r, name, time.Time{}, seeker)
		}
	})
}

// answer answers with an error.
func answer(w http.ResponseWriter, err error) {
	status := http.StatusBadGateway
	if errors.Is(err, fs.ErrNotExist) || fault.Of(err) == fault.BadInput {
		status = http.StatusNotFound
	}
	http.Error(w, http.StatusText(status), status)
}

// serveCatalogue sends a catalogue with absolute addresses.
func serveCatalogue(w http.ResponseWriter, r *http.Request, from io.Reader) {
	var all any
	if err := json.NewDecoder(io.LimitReader(from, releases.MaxCatalogue)).Decode(&all); err != nil {
		answer(w, err)
		return
	}
	absolute(all, &url.URL{Scheme: "http", Host: r.Host, Path: "/"})
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		answer(w, err)
		return
	}
	_, _ = w.Write(append(text, '\n')) // who has gone away needs no answer
}

// absolute makes relative addresses absolute.
func absolute(v any, base *url.URL) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			absolute(e, base)
		}
	case map[string]any:
		for key, e := range v {
			if text, ok := e.(string); ok && key == "url" {
				if u, err := base.Parse(text); err == nil {
					v[key] = u.String()
				}
				continue
			}
			absolute(e, base)
		}
	}
}
