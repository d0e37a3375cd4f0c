package remote

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/canon"
)

// authHub lets in whoever has a good token.
type authHub struct {
	*httptest.Server
	mu        sync.Mutex
	good      map[string]bool   // tokens that are let in
	refresh   map[string]string // old token, new token
	passwords map[string]string // name, token
	password  string
	log       []string
}

func newAuthHub(t *testing.T) *authHub {
	h := &authHub{good: map[string]bool{}, refresh: map[string]string{}, passwords: map[string]string{}, password: "secret"}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	return h
}

func (h *authHub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if r.URL.Path == "/auth/login" {
		h.log = append(h.log, strings.TrimSpace(r.Method+" login "+token))
		h.login(w, r, token)
		return
	}
	h.log = append(h.log, strings.TrimSpace(r.Method+" "+token))
	if !h.good[token] {
		w.Header().Set("WWW-Authenticate", `JWT realm="pantahub services", ph-aeps="`+h.URL+`/auth"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if r.URL.Path == "/private" && token == "ANON" {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	prn := "prn:::accounts:/1"
	if token == "ANON" {
		prn = anonymousAccount
	}
	fmt.Fprintf(w, `{"nick":%q,"prn":%q,"type":"USER"}`, token, prn)
}

func (h *authHub) login(w http.ResponseWriter, r *http.Request, token string) {
	if r.Method == http.MethodGet {
		if next, ok := h.refresh[token]; ok {
			fmt.Fprintf(w, `{"token":%q}`, next)
			return
		}
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	body, _ := io.ReadAll(r.Body)
	doc, _ := canon.First(body)
	name, pass := textMember(doc, "username"), textMember(doc, "password")
	next, ok := h.passwords[name]
	if !ok || name != anonymousAccount && pass != h.password {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	fmt.Fprintf(w, `{"token":%q}`, next)
}

// asker types a password each time that it is asked.
func asker(asked *int, passwords ...string) func(context.Context, Challenge) (Credentials, error) {
	return func(context.Context, Challenge) (Credentials, error) {
		*asked++
		return Credentials{"alice", passwords[(*asked-1)%len(passwords)]}, nil
	}
}

func TestAuthentication(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		kept     string
		path     string
		mode     authMode
		typed    []string // passwords; nil: nobody to ask
		setup    func(*authHub)
		want     string // requests
		err      error
		keptThen string
	}{
		{name: "kept token", kept: "OLD", setup: func(h *authHub) { h.good["OLD"] = true },
			want: "GET, GET OLD", keptThen: "OLD"},
		{name: "refreshed", kept: "OLD", setup: func(h *authHub) { h.refresh["OLD"], h.good["NEW"] = "NEW", true },
			want: "GET, GET OLD, GET login OLD, GET NEW", keptThen: "NEW"},
		{name: "too old to refresh, anonymous", kept: "OLD", mode: authRead, setup: func(h *authHub) { h.good["ANON"] = true },
			want: "GET, GET OLD, GET login OLD, POST login, GET ANON", keptThen: "ANON"},
		{name: "anonymous may not, user may", mode: authRead, path: "/private", typed: []string{"secret"},
			setup: func(h *authHub) { h.good["ANON"], h.good["USER"] = true, true },
			want:  "GET, POST login, GET ANON, POST login, GET USER", keptThen: "USER"},
		{name: "anonymous may not, nobody to ask", mode: authRead, path: "/private", setup: func(h *authHub) { h.good["ANON"] = true },
			want: "GET, POST login, GET ANON", keptThen: "ANON"},
		{name: "mistyped twice", typed: []string{"a", "b", "secret"}, setup: func(h *authHub) { h.good["USER"] = true },
			want: "GET, POST login, POST login, POST login, GET USER", keptThen: "USER"},
		{name: "mistyped thrice", typed: []string{"a"}, want: "GET, POST login, POST login, POST login", err: ErrAuth},
		{name: "nobody to ask", want: "GET", err: ErrAuth},
		{name: "kept only", mode: authKept, typed: []string{"secret"}, want: "GET", err: ErrAuth},
		{name: "login without token", typed: []string{"secret"}, setup: func(h *authHub) { h.passwords["alice"] = "" },
			want: "GET, POST login", err: errNoToken},
		{name: "good password, refused all the same", typed: []string{"secret"}, err: ErrAuth,
			want:     "GET, POST login, GET USER, GET login USER, POST login, GET USER, POST login, GET USER",
			keptThen: "USER"},
		{name: "refresh that leads nowhere", kept: "OLD", setup: func(h *authHub) { h.refresh["OLD"] = "OLD" }, err: ErrAuth,
			want: "GET, GET OLD, GET login OLD, GET OLD", keptThen: "OLD"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			h := newAuthHub(t)
			h.passwords["alice"], h.passwords[anonymousAccount] = "USER", "ANON"
			if tc.setup != nil {
				tc.setup(h)
			}
			opt := Options{ConfigDir: t.TempDir()}
			var asked int
			if tc.typed != nil {
				opt.Credentials = asker(&asked, tc.typed...)
			}
			c := newClient(t, opt)
			key := Challenge{"pantahub services", h.URL + "/auth"}.Key()
			if tc.kept != "" {
				if err := c.tokens.Put(t.Context(), key, tc.kept); err != nil {
					t.Fatal(err)
				}
			}
			path := "/x"
			if tc.path != "" {
				path = tc.path
			}
			_, err := c.do(t.Context(), &call{method: http.MethodGet, url: mustRef(t, h.URL+path).URL, auth: tc.mode}, http.StatusOK)
			if got := strings.Join(h.log, ", "); got != tc.want {
				t.Errorf("requests:\n got %s\nwant %s", got, tc.want)
			}
			if tc.err != nil && !errors.Is(err, tc.err) {
				t.Errorf("%v, want %v", err, tc.err)
			}
			if tok, err := c.tokens.Get(key); err != nil || tok.Access != tc.keptThen || tok.Refresh != tc.keptThen {
				t.Errorf("kept %+v, %v", tok, err)
			}
		})
	}
}

// Many calls at the same time lead to one login, and later calls need none.
func TestOneLogin(t *testing.T) {
	t.Parallel()
	h := newAuthHub(t)
	h.passwords["alice"], h.good["USER"] = "USER", true
	var asked int
	c := newClient(t, Options{Credentials: asker(&asked, "secret")})
	u := mustRef(t, h.URL+"/x").URL
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := c.do(t.Context(), &call{method: http.MethodGet, url: u}, http.StatusOK); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

func TestAccessTokenIsNotRetried(t *testing.T) {
	t.Parallel()
	h := newAuthHub(t)
	var asked int
	c := newClient(t, Options{AccessToken: "FLAG", Credentials: asker(&asked, "secret")})
	_, err := c.Login(t.Context(), h.URL)
	var refused *StatusError
	if !errors.As(err, &refused) || refused.Status != 401 || asked != 0 || strings.Join(h.log, ",") != "GET FLAG" {
		t.Errorf("%v, asked %d times, %q", err, asked, h.log)
	}
}

// A repository must not get at the tokens of a Hub that it has nothing to do with.
func TestForeignRealm(t *testing.T) {
	t.Parallel()
	h := newAuthHub(t)
	var got []string
	thief := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Header.Get("Authorization"))
		w.Header().Set("WWW-Authenticate", `JWT realm="pantahub services", ph-aeps="`+strings.Replace(h.URL, "127.0.0.1", "localhost", 1)+`/auth"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer thief.Close()
	c := newClient(t, Options{ConfigDir: t.TempDir()})
	_, err := c.RemoteInfo(t.Context(), mustRef(t, thief.URL+"/x"))
	if !errors.Is(err, errUntrusted) || fault.Of(err) != fault.BadInput || strings.Join(got, "") != "" || len(h.log) != 0 {
		t.Errorf("%v; %q; %q", err, got, h.log)
	}
	// What the user configured belongs together.
	c = newClient(t, Options{BaseURL: strings.Replace(h.URL, "127.0.0.1", "localhost", 1), RepoBaseURL: thief.URL})
	if _, err := c.RemoteInfo(t.Context(), mustRef(t, thief.URL+"/x")); errors.Is(err, errUntrusted) {
		t.Error(err)
	}
}

func TestLoginReplacesAnonymous(t *testing.T) {
	t.Parallel()
	h := newAuthHub(t)
	h.passwords["alice"], h.good["USER"], h.good["ANON"] = "USER", true, true
	dir := t.TempDir()
	key := Challenge{"pantahub services", h.URL + "/auth"}.Key()
	if err := newTokens(dir).Put(t.Context(), key, "ANON"); err != nil {
		t.Fatal(err)
	}
	if _, err := newClient(t, Options{ConfigDir: dir}).Login(t.Context(), h.URL); !errors.Is(err, ErrAuth) {
		t.Errorf("an anonymous token passes for a login: %v", err)
	}
	var asked int
	who, err := newClient(t, Options{ConfigDir: dir, Credentials: asker(&asked, "secret")}).Login(t.Context(), h.URL)
	if err != nil || who.Nick != "USER" || asked != 1 {
		t.Errorf("%v, %v; asked %d times", who, err, asked)
	}
}

func TestAnonymousToken(t *testing.T) {
	t.Parallel()
	anonymous := "e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"prn":"`+anonymousAccount+`"}`)) + ".x"
	for token, want := range map[string]bool{anonymous: true, "a.b.c": false, "T": false} {
		if isAnonymous(token) != want {
			t.Errorf("%s is anonymous: %v", token, !want)
		}
	}
}

func TestRegister(t *testing.T) {
	t.Parallel()
	var body string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		body = r.Method + " " + r.URL.Path + " " + string(data)
		if strings.Contains(body, "taken") {
			w.WriteHeader(412)
			_, _ = io.WriteString(w, `{"error":"REST-ERR-ID-9","msg":"Email or Nick already in use","code":412}`)
			return
		}
		_, _ = io.WriteString(w, `{"token":"t","redirect-uri":"https://h/finish"}`)
	}))
	defer srv.Close()
	c := newClient(t, Options{BaseURL: srv.URL})
	finish, err := c.Register(t.Context(), "", Account{"a@b", "alice", "pw"})
	if err != nil || finish != "https://h/finish" || body != `POST /auth/accounts {"email":"a@b","nick":"alice","password":"pw"}` {
		t.Errorf("%q, %v; %s", finish, err, body)
	}
	if _, err = c.Register(t.Context(), "", Account{"a@b", "taken", "pw"}); err == nil || !strings.Contains(err.Error(), "412 Precondition Failed: Email or Nick already in use (REST-ERR-ID-9)") {
		t.Errorf("%v", err)
	}
	if _, err = c.Register(t.Context(), "", Account{"a@b", "al", "pw"}); fault.Of(err) != fault.BadInput {
		t.Errorf("%v", err)
	}
}
