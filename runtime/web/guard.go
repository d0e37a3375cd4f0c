package web

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/bounded"
)

// policy lets the page load nothing but what this server has, run no script inside the
// document, and be in no frame of another page.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// guard rejects what must not reach a handler:
//
//   - a Host that is not this device: a browser was led here by another site's name, which
//     was given the device's address (DNS rebinding)
//   - a request that changes something and comes from a page of another site
//   - a request without the token, if there is one, unless the path is open
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w = patient(w, r)
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		switch {
		case !s.knows(r.Host):
			answer(w, http.StatusMisdirectedRequest, refusal{"the request is for another host; names of this device are set by httpd.hosts in /etc/pvr-sdk/config.json"})
		case s.origin.Check(r) != nil:
			answer(w, http.StatusForbidden, refusal{"the request comes from a page of another site"})
		case !s.open(r) && !s.permits(r):
			h.Set("WWW-Authenticate", `Bearer realm="device"`)
			answer(w, http.StatusUnauthorized, refusal{"the token is missing or wrong; it is httpd.token of this device's configuration"})
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// knows reports whether a Host header means this device: an address, localhost, a name of
// multicast DNS, which no server of the internet can give, or a configured name.
func (s *Server) knows(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return true
	}
	return validName(name) && (name == "localhost" || strings.HasSuffix(name, ".local") || slices.Contains(s.o.Hosts, name))
}

// validName reports whether a name consists of what host names do.
func validName(name string) bool {
	return name != "" && len(name) <= 253 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-.") == ""
}

// open reports whether a request needs no token: the page itself, which has nothing of the
// device in it, and what is signed.
func (s *Server) open(r *http.Request) bool {
	path := r.URL.Path
	if path == loginPath || strings.HasPrefix(path, contentPath) && s.sessions.verify(r.Method+" "+path, r.URL.Query().Get(signature)) {
		return true
	}
	return r.Method == http.MethodGet && (path == "/" || strings.HasPrefix(path, "/app/") && !strings.HasPrefix(path, "/app/api/"))
}

// permits reports whether a request has the token or the cookie.
func (s *Server) permits(r *http.Request) bool {
	if s.o.Token == "" {
		return true
	}
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return equal(token, s.o.Token)
	}
	cookie, err := r.Cookie(cookieName)
	return err == nil && equal(cookie.Value, s.sessions.cookie())
}

// equal compares secrets in a time that does not depend on them.
func equal(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

const (
	loginPath  = "/app/api/login"
	cookieName = "pv-web"
	loginPause = time.Second // for a wrong token
)

// login gives the page its cookie for the token in the body.
func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	body, err := bounded.Read(r.Body, maxForm)
	if err != nil {
		fail(w, err)
		return
	}
	if s.o.Token == "" || !equal(string(body), s.o.Token) {
		select {
		case <-time.After(loginPause):
		case <-r.Context().Done():
		}
		answer(w, http.StatusUnauthorized, refusal{"the token is wrong"})
		return
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: s.sessions.cookie(), Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
	answer(w, http.StatusOK, ok)
}

// signer signs cookies and URLs. Cookies stay valid while the token does, URLs while the
// server runs.
type signer struct{ token, once []byte }

func newSigner(token string) *signer {
	once := make([]byte, sha256.Size)
	_, _ = rand.Read(once) // does not fail, see its documentation
	return &signer{[]byte(token), once}
}

func (g *signer) cookie() string { return mac(g.token, "cookie of pv-web") }

// sign returns the signature of a method and path.
func (g *signer) sign(text string) string { return mac(g.once, text) }

func (g *signer) verify(text, sum string) bool {
	return hmac.Equal([]byte(sum), []byte(g.sign(text)))
}

func mac(key []byte, text string) string {
	h := hmac.New(sha256.New, key)
	_, _ = h.Write([]byte(text)) // of a hash
	return hex.EncodeToString(h.Sum(nil))
}
