package comment

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/fault"
)

const token = "correct-horse"

// server is the comments of a merge request in both APIs: the parts of them that are used.
type server struct {
	bodies []string
	refuse bool
	theirs int // ID of a comment that another account has written; 0 for none
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const notes, issue = "/projects/7/merge_requests/3/notes", "/repos/a/b/issues/3/comments"
	if s.refuse || r.Header.Get("PRIVATE-TOKEN") != token && r.Header.Get("Authorization") != "Bearer "+token {
		http.Error(w, "no", http.StatusForbidden)
		return
	}
	var in struct{ Body string }
	if r.Method != http.MethodGet {
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	id := 0
	_, _ = fmt.Sscanf(strings.NewReplacer(notes+"/", "", "/repos/a/b/issues/comments/", "").Replace(r.URL.Path), "%d", &id)
	switch {
	case id != 0 && id == s.theirs:
		http.Error(w, "not yours", http.StatusForbidden)
	case r.Method == http.MethodGet && (r.URL.Path == notes || r.URL.Path == issue):
		list := []note{}
		for i, b := range s.bodies {
			list = append(list, note{ID: int64(i + 1), Body: b})
		}
		from := 0
		_, _ = fmt.Sscanf(r.URL.Query().Get("page"), "%d", &from)
		from = min((from-1)*100, len(list))
		_ = json.NewEncoder(w).Encode(list[from:min(from+100, len(list))])
	case r.Method == http.MethodPost && (r.URL.Path == notes || r.URL.Path == issue):
		s.bodies = append(s.bodies, in.Body)
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(note{ID: int64(len(s.bodies))})
	case r.Method == http.MethodPut || r.Method == http.MethodPatch:
		s.bodies[id-1] = in.Body
		_ = json.NewEncoder(w).Encode(note{ID: int64(id)})
	default:
		http.NotFound(w, r)
	}
}

// environments returns those of pipelines in both systems.
func environments(t *testing.T, url string) map[string]map[string]string {
	t.Helper()
	event := filepath.Join(t.TempDir(), "event.json")
	if err := os.WriteFile(event, []byte(`{"pull_request":{"number":3,"head":{"repo":{"full_name":"a/b"}}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	return map[string]map[string]string{
		"gitlab": {"GITLAB_CI": "true", "CI_API_V4_URL": url, "CI_PROJECT_ID": "7", "CI_MERGE_REQUEST_IID": "3", "COMMENT_TOKEN": token},
		"github": {"GITHUB_ACTIONS": "true", "GITHUB_API_URL": url, "GITHUB_REPOSITORY": "a/b", "GITHUB_EVENT_PATH": event, "GITHUB_TOKEN": token},
	}
}

func TestKeep(t *testing.T) {
	t.Parallel()
	for system := range environments(t, "") {
		s := &server{bodies: make([]string, 120)} // two pages
		h := httptest.NewServer(s)
		defer h.Close()
		env := environments(t, h.URL)[system]
		getenv := func(name string) string { return env[name] }
		for _, text := range []string{"one", "two", strings.Repeat("line\n", 20000)} {
			if _, err := Keep(t.Context(), Options{Name: "diff", Text: text, Getenv: getenv}); err != nil {
				t.Fatalf("%s: %v", system, err)
			}
		}
		if _, err := Keep(t.Context(), Options{Name: "other", Text: "x", Getenv: getenv}); err != nil {
			t.Fatalf("%s: %v", system, err)
		}
		if len(s.bodies) != 122 || !strings.HasPrefix(s.bodies[120], "<!-- pvci diff -->\nline\n") || len(s.bodies[120]) > 65536 || s.bodies[121] != "<!-- pvci other -->\nx" {
			t.Errorf("%s: %d comments, the last %.40q and %.40q", system, len(s.bodies), s.bodies[len(s.bodies)-2], s.bodies[len(s.bodies)-1])
		}
		s.refuse = true
		_, err := Keep(t.Context(), Options{Name: "diff", Text: "x", Getenv: getenv})
		if fault.Of(err) != fault.BadInput || strings.Contains(err.Error(), token) || !strings.Contains(err.Error(), "_TOKEN") {
			t.Errorf("%s: %v", system, err)
		}
		h.Close()
		if _, err = Keep(t.Context(), Options{Name: "diff", Text: "x", Getenv: getenv}); fault.Of(err) != fault.Unreachable {
			t.Errorf("%s: %v", system, err)
		}
	}
}

func TestNoMergeRequest(t *testing.T) {
	t.Parallel()
	for system, env := range environments(t, "https://example.test") {
		for _, lacking := range []string{"CI_MERGE_REQUEST_IID", "GITHUB_EVENT_PATH", "COMMENT_TOKEN", "GITHUB_TOKEN", "GITLAB_CI", "GITHUB_ACTIONS"} {
			if env[lacking] == "" {
				continue
			}
			getenv := func(name string) string {
				if name == lacking {
					return ""
				}
				return env[name]
			}
			var none *None
			if _, err := Keep(t.Context(), Options{Name: "diff", Getenv: getenv}); !errors.As(err, &none) {
				t.Errorf("%s without %s: %v", system, lacking, err)
			}
		}
		for _, wrong := range []string{"CI_MERGE_REQUEST_IID", "CI_API_V4_URL", "GITHUB_API_URL", "GITHUB_REPOSITORY"} {
			if env[wrong] == "" {
				continue
			}
			getenv := func(name string) string {
				if name == wrong {
					return "../x"
				}
				return env[name]
			}
			if _, err := Keep(t.Context(), Options{Name: "diff", Getenv: getenv}); fault.Of(err) != fault.BadInput {
				t.Errorf("%s with a wrong %s: %v", system, wrong, err)
			}
		}
	}
	if _, err := Keep(t.Context(), Options{Name: "-->", Getenv: os.Getenv}); fault.Of(err) != fault.BadInput {
		t.Errorf("a name that ends the mark: %v", err)
	}
}

// TestOthersMark expects that a comment of somebody else with the mark does not keep the pipeline from its own.
func TestOthersMark(t *testing.T) {
	t.Parallel()
	for system := range environments(t, "") {
		s := &server{bodies: []string{"<!-- pvci diff -->\nmine"}, theirs: 1}
		h := httptest.NewServer(s)
		defer h.Close()
		env := environments(t, h.URL)[system]
		for _, text := range []string{"one", "two"} {
			if _, err := Keep(t.Context(), Options{Name: "diff", Text: text, Getenv: func(name string) string { return env[name] }}); err != nil {
				t.Fatalf("%s: %v", system, err)
			}
		}
		if len(s.bodies) != 2 || s.bodies[0] != "<!-- pvci diff -->\nmine" || s.bodies[1] != "<!-- pvci diff -->\ntwo" {
			t.Errorf("%s: %q", system, s.bodies)
		}
	}
}

// TestRedirect expects that no other server gets the token.
func TestRedirect(t *testing.T) {
	t.Parallel()
	asked := false
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked = true
		_, _ = w.Write([]byte("[]"))
	}))
	defer other.Close()
	h := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer h.Close()
	for system, env := range environments(t, h.URL) {
		_, err := Keep(t.Context(), Options{Name: "diff", Text: "x", Getenv: func(name string) string { return env[name] }})
		if fault.Of(err) != fault.Unreachable || !strings.Contains(err.Error(), "307") || asked {
			t.Errorf("%s: the other server was asked: %v; %v", system, asked, err)
		}
	}
}

// TestFork expects that a pipeline that may not comment does not fail for it.
func TestFork(t *testing.T) {
	t.Parallel()
	h := httptest.NewServer(&server{refuse: true})
	defer h.Close()
	env := environments(t, h.URL)["github"]
	if err := os.WriteFile(env["GITHUB_EVENT_PATH"], []byte(`{"pull_request":{"number":3,"head":{"repo":{"full_name":"other/b"}}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	var none *None
	if _, err := Keep(t.Context(), Options{Name: "diff", Getenv: func(name string) string { return env[name] }}); !errors.As(err, &none) {
		t.Errorf("got %v", err)
	}
}
