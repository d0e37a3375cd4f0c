package web

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestForeignPages wants a browser on another site to reach nothing.
func TestForeignPages(t *testing.T) {
	t.Parallel()
	w := device(t, "{}", func(o *Options) { o.Hosts = []string{"gate.example"} })
	own := strings.TrimPrefix(w.web.URL, "http://")
	begin, show := "POST /cgi-bin/pvtx/begin", "GET /cgi-bin/pvtx/get-config"
	for _, c := range []struct {
		request string
		head    []string
		want    int
	}{
		{show, []string{"Host: evil.example"}, http.StatusMisdirectedRequest},
		{show, []string{"Host: evil.example:12368"}, http.StatusMisdirectedRequest},
		{show, []string{"Host: 192.0.2.1.evil.example"}, http.StatusMisdirectedRequest},
		{show, []string{"Host: <script>.local"}, http.StatusMisdirectedRequest},
		{begin, []string{"Host: evil.example", "Origin: http://evil.example"}, http.StatusMisdirectedRequest},
		{begin, []string{"Origin: http://evil.example"}, http.StatusForbidden},
		{begin, []string{"Origin: null"}, http.StatusForbidden},
		{begin, []string{"Origin: http://" + own, "Sec-Fetch-Site: cross-site"}, http.StatusForbidden},
		{begin, []string{"Sec-Fetch-Site: same-site"}, http.StatusForbidden},
		{show, []string{"Host: 192.168.0.7:12368"}, http.StatusOK},
		{show, []string{"Host: [fe80::1]:12368"}, http.StatusOK},
		{show, []string{"Host: localhost:12368"}, http.StatusOK},
		{show, []string{"Host: Device.local"}, http.StatusOK},
		{show, []string{"Host: gate.example:80"}, http.StatusOK},
		{begin, []string{"Origin: http://" + own, "Sec-Fetch-Site: same-origin"}, http.StatusOK},
		{"POST /cgi-bin/pvtx/abort", nil, http.StatusOK}, // as curl
	} {
		method, path, _ := strings.Cut(c.request, " ")
		if code, _, text := w.do(method, path, nil, c.head...); code != c.want {
			t.Errorf("%s with %v: %d %s; want %d", c.request, c.head, code, text, c.want)
		}
	}
}

// TestToken wants every path of the API to need the token.
func TestToken(t *testing.T) {
	t.Parallel()
	const secret = "a secret of some length"
	w := device(t, "{}", func(o *Options) { o.Token = secret })
	for _, request := range []string{
		"GET /cgi-bin/pvtx/show", "POST /cgi-bin/pvtx/begin", "GET /cgi-bin/pvr/.pvrremote", "GET /cgi-bin/logs", "GET /app/api/overview",
		"GET /cgi-bin/pvr/data/" + strings.Repeat("0", 64), "PUT /cgi-bin/pvr/data/" + strings.Repeat("0", 64) + "?signature=00",
	} {
		method, path, _ := strings.Cut(request, " ")
		for _, head := range [][]string{nil, {"Authorization: Bearer wrong"}, {"Cookie: pv-web=" + secret}} {
			code, got, text := w.do(method, path, nil, head...)
			if code != http.StatusUnauthorized || !strings.Contains(text, "httpd.token") || got.Get("WWW-Authenticate") == "" {
				t.Errorf("%s with %v: %d %s", request, head, code, text)
			}
		}
		if code, _, text := w.do(method, path, nil, "Authorization: Bearer "+secret); code == http.StatusUnauthorized {
			t.Errorf("%s with the token: %d %s", request, code, text)
		}
	}
	w.fails(401, "wrong", "POST", loginPath, "wrong")
	code, head, _ := w.do("POST", loginPath, strings.NewReader(secret))
	cookie := head.Get("Set-Cookie")
	if code != 200 || !strings.Contains(cookie, "HttpOnly; SameSite=Strict") || strings.Contains(cookie, secret) {
		t.Fatalf("login: %d %q", code, cookie)
	}
	pair, _, _ := strings.Cut(cookie, ";")
	if code, _, text := w.do("GET", "/app/api/overview", nil, "Cookie: "+pair); code != 200 {
		t.Errorf("with the cookie: %d %s", code, text)
	}
}

// TestLoginWithoutToken wants no cookie where there is no token.
func TestLoginWithoutToken(t *testing.T) {
	t.Parallel()
	device(t, "{}", nil).fails(401, "wrong", "POST", loginPath, "")
}

// TestPageNeedsNothingElse wants the page to load nothing from other places.
func TestPageNeedsNothingElse(t *testing.T) {
	t.Parallel()
	w := device(t, "{}", nil)
	for path, kind := range map[string]string{
		"/app/": "text/html", "/app/api.html": "text/html", "/app/app.js": "text/javascript", "/app/app.css": "text/css", "/app/icon.svg": "image/svg+xml",
	} {
		code, head, text := w.do("GET", path, nil)
		if code != 200 || !strings.HasPrefix(head.Get("Content-Type"), kind) || text == "" {
			t.Errorf("%s: %d %v", path, code, head)
		}
		rest := strings.NewReplacer(w.web.URL, "", "http://www.w3.org/2000/svg", "").Replace(text)
		for _, bad := range []string{"http://", "https://", "//cdn", "__ORIGIN__", "innerHTML", "style=\"", " onclick"} {
			if strings.Contains(rest, bad) {
				t.Errorf("%s has %q", path, bad)
			}
		}
		if got := head.Get("Content-Security-Policy"); !strings.HasPrefix(got, "default-src 'none'") || strings.Contains(got, "unsafe") {
			t.Errorf("%s: policy %q", path, got)
		}
	}
	w.fails(404, "/app/", "GET", "/app/%2e%2e/web.go", "")
	w.fails(404, "/app/", "GET", "/app/nothing", "")
	if code, head, _ := w.do("GET", "/", nil); code != http.StatusFound || head.Get("Location") != "/app/" {
		t.Errorf("/: %d %v", code, head)
	}
}

// TestLargeForms wants no body but a package's to have any size.
func TestLargeForms(t *testing.T) {
	t.Parallel()
	w := device(t, "{}", nil)
	for _, request := range []string{
		"POST /cgi-bin/pvtx/usermeta/save?key=k", "PUT /app/api/containers/web", "POST /app/api/login", "POST /cgi-bin/pvr/objects/", "POST /cgi-bin/pvr/steps",
	} {
		method, path, _ := strings.Cut(request, " ")
		code, _, text := w.do(method, path, io.LimitReader(zeros{}, maxState+1))
		if code != http.StatusRequestEntityTooLarge || !strings.Contains(text, "more than") {
			t.Errorf("%s: %d %s", request, code, text)
		}
	}
}

type zeros struct{}

// Read implements io.Reader.
func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
