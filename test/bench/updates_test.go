package bench

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/revision/state"
)

// TestUpdateWaitsForItsEnd asks a server on which an update is TESTING twice before it ends.
func TestUpdateWaitsForItsEnd(t *testing.T) {
	for end, want := range map[string]string{"UPDATED": "", "ERROR": "revision locals/0: "} {
		asked, ran := 0, ""
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == http.MethodPost:
				ran = r.URL.Path
			case r.Method == http.MethodGet:
				asked++
				status := map[bool]string{true: end, false: "TESTING"}[asked > 2]
				_, _ = w.Write([]byte(`[{"status":"ERROR"},{"status":"` + status + `"}]`))
			}
		}))
		i := &instance{client: redirect(srv), st: state.New(state.Spec)}
		s, err := i.update(t.Context(), "locals/0", "LOCAL_RUN", "UPDATED")
		srv.Close()
		if ok := err == nil && s > 0; ok != (want == "") || err != nil && !strings.Contains(err.Error(), want) || asked != 3 || ran != "/commands" {
			t.Errorf("%s: %v s, %v, asked %d times, ran %s", end, s, err, asked, ran)
		}
	}
}

// redirect is a client all of whose requests go to a server.
func redirect(srv *httptest.Server) *http.Client {
	return &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		r.URL.Host = strings.TrimPrefix(srv.URL, "http://")
		return http.DefaultTransport.RoundTrip(r)
	})}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestInstanceThatDoesNotStart has a program in place of the App Engine that ends at once.
func TestInstanceThatDoesNotStart(t *testing.T) {
	i := &instance{prefix: t.TempDir()}
	if err := os.WriteFile(filepath.Join(i.prefix, "pantavisor"), []byte("#!/bin/sh\necho nothing of interest\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := i.start(context.Background()); err == nil || !strings.Contains(err.Error(), "ended before") {
		t.Errorf("%v", err)
	}
}
