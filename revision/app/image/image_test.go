package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"

	"github.com/pantavisor/pantavisor/formats/squashfs"
	formatstree "github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/app/rootfs"
)

// layerTar is a layer with one file.
func layerTar(t testing.TB, member, data string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: member, Mode: 0o644, Size: int64(len(data)), Typeflag: tar.TypeReg})
	_, err2 := io.WriteString(w, data)
	if err := errors.Join(err, err2, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gz(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(data)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// makeImage makes an image with the layers and an entry point.
func makeImage(t testing.TB, entry string, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err == nil {
		img, err = mutate.Config(img, v1.Config{Entrypoint: []string{entry}})
	}
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func gzipLayer(t testing.TB, member, data string) v1.Layer {
	return static.NewLayer(gz(t, layerTar(t, member, data)), types.DockerLayer)
}

// host is a registry; wrap may change its answers.
type host struct {
	transport http.RoundTripper
	handler   http.Handler
}

func newHost(t testing.TB, wrap func(http.Handler) http.Handler) *host {
	t.Helper()
	h := &host{handler: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	if wrap != nil {
		h.handler = wrap(h.handler)
	}
	server := httptest.NewTLSServer(h.handler)
	t.Cleanup(server.Close)
	transport := server.Client().Transport.(*http.Transport).Clone()
	transport.TLSClientConfig.ServerName = "example.com"
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, server.Listener.Addr().String())
	}
	h.transport = transport
	return h
}

func (h *host) push(t testing.TB, reference string, img v1.Image) {
	t.Helper()
	ref, err := name.ParseReference(reference)
	if err == nil {
		err = remote.Write(ref, img, remote.WithTransport(h.transport))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (h *host) options(t testing.TB) Options {
	return Options{Origins: []Origin{Remote}, Transport: h.transport, Cache: filepath.Join(t.TempDir(), "cache"), Keychain: authn.NewMultiKeychain()}
}

// compose resolves and applies an image and returns the names that became files.
func compose(t testing.TB, reference string, opts Options) (*Image, []Progress, error) {
	t.Helper()
	i, err := Resolve(context.Background(), reference, opts)
	if err != nil {
		return nil, nil, err
	}
	t.Cleanup(i.Close)
	tree, err := rootfs.New(t.TempDir(), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	var seen []Progress
	if err := i.Compose(context.Background(), tree, func(p Progress) { seen = append(seen, p) }); err != nil {
		return i, seen, err
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return i, seen, tree.WriteSquashfs(context.Background(), f, squashfs.Options{Compression: squashfs.Zstd, Level: 1}, formatstree.Normal{})
}

func TestLayerForms(t *testing.T) {
	t.Parallel()
	h := newHost(t, nil)
	plain := layerTar(t, "f", "data")
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for form, layer := range map[string]v1.Layer{
		"docker":   static.NewLayer(gz(t, plain), types.DockerLayer),
		"oci":      static.NewLayer(gz(t, plain), types.OCILayer),
		"oci-zstd": static.NewLayer(enc.EncodeAll(plain, nil), types.OCILayerZStd),
		"oci-tar":  static.NewLayer(plain, types.OCIUncompressedLayer),
	} {
		t.Run(form, func(t *testing.T) {
			reference := "reg.example/a/" + form + ":1"
			h.push(t, reference, makeImage(t, form, layer))
			i, seen, err := compose(t, reference, h.options(t))
			if err != nil || len(seen) != 2 || seen[0].State != Downloaded {
				t.Fatalf("%v, %v", seen, err)
			}
			if i.Name != "reg.example/a/"+form || i.Tag != "1" || !strings.HasPrefix(i.Digest, i.Name+"@sha256:") || string(i.Config.Encode()) != `{"Entrypoint":["`+form+`"]}` {
				t.Errorf("%+v, config %s", i, i.Config.Encode())
			}
		})
	}
	h.push(t, "reg.example/odd:1", makeImage(t, "x", static.NewLayer(plain, "application/x-other")))
	if _, _, err := compose(t, "reg.example/odd:1", h.options(t)); fault.Of(err) != fault.Unsupported {
		t.Errorf("an unknown layer type: %v", err)
	}
}

func TestCache(t *testing.T) {
	t.Parallel()
	h := newHost(t, nil)
	h.push(t, "reg.example/a:1", makeImage(t, "x", gzipLayer(t, "f", "data")))
	opts := h.options(t)
	state := func() State {
		t.Helper()
		_, seen, err := compose(t, "reg.example/a:1", opts)
		if err != nil {
			t.Fatal(err)
		}
		return seen[0].State
	}
	if got := []State{state(), state()}; got[0] != Downloaded || got[1] != Cached {
		t.Errorf("first and second time: %v", got)
	}
	files, err := filepath.Glob(filepath.Join(opts.Cache, "sha256:*.tar.gz"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	if err := os.WriteFile(files[0], []byte("damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := state(); got != Downloaded {
		t.Errorf("a damaged cache: %v", got)
	}
	opts.Cache = ""
	if got := state(); got != Downloaded {
		t.Errorf("no cache: %v", got)
	}
}

// corrupt changes the bodies of blobs.
func corrupt(change func([]byte) []byte) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
				next.ServeHTTP(w, r)
				return
			}
			rec := httptest.NewRecorder()
			next.ServeHTTP(rec, r)
			body := rec.Body.Bytes()
			if len(body) > 2 && body[0] == 0x1f {
				body = change(body)
			}
			w.WriteHeader(rec.Code)
			_, _ = w.Write(body)
		})
	}
}

func TestDamagedDownloads(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func([]byte) []byte{
		"other bytes": func(b []byte) []byte { b = bytes.Clone(b); b[len(b)-1] ^= 1; return b },
		"truncated":   func(b []byte) []byte { return b[:len(b)/2] },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, corrupt(change))
			h.push(t, "reg.example/a:1", makeImage(t, "x", gzipLayer(t, "f", strings.Repeat("data", 1000))))
			opts := h.options(t)
			_, _, err := compose(t, "reg.example/a:1", opts)
			if err == nil || !strings.Contains(err.Error(), "layer 0 of reg.example/a") {
				t.Errorf("error %v", err)
			}
			left, err := os.ReadDir(opts.Cache)
			if err != nil || len(left) != 0 {
				t.Errorf("the cache has %v, %v", left, err)
			}
		})
	}
}

// bomb is a gzip layer whose member says to have 10 GiB of zeros.
func bomb(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	tw := tar.NewWriter(w)
	if err := tw.WriteHeader(&tar.Header{Name: "zeros", Mode: 0o644, Size: 10 << 30, Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	_, err := tw.Write(make([]byte, 64<<20))
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestHostileLayers(t *testing.T) {
	t.Parallel()
	h := newHost(t, nil)
	random := make([]byte, 100_000)
	if _, err := rand.Read(random); err != nil {
		t.Fatal(err)
	}
	whole := gz(t, layerTar(t, "a/file", string(random)))
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"parent":            {gz(t, layerTar(t, "../../etc/passwd", "x")), "../../etc/passwd"},
		"ten gigabytes":     {bomb(t), "zeros"},
		"truncated gzip":    {whole[:len(whole)/2], "a/file"},
		"no checksum":       {whole[:len(whole)-4], "unexpected EOF"},
		"no archive":        {gz(t, bytes.Repeat([]byte("no tar "), 200)), "tar header"},
		"whiteout nameless": {gz(t, layerTar(t, "etc/.wh.", "")), "etc/.wh."},
	} {
		t.Run(name, func(t *testing.T) {
			reference := "reg.example/" + strings.ReplaceAll(name, " ", "-") + ":1"
			h.push(t, reference, makeImage(t, "x", static.NewLayer(c.data, types.DockerLayer)))
			if _, _, err := compose(t, reference, h.options(t)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	opts := h.options(t)
	opts.LayerLimit = 100
	h.push(t, "reg.example/large:1", makeImage(t, "x", gzipLayer(t, "f", fmt.Sprint(make([]int, 5000)))))
	opts.LayerLimit = 50
	if _, _, err := compose(t, "reg.example/large:1", opts); err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("a layer beyond the limit: %v", err)
	}
}

func TestPlatforms(t *testing.T) {
	t.Parallel()
	h := newHost(t, nil)
	var index v1.ImageIndex = empty.Index
	for _, p := range []string{"linux/amd64", "linux/arm/v6", "linux/arm/v7", "linux/arm64/v8", "unknown/unknown"} {
		platform, err := parsePlatform(p)
		if err != nil {
			t.Fatal(err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: makeImage(t, p, gzipLayer(t, "arch", p)), Descriptor: v1.Descriptor{Platform: &platform}})
	}
	ref, err := name.ParseReference("reg.example/multi:1")
	if err == nil {
		err = remote.WriteIndex(ref, index, remote.WithTransport(h.transport))
	}
	if err != nil {
		t.Fatal(err)
	}
	for wanted, want := range map[string]string{
		"linux/arm64":                       "linux/arm64/v8",
		"linux/arm":                         "linux/arm/v6",
		"linux/arm/v7,linux/amd64":          "linux/arm/v7",
		"linux/s390x,linux/arm64,linux/arm": "linux/arm64/v8",
		"":                                  "choose with --platform",
		"linux/s390x":                       "none for linux/s390x",
		"linux/arm/v5":                      "none for linux/arm/v5",
		"arm":                               "os/architecture",
	} {
		opts := h.options(t)
		if wanted != "" {
			opts.Platforms = strings.Split(wanted, ",")
		}
		i, err := Resolve(context.Background(), "reg.example/multi:1", opts)
		got := fmt.Sprint(err)
		if err == nil {
			got = string(i.Config.Encode())
		}
		if !strings.Contains(got, want) || err != nil && fault.Of(err) != fault.BadInput {
			t.Errorf("wanted %q: %s; want %s", wanted, got, want)
		}
	}
	if _, err := ParsePlatforms([]byte(`{"platforms":["x"]}`)); err == nil {
		t.Error("a bad platform list is accepted")
	}
	list, err := ParsePlatforms([]byte(`{"platforms":["linux/arm","linux/arm/v6"]}`))
	if err != nil || len(list) != 2 {
		t.Errorf("%v, %v", list, err)
	}
}

func TestCredentials(t *testing.T) {
	h := newHost(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if user, password, ok := r.BasicAuth(); r.Method == http.MethodGet && (!ok || user != "me" || password != "secret") {
				w.Header().Set("WWW-Authenticate", `Basic realm="here"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	img := makeImage(t, "x", gzipLayer(t, "f", "data"))
	ref, err := name.ParseReference("reg.example/private:1")
	if err == nil {
		err = remote.Write(ref, img, remote.WithTransport(h.transport), remote.WithAuth(&authn.Basic{Username: "me", Password: "secret"}))
	}
	if err != nil {
		t.Fatal(err)
	}
	opts := h.options(t)
	if _, _, err := compose(t, "reg.example/private:1", opts); !errors.Is(err, errNotFound) || fault.Of(err) != fault.Missing {
		t.Errorf("without credentials: %v", err)
	}
	opts.Username, opts.Password = "me", "secret"
	if _, _, err := compose(t, "reg.example/private:1", opts); err != nil {
		t.Errorf("with flags: %v", err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(`{"auths":{"reg.example":{"username":"me","password":"secret"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_CONFIG", dir)
	opts = h.options(t)
	opts.Keychain = nil
	if _, _, err := compose(t, "reg.example/private:1", opts); err != nil {
		t.Errorf("with the docker configuration: %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	dead := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: errors.New("refused")}
	}}
	_, err := Resolve(context.Background(), "reg.example/a:1", Options{Origins: []Origin{Remote}, Transport: dead, Keychain: authn.NewMultiKeychain()})
	if fault.Of(err) != fault.Unreachable {
		t.Errorf("%v (%v)", err, fault.Of(err))
	}
}

func TestLayoutAndArchive(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	img := makeImage(t, "/local", gzipLayer(t, "f", "data"))
	directory, err := layout.Write(filepath.Join(dir, "layout"), empty.Index)
	if err == nil {
		err = directory.AppendImage(img)
	}
	if err == nil {
		err = tarball.WriteToFile(filepath.Join(dir, "saved.tar"), name.MustParseReference("x:1"), img)
	}
	if err != nil {
		t.Fatal(err)
	}
	id, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for reference, want := range map[string]string{
		"layout":                              "oci:layout@" + digest.String(),
		"oci:layout":                          "oci:layout@" + digest.String(),
		"oci:layout@" + digest.String():       "oci:layout@" + digest.String(),
		"saved.tar":                           id.String(),
		"docker-archive:saved.tar":            id.String(),
		filepath.Join(dir, "saved.tar"):       id.String(),
		"oci:" + filepath.Join(dir, "layout"): "oci:" + filepath.Join(dir, "layout") + "@" + digest.String(),
	} {
		i, _, err := compose(t, reference, Options{Dir: dir})
		if err != nil || i.Digest != want || !strings.Contains(string(i.Config.Encode()), "/local") {
			t.Errorf("%s: %+v, %v; want digest %s", reference, i, err, want)
		}
	}
	for reference, want := range map[string]string{"oci:no": "opening the OCI layout no", "docker-archive:no.tar": "opening the docker archive no.tar"} {
		if _, _, err := compose(t, reference, Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", reference, err)
		}
	}
}

// daemonAt is a Docker daemon that has one image.
func daemonAt(t testing.TB, img v1.Image) string {
	t.Helper()
	var saved bytes.Buffer
	if err := tarball.Write(name.MustParseReference("x:1"), img, &saved); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/images/mine:1/json", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"Id": "sha256:abc", "RepoDigests": []string{"mine@sha256:def"}})
	})
	mux.HandleFunc("/images/sha256:abc/get", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(saved.Bytes()) })
	dir, err := os.MkdirTemp("", "d")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: mux}}
	server.Start()
	t.Cleanup(server.Close)
	return socket
}

func TestDaemon(t *testing.T) {
	t.Parallel()
	socket := daemonAt(t, makeImage(t, "/d", gzipLayer(t, "f", "data")))
	i, _, err := compose(t, "mine:1", Options{Origins: []Origin{Local}, Socket: socket})
	if err != nil || i.Digest != "mine@sha256:def" || i.Name != "mine" || i.Tag != "1" || i.Origin != Local {
		t.Errorf("%+v, %v", i, err)
	}
	if _, _, err := compose(t, "other:1", Options{Origins: []Origin{Local}, Socket: socket}); !errors.Is(err, errNotFound) {
		t.Errorf("an image that it does not have: %v", err)
	}
	_, _, err = compose(t, "mine:1", Options{Origins: []Origin{Local}, Socket: filepath.Join(t.TempDir(), "none")})
	if fault.Of(err) != fault.Missing || !strings.Contains(err.Error(), "Docker daemon at unix://") {
		t.Errorf("without a daemon: %v", err)
	}
}

func TestReferences(t *testing.T) {
	t.Parallel()
	for reference, want := range map[string][2]string{
		"nginx": {"nginx", "latest"}, "nginx:1": {"nginx", "1"}, "host:5000/a/b": {"host:5000/a/b", "latest"},
		"host:5000/a/b:v": {"host:5000/a/b", "v"}, "a@sha256:00": {"a@sha256", "00"},
	} {
		name, tag := splitReference(reference)
		if name != want[0] || tag != want[1] {
			t.Errorf("%s: %s and %s", reference, name, tag)
		}
		if back := JoinReference(name, tag); back != reference && back != reference+":latest" {
			t.Errorf("%s comes back as %s", reference, back)
		}
	}
	if _, err := ParseOrigins("remote,elsewhere"); fault.Of(err) != fault.BadInput {
		t.Errorf("%v", err)
	}
	if list, err := ParseOrigins("local,remote"); err != nil || len(list) != 2 || list[0] != Local {
		t.Errorf("%v, %v", list, err)
	}
}
