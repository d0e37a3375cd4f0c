package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pantavisor/pantavisor/revision/app"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/pvs/sign"
	"github.com/pantavisor/pantavisor/revision/pvs/trust"
	"github.com/pantavisor/pantavisor/revision/repo"
	"github.com/pantavisor/pantavisor/revision/state"
)

var imageServers sync.Map // of the running stories, by $REGISTRY

// startImages runs "registry": an image registry at $REGISTRY; "registry stop" stops it.
func startImages(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) > 0 {
		srv, _ := imageServers.Load(ts.Getenv("REGISTRY"))
		srv.(*httptest.Server).Close()
		return
	}
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	ts.Defer(srv.Close)
	imageServers.Store(strings.TrimPrefix(srv.URL, "http://"), srv)
	ts.Setenv("REGISTRY", strings.TrimPrefix(srv.URL, "http://"))
}

// pushImage runs "push REFERENCE MEMBER=TEXT…": an image of one layer. A text "@FILE" stands for the
// content of a file.
func pushImage(ts *testscript.TestScript, _ bool, args []string) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, arg := range args[1:] {
		member, text, _ := strings.Cut(arg, "=")
		if file, ok := strings.CutPrefix(text, "@"); ok {
			text = ts.ReadFile(file)
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
	img, err = mutate.Config(img, v1.Config{Entrypoint: []string{"/start"}})
	ts.Check(err)
	ref, err := name.ParseReference(args[0])
	ts.Check(err)
	ts.Check(remote.Write(ref, img))
}

// startBucket runs "bucket": a server of S3 with the bucket "images" and the environment for it.
func startBucket(ts *testscript.TestScript, _ bool, _ []string) {
	mem := s3mem.New()
	ts.Check(mem.CreateBucket("images"))
	srv := httptest.NewTLSServer(gofakes3.New(mem).Server())
	ts.Defer(srv.Close)
	bundle := ts.MkAbs("s3-ca.pem")
	ts.Check(os.WriteFile(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600))
	for name, value := range map[string]string{
		"AWS_CA_BUNDLE": bundle, "AWS_ENDPOINT_URL_S3": srv.URL, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "bucket-secret",
	} {
		ts.Setenv(name, value)
	}
}

// makeBSP runs "bsp DIR TARGET RELEASE": a repository with a BSP.
func makeBSP(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	write(ts, dir, map[string]string{
		"bsp/run.json": `{"linux":"kernel.img","initrd":"pantavisor"}`, "bsp/kernel.img": "kernel " + args[2], "bsp/pantavisor": "initrd " + args[2],
		"bsp/build.json": fmt.Sprintf(`{"target":%q,"gitdescribe":%q}`, args[1], args[2]), "bsp/src.json": "{}",
	})
	commit(ts, dir)
}

// makeDevice runs "device DIR BSP NAME=SOURCE…": a repository with the BSP of another and containers, each
// from an image, or as pvr:DIR#PART from a repository.
func makeDevice(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	from, err := repo.Local(ts.MkAbs(args[1]+"/.pvr"), false)
	ts.Check(err)
	ts.Check(repo.Init(dir, repo.InitOptions{}))
	r, err := repo.Open(context.Background(), dir, repo.Options{Write: true})
	ts.Check(err)
	_, err = r.Get(context.Background(), from, repo.Ref{}, false)
	ts.Check(err)
	ts.Check(r.Checkout(context.Background(), repo.CheckoutOptions{}))
	r.Close()
	write(ts, dir, map[string]string{"bsp/src.json": fmt.Sprintf(`{"#spec":"bsp-manifest-src@1","pvr":%q}`, ts.MkAbs(args[1]+"/.pvr")+"#bsp")})
	w := &app.Workspace{Dir: dir, Repository: localParts{ts}}
	for _, a := range args[2:] {
		name, from, _ := strings.Cut(a, "=")
		o := app.AddOptions{From: from}
		if part, ok := strings.CutPrefix(from, "pvr:"); ok {
			from, part, _ = strings.Cut(part, "#")
			o = app.AddOptions{From: ts.MkAbs(from) + "/.pvr#" + part, Kind: app.PVR}
		}
		_, err := w.Add(context.Background(), name, o)
		ts.Check(err)
	}
	commit(ts, dir)
}

// localParts gives applications the parts of repositories in directories.
type localParts struct{ ts *testscript.TestScript }

// Fetch implements app.Repository.
func (l localParts) Fetch(ctx context.Context, name string, f state.Fragment) (*state.State, *objects.Store, error) {
	src, err := repo.Local(name, false)
	if err != nil {
		return nil, nil, err
	}
	to, err := objects.Create(l.ts.MkAbs("parts"))
	if err != nil {
		return nil, nil, err
	}
	pulled, err := src.Pull(ctx, to, f.Takes)
	if err != nil {
		return nil, nil, err
	}
	return pulled.State, to, nil
}

func sumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func write(ts *testscript.TestScript, dir string, files map[string]string) {
	for name, text := range files {
		path := filepath.Join(dir, name)
		ts.Check(os.MkdirAll(filepath.Dir(path), 0o755))
		ts.Check(os.WriteFile(path, []byte(text), 0o644))
	}
}

// commit commits all files of a checkout, whose repository is made when there is none.
func commit(ts *testscript.TestScript, dir string) {
	if _, err := os.Stat(filepath.Join(dir, repo.Dir)); err != nil {
		ts.Check(repo.Init(dir, repo.InitOptions{}))
	}
	r, err := repo.Open(context.Background(), dir, repo.Options{Write: true})
	ts.Check(err)
	defer r.Close()
	_, err = r.Add(context.Background(), []string{"."}, false)
	ts.Check(err)
	ts.Check(r.Commit(context.Background(), repo.CommitOptions{}))
}

// hub is a Hub with one account and its devices, of which each step has a state.
type hub struct {
	url     string
	mu      sync.Mutex
	steps   map[string][]hubStep // by NICK/DEVICE
	objects map[string][]byte
}

// networkDevice is the device at the address that one in the network has: it wants no login, and its
// revisions have no addresses of their own.
const networkDevice = "cgi-bin/pvr"

type hubStep struct{ state, message string }

var hubs sync.Map // of the running stories, by $HUB

// startHub runs "hub": a Hub for the user "bot" with the password "hub-secret".
func startHub(ts *testscript.TestScript, _ bool, _ []string) {
	h := &hub{steps: map[string][]hubStep{}, objects: map[string][]byte{}}
	srv := httptest.NewServer(h)
	h.url = srv.URL
	ts.Defer(srv.Close)
	hubs.Store(srv.URL, h)
	ts.Setenv("HUB", srv.URL)
	ts.Setenv("PVR_BASEURL", srv.URL)
	ts.Setenv("PVR_REPO_BASEURL", srv.URL)
}

func hubOf(ts *testscript.TestScript) *hub {
	h, ok := hubs.Load(ts.Getenv("HUB"))
	if !ok {
		ts.Fatalf("the story has no hub")
	}
	return h.(*hub)
}

// seedHub runs "hubdevice NICK/DEVICE [DIR]": a device with the state of a repository, or without one.
func seedHub(ts *testscript.TestScript, _ bool, args []string) {
	h := hubOf(ts)
	h.mu.Lock()
	defer h.mu.Unlock()
	text := `{"#spec":"` + state.Spec + `"}`
	if len(args) > 1 {
		r, err := repo.Open(context.Background(), ts.MkAbs(args[1]), repo.Options{})
		ts.Check(err)
		defer r.Close()
		store, err := r.Objects()
		ts.Check(err)
		for _, sum := range r.Committed().Sums() {
			path, err := store.Path(sum)
			ts.Check(err)
			h.objects[sum], err = os.ReadFile(path)
			ts.Check(err)
		}
		text = string(r.Committed().Encode())
	}
	h.steps[args[0]] = []hubStep{{text, "first"}}
}

// hubState runs "hubstate NICK/DEVICE COUNT": it compares the number of steps, and prints the message
// of the newest one to the file message, its state to the file state.
func hubState(ts *testscript.TestScript, _ bool, args []string) {
	h := hubOf(ts)
	h.mu.Lock()
	defer h.mu.Unlock()
	steps := h.steps[args[0]]
	if strconv.Itoa(len(steps)) != args[1] {
		ts.Fatalf("%s has %d steps, want %s", args[0], len(steps), args[1])
	}
	last := steps[len(steps)-1]
	ts.Check(os.WriteFile(ts.MkAbs("message"), []byte(last.message), 0o644))
	ts.Check(os.WriteFile(ts.MkAbs("state"), []byte(last.state), 0o644))
}

// ServeHTTP implements http.Handler.
func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	h.mu.Lock()
	defer h.mu.Unlock()
	words := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case r.URL.Path == "/auth/login":
		h.login(w, body)
		return
	case words[0] == "s3" && r.Method == http.MethodPut:
		if sumOf(body) != words[1] {
			http.Error(w, "wrong content", http.StatusBadRequest)
			return
		}
		h.objects[words[1]] = body
		return
	case words[0] == "s3":
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(h.objects[words[1]]))
		return
	case r.Header.Get("Authorization") != "Bearer T" && !strings.Contains(r.URL.Path, networkDevice):
		w.Header().Set("Www-Authenticate", fmt.Sprintf(`JWT realm="pantahub services", ph-aeps="%s/auth"`, h.url))
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	h.private(w, r, words, body)
}

func (h *hub) login(w http.ResponseWriter, body []byte) {
	var in struct{ Username, Password string }
	if json.Unmarshal(body, &in) != nil || in.Username != "bot" || in.Password != "hub-secret" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	fmt.Fprint(w, `{"token":"T"}`)
}

// private answers NICK/DEVICE/.pvrremote, .../steps/N/.pvrremote and below trails/NICK/DEVICE/steps.
func (h *hub) private(w http.ResponseWriter, r *http.Request, words []string, body []byte) {
	trail := words[0] == "trails"
	if trail {
		words = words[1:]
	}
	if len(words) < 3 {
		http.NotFound(w, r)
		return
	}
	device := words[0] + "/" + words[1]
	steps, ok := h.steps[device]
	if !ok {
		http.NotFound(w, r)
		return
	}
	n := len(steps) - 1
	if words[2] == "steps" && len(words) > 3 {
		n, _ = strconv.Atoi(words[3])
	}
	switch last := words[len(words)-1]; {
	case n < 0 || n >= len(steps):
		http.NotFound(w, r)
	case last == ".pvrremote" && device == networkDevice:
		fmt.Fprintf(w, `{"pvr-spec":"pvr-pantahub-1","json-get-url":"%[1]s/trails/%[2]s/json/state","json-key":"state","objects-endpoint":"%[1]s/trails/%[2]s/objects","post-url":"%[1]s/trails/%[2]s/steps"}`, h.url, device)
	case last == ".pvrremote" && !trail:
		fmt.Fprintf(w, `{"pvr-spec":"pvr-pantahub-1","json-get-url":"%[1]s/trails/%[2]s/steps/%[3]d/state","json-key":"state","objects-endpoint":"%[1]s/trails/%[2]s/steps/%[3]d/objects","post-url":"%[1]s/trails/%[2]s/steps"}`, h.url, device, n)
	case last == "state":
		fmt.Fprint(w, steps[n].state)
	case last == "steps" && r.Method == http.MethodPost:
		h.step(w, device, body)
	default:
		h.object(w, r, strings.Trim(last, "/"), body)
	}
}

func (h *hub) object(w http.ResponseWriter, r *http.Request, sum string, body []byte) {
	if r.Method == http.MethodPost {
		var in struct{ Sha256sum string }
		_ = json.Unmarshal(body, &in)
		sum = in.Sha256sum
	}
	data, ok := h.objects[sum]
	switch {
	case r.Method == http.MethodGet && !ok:
		http.NotFound(w, r)
		return
	case r.Method == http.MethodPost && ok:
		w.WriteHeader(http.StatusConflict)
	}
	fmt.Fprintf(w, `{"id":%q,"sha256sum":%[1]q,"size":"%d","signed-geturl":"%[3]s/s3/%[1]s","signed-puturl":"%[3]s/s3/%[1]s"}`, sum, len(data), h.url)
}

// step takes a state whose objects are all there.
func (h *hub) step(w http.ResponseWriter, device string, body []byte) {
	doc, err := canon.Parse(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	given, _ := doc.Get("state")
	st, err := state.Parse(given.Encode())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for _, sum := range st.Sums() {
		if _, ok := h.objects[sum]; !ok {
			http.Error(w, "an object is missing", http.StatusBadRequest)
			return
		}
	}
	m, _ := doc.Get("commit-msg")
	message, _ := m.Text()
	h.steps[device] = append(h.steps[device], hubStep{string(st.Encode()), message})
	fmt.Fprintf(w, `{"rev":%d,"state-sha":%q,"trail-id":%q}`, len(h.steps[device])-1, sumOf(st.Encode()), device)
}

// startDeploy runs "deploy": GitLab's API at $CI_API_V4_URL, which triggers the project group/deploy
// with the token "deploy-secret" and appends what it got to the file triggers.
func startDeploy(ts *testscript.TestScript, _ bool, _ []string) {
	file := ts.MkAbs("triggers")
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.EscapedPath() != "/api/v4/projects/group%2Fdeploy/trigger/pipeline" || r.FormValue("token") != "deploy-secret" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err == nil {
			fmt.Fprintf(f, "%s %s\n", r.FormValue("ref"), r.FormValue("variables[PROMOTED_TAG]"))
			err = f.Close()
		}
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `{"web_url":"https://gitlab.example/group/deploy/-/pipelines/1"}`)
	}))
	ts.Defer(srv.Close)
	ts.Setenv("CI_API_V4_URL", srv.URL+"/api/v4")
}

// signPart runs "signpart DIR PART KEY": it signs a part of a repository without certificates.
func signPart(ts *testscript.TestScript, _ bool, args []string) {
	r, err := repo.Open(context.Background(), ts.MkAbs(args[0]), repo.Options{Write: true})
	ts.Check(err)
	key, err := sign.ParseKey([]byte(ts.ReadFile(args[2])))
	if err == nil {
		_, err = r.Sign(map[string]state.Rule{args[1]: sign.PartRule(args[1], nil, nil, false)}, sign.Options{Key: key})
	}
	r.Close()
	ts.Check(err)
	commit(ts, ts.MkAbs(args[0]))
}

// verifyDevice runs "verifydevice DIR PUBLIC-KEY KEY…": all signatures of a repository hold, and they
// cover the keys.
func verifyDevice(ts *testscript.TestScript, _ bool, args []string) {
	ctx := context.Background()
	keys, err := trust.ParsePublicKeys([]byte(ts.ReadFile(args[1])))
	ts.Check(err)
	r, err := repo.Open(ctx, ts.MkAbs(args[0]), repo.Options{Write: true})
	ts.Check(err)
	defer r.Close()
	ts.Check(r.Checkout(ctx, repo.CheckoutOptions{}))
	v, err := r.VerifySignatures(ctx, keys)
	ts.Check(err)
	for _, key := range args[2:] {
		if !slices.Contains(v.Protected, key) {
			ts.Fatalf("%s is not signed; what is: %v", key, v.Protected)
		}
	}
}
