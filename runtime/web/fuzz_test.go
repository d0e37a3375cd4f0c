package web

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzRequest sends requests of any kind, and wants an answer that is not the server's own
// failure; errors are JSON.
func FuzzRequest(f *testing.F) {
	for _, seed := range [][3]string{
		{"GET", "/cgi-bin/pvtx/show", ""}, {"POST", "/cgi-bin/pvtx/begin?empty=true", ""}, {"PUT", "/cgi-bin/pvtx/add", `{"#spec":"pantavisor-service-system@1"}`},
		{"PUT", "/cgi-bin/pvtx/remove?part=web", ""}, {"POST", "/cgi-bin/pvtx/commit?message=x", ""}, {"POST", "/cgi-bin/pvtx/run?rev=0", ""},
		{"GET", "/cgi-bin/pvtx/status?rev=../x", ""}, {"POST", "/cgi-bin/pvtx/usermeta/save?key=a%0ab", "x"}, {"GET", "/cgi-bin/logs?source=a/../b&tail=true&tailn=3", ""},
		{"POST", "/cgi-bin/pvr/objects/", `{"sha256sum":"x","size":"-1"}`}, {"PUT", "/cgi-bin/pvr/data/x", "y"}, {"POST", "/cgi-bin/pvr/steps", `{"state":1}`},
		{"PUT", "/app/api/containers/a%2fb", `{"action":"stop"}`}, {"DELETE", "/app/api/updates/locals/x", ""}, {"GET", "/app/..%2fweb.go", ""},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, method, target, body string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || u.Host != "" || !strings.HasPrefix(target, "/") || strings.Trim(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" || method == "" || strings.Contains(target, "follow") {
			t.Skip("not a request")
		}
		r, err := http.NewRequestWithContext(t.Context(), method, u.String(), strings.NewReader(body))
		if err != nil {
			t.Skip(err)
		}
		r.Host = "127.0.0.1"
		answer := httptest.NewRecorder()
		fuzzed(t).ServeHTTP(answer, r)
		switch code := answer.Code; {
		case code >= 500 && code != http.StatusBadGateway && code != http.StatusNotImplemented:
			t.Errorf("%s %q: %d %s", method, target, code, answer.Body)
		case answer.Header().Get("Content-Type") == typeJSON && (!json.Valid(answer.Body.Bytes()) || !utf8.Valid(answer.Body.Bytes())):
			t.Errorf("%s %q: not valid JSON: %q", method, target, answer.Body)
		}
	})
}

// fuzzed returns the server of a new device.
func fuzzed(t *testing.T) http.Handler { return device(t, "{}", nil).web.Config.Handler }
