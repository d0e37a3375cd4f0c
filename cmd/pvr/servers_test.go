package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/rogpeppe/go-internal/testscript"
)

// startRegistry runs "registry": an image registry at $REGISTRY.
func startRegistry(ts *testscript.TestScript, _ bool, _ []string) {
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	ts.Defer(srv.Close)
	ts.Setenv("REGISTRY", strings.TrimPrefix(srv.URL, "http://"))
}

// serveFiles runs "serve": the working directory over TLS at $TLS, by a certificate that
// nobody trusts, and as http://export.test by the proxy at $PROXY.
func serveFiles(ts *testscript.TestScript, _ bool, _ []string) {
	files := http.FileServer(http.Dir(ts.Getenv("WORK")))
	secure := httptest.NewUnstartedServer(files)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	ts.Defer(secure.Close)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Host != "export.test" {
			http.Error(w, "not a request for a proxy", http.StatusBadRequest)
			return
		}
		files.ServeHTTP(w, r)
	}))
	ts.Defer(proxy.Close)
	ts.Setenv("TLS", secure.URL)
	ts.Setenv("PROXY", proxy.URL)
}

// pushImage runs "push REFERENCE MEMBER=TEXT…": an image of one layer. A text "@NAME"
// stands for 100,000 bytes that do not compress and are different for each name.
func pushImage(ts *testscript.TestScript, _ bool, args []string) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, arg := range args[1:] {
		member, text, _ := strings.Cut(arg, "=")
		if strings.HasPrefix(text, "@") {
			noise := make([]byte, 100_000)
			_, _ = rand.NewChaCha8(sha256.Sum256([]byte(text))).Read(noise) // never fails
			text = string(noise)
		}
		ts.Check(w.WriteHeader(&tar.Header{Name: member, Mode: 0o755, Size: int64(len(text)), Typeflag: tar.TypeReg}))
		_, err := io.WriteString(w, text)
		ts.Check(err)
	}
	ts.Check(w.Close())
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	ts.Check(err)
	img, err := mutate.AppendLayers(empty.Image, layer)
	ts.Check(err)
	img, err = mutate.Config(img, v1.Config{Entrypoint: []string{"/start"}, Cmd: []string{"now"}})
	ts.Check(err)
	ref, err := name.ParseReference(args[0])
	ts.Check(err)
	ts.Check(remote.Write(ref, img))
}

// hub is a Hub with accounts, devices and their first states.
type hub struct {
	url      string
	mu       sync.Mutex
	accounts map[string]string // nick, password
	devices  map[string]map[string]any
	objects  map[string][]byte
	states   map[string]string // by the device's token
}

// startHub runs "hub": a Hub at $HUB, with the device "free" that nobody owns.
func startHub(ts *testscript.TestScript, _ bool, _ []string) {
	h := &hub{accounts: map[string]string{}, objects: map[string][]byte{}, states: map[string]string{}}
	h.devices = map[string]map[string]any{"free": {"id": "1", "nick": "free", "challenge": "a-b-c"}}
	srv := httptest.NewServer(h)
	h.url = srv.URL
	ts.Defer(srv.Close)
	ts.Setenv("HUB", srv.URL)
}

// ServeHTTP implements http.Handler.
func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	var in map[string]any
	_ = json.Unmarshal(body, &in)
	word := func(key string) string { s, _ := in[key].(string); return s }
	path := r.URL.Path
	switch {
	case path == "/auth/accounts":
		h.accounts[word("nick")] = word("password")
		h.reply(w, map[string]any{"redirect-uri": h.url + "/finish"})
	case path == "/auth/login":
		h.login(w, word("username"), word("password"))
	case strings.HasPrefix(path, "/s3/"):
		h.objects[filepath.Base(path)] = body
	default:
		h.private(w, r, in, string(body))
	}
}

func (h *hub) reply(w io.Writer, v any) { _ = json.NewEncoder(w).Encode(v) }

func (h *hub) login(w http.ResponseWriter, nick, password string) {
	if want, ok := h.accounts[nick]; !ok || want != password {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	h.reply(w, map[string]any{"token": "T-" + nick})
}

// private answers what needs a login.
func (h *hub) private(w http.ResponseWriter, r *http.Request, in map[string]any, body string) {
	who, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer T-")
	if !ok {
		w.Header().Set("Www-Authenticate", fmt.Sprintf(`JWT realm="pantahub services", ph-aeps="%s/auth"`, h.url))
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	switch path := strings.Trim(r.URL.Path, "/"); {
	case path == "auth/auth_status":
		h.reply(w, map[string]any{"nick": who, "prn": "prn:::accounts:/" + who, "type": "USER"})
	case path == "objects":
		sum, _ := in["sha256sum"].(string)
		h.reply(w, map[string]any{"id": sum, "sha256sum": sum, "signed-puturl": h.url + "/s3/" + sum, "signed-geturl": h.url + "/s3/" + sum})
	case path == "trails/summary":
		h.summary(w, who)
	case path == "trails":
		h.states[who] = body
		h.reply(w, map[string]any{"id": "trail"})
	case path == "devices":
		h.create(w, who, fmt.Sprint(in["nick"]))
	case strings.HasPrefix(path, "devices/"):
		h.device(w, r, who, strings.TrimPrefix(path, "devices/"), in)
	default:
		http.NotFound(w, r)
	}
}

func (h *hub) create(w io.Writer, who, nick string) {
	d := map[string]any{"id": "2", "nick": nick, "prn": "prn:::devices:/2", "secret": "s3cret", "owner": who}
	h.devices[nick], h.accounts["prn:::devices:/2"] = d, "s3cret"
	h.reply(w, d)
}

func (h *hub) summary(w io.Writer, who string) {
	list := []any{}
	for nick, d := range h.devices {
		if d["owner"] == who {
			list = append(list, map[string]any{"deviceid": d["id"], "device-nick": nick, "revision": 3, "status": "DONE"})
		}
	}
	h.reply(w, list)
}

// device reads, claims or changes one device.
func (h *hub) device(w http.ResponseWriter, r *http.Request, who, name string, in map[string]any) {
	name, meta, _ := strings.Cut(name, "/")
	d, ok := h.devices[name]
	switch {
	case !ok:
		http.NotFound(w, r)
		return
	case r.Method == http.MethodPut && r.URL.Query().Get("challenge") != d["challenge"]:
		w.WriteHeader(http.StatusForbidden)
		return
	case r.Method == http.MethodPut:
		d["owner"] = who
		delete(d, "challenge")
	case r.Method == http.MethodPatch:
		d[meta] = in
	}
	h.reply(w, d)
}
