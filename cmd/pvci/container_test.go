package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pantavisor/pantavisor/revision/pvs/trust"
	"github.com/pantavisor/pantavisor/revision/repo"
)

// images is a registry that may stop in the middle of its work.
type images struct {
	handler http.Handler
	stall   atomic.Bool
	blobs   atomic.Int32  // asked for since it stalls
	reached chan struct{} // closed by the first request that waits
	once    sync.Once
}

// ServeHTTP implements http.Handler.
func (i *images) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if i.stall.Load() && r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") && i.blobs.Add(1) > stallAfter {
		i.once.Do(func() { close(i.reached) })
		<-r.Context().Done()
		return
	}
	i.handler.ServeHTTP(w, r)
}

// stallAfter is how many blobs a registry gives before it stalls: for three platforms that is in the middle of the
// second one.
const stallAfter = 7

var registries sync.Map // by work directory of the story

// startRegistry runs "registry": an image registry at $REGISTRY.
func startRegistry(ts *testscript.TestScript, _ bool, _ []string) {
	i := &images{handler: registry.New(registry.Logger(log.New(io.Discard, "", 0))), reached: make(chan struct{})}
	srv := httptest.NewServer(i)
	ts.Defer(srv.Close)
	registries.Store(ts.Getenv("WORK"), i)
	ts.Setenv("REGISTRY", strings.TrimPrefix(srv.URL, "http://"))
}

// stallRegistry runs "stall on" (from now on the registry gives some blobs and no more), "stall reached" (waits
// until somebody waits for it) and "stall off".
func stallRegistry(ts *testscript.TestScript, _ bool, args []string) {
	v, _ := registries.Load(ts.Getenv("WORK"))
	i := v.(*images)
	switch args[0] {
	case "reached":
		select {
		case <-i.reached:
		case <-time.After(time.Minute):
			ts.Fatalf("only %d blobs were asked for", i.blobs.Load())
		}
	default:
		i.stall.Store(args[0] == "on")
	}
}

// platformsOf makes an index with an image for each platform: a layer that all share with the members, and one
// with a program of its own.
func platformsOf(ts *testscript.TestScript, platforms string, members []string) v1.ImageIndex {
	common := layerOf(ts, members...)
	var index v1.ImageIndex = empty.Index
	for _, p := range strings.Split(platforms, ",") {
		parsed, err := v1.ParsePlatform(p)
		ts.Check(err)
		img, err := mutate.AppendLayers(empty.Image, common, layerOf(ts, "start=#!/bin/sh\n# for "+p+"\n"))
		ts.Check(err)
		img, err = mutate.ConfigFile(img, withPlatform(img, ts, parsed))
		ts.Check(err)
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: parsed}})
	}
	return index
}

func withPlatform(img v1.Image, ts *testscript.TestScript, p *v1.Platform) *v1.ConfigFile {
	c, err := img.ConfigFile()
	ts.Check(err)
	c = c.DeepCopy()
	c.OS, c.Architecture, c.Variant = p.OS, p.Architecture, p.Variant
	c.Config = v1.Config{Entrypoint: []string{"/start"}}
	return c
}

func layerOf(ts *testscript.TestScript, members ...string) v1.Layer {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		member, text, _ := strings.Cut(m, "=")
		ts.Check(w.WriteHeader(&tar.Header{Name: member, Mode: 0o755, Size: int64(len(text)), Typeflag: tar.TypeReg}))
		_, err := io.WriteString(w, text)
		ts.Check(err)
	}
	ts.Check(w.Close())
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	ts.Check(err)
	return layer
}

// pushPlatforms runs "push REFERENCE PLATFORMS MEMBER=TEXT…".
func pushPlatforms(ts *testscript.TestScript, _ bool, args []string) {
	ref, err := name.ParseReference(args[0])
	ts.Check(err)
	ts.Check(remote.WriteIndex(ref, platformsOf(ts, args[1], args[2:])))
}

// makeLayout runs "layout DIRECTORY PLATFORMS MEMBER=TEXT…": an OCI layout.
func makeLayout(ts *testscript.TestScript, _ bool, args []string) {
	_, err := layout.Write(ts.MkAbs(args[0]), platformsOf(ts, args[1], args[2:]))
	ts.Check(err)
}

// makeKey runs "mkkey FILE": a new private key.
func makeKey(ts *testscript.TestScript, _ bool, args []string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".pub"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o644))
}

// listDirectory runs "list DIRECTORY FILE": the names of all files below the directory are those that are the
// lines of the file. What tree(1) does not show counts neither: names that begin with a dot.
func listDirectory(ts *testscript.TestScript, _ bool, args []string) {
	var got strings.Builder
	root := ts.MkAbs(args[0])
	ts.Check(filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if strings.HasPrefix(e.Name(), ".") {
			if e.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if rel, err := filepath.Rel(root, path); err == nil && !e.IsDir() {
			fmt.Fprintln(&got, rel)
		}
		return nil
	}))
	if want := ts.ReadFile(args[1]); got.String() != want {
		ts.Fatalf("%s has\n%swant\n%s", args[0], got.String(), want)
	}
}

// startGitLab runs "gitlab TOKEN": a registry of generic packages of project 42 at $GITLAB, with the job's
// variables. Its first answer to each upload is that it is not available.
func startGitLab(ts *testscript.TestScript, _ bool, args []string) {
	var mu sync.Mutex
	files := map[string][]byte{}
	tried := map[string]bool{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		rest, ok := strings.CutPrefix(r.URL.Path, "/api/v4/projects/42/packages/generic/")
		data, known := files[rest]
		switch {
		case r.Header.Get("JOB-TOKEN") != args[0]:
			http.Error(w, `{"message":"401 Unauthorized"} `+r.Header.Get("JOB-TOKEN"), http.StatusUnauthorized)
		case !ok || strings.Count(rest, "/") != 2:
			http.Error(w, "bad path", http.StatusBadRequest)
		case r.Method == http.MethodPut && !tried[rest]:
			tried[rest] = true
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.Method == http.MethodPut:
			files[rest], _ = io.ReadAll(r.Body)
			w.WriteHeader(http.StatusCreated)
		case known:
			_, _ = w.Write(data)
		default:
			http.NotFound(w, r)
		}
	}))
	ts.Defer(srv.Close)
	ts.Setenv("CI_API_V4_URL", srv.URL+"/api/v4")
	ts.Setenv("CI_PROJECT_ID", "42")
	ts.Setenv("GITLAB", srv.URL)
}

// verifyPackage runs "verify FILE KEY OBJECT": a package whose signatures are good by the public key, and
// cover the object. FILE may be a pattern.
func verifyPackage(ts *testscript.TestScript, neg bool, args []string) {
	found, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(found) != 1 {
		ts.Fatalf("%s is %d files", args[0], len(found))
	}
	keys, err := trust.ParsePublicKeys([]byte(ts.ReadFile(args[1])))
	ts.Check(err)
	dir, ctx := ts.Getenv("WORK")+"/verified-"+filepath.Base(found[0])+fmt.Sprint(time.Now().UnixNano()), context.Background()
	ts.Check(os.Mkdir(dir, 0o755))
	ts.Check(repo.Init(dir, repo.InitOptions{}))
	r, err := repo.Open(ctx, dir, repo.Options{Write: true})
	ts.Check(err)
	defer r.Close()
	f, err := os.Open(found[0])
	ts.Check(err)
	defer f.Close()
	ts.Check(r.Import(ctx, f))
	ts.Check(r.Checkout(ctx, repo.CheckoutOptions{}))
	v, err := r.VerifySignatures(ctx, keys)
	ts.Check(err)
	if covered := slices.Contains(v.Protected, args[2]); covered == neg {
		ts.Fatalf("protected are %v", v.Protected)
	}
}

// serveDirectory runs "serve DIRECTORY": its files at $SERVED.
func serveDirectory(ts *testscript.TestScript, _ bool, args []string) {
	srv := httptest.NewServer(http.FileServer(http.Dir(ts.MkAbs(args[0]))))
	ts.Defer(srv.Close)
	ts.Setenv("SERVED", srv.URL)
}
