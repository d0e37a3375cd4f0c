package image

import (
	"archive/tar"
	"bytes"
	"cmp"
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
	"slices"
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
	t.Helper()
	packed := gz(t, layerTar(t, member, data))
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(packed)), nil })
	if err != nil {
		t.Fatal(err)
	}
	return layer
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
		"linux/arm":                         "linux/arm/v7",
		"linux/arm/v6":                      "linux/arm/v6",
		"linux/arm64/v8":                    "linux/arm64/v8",
		"linux/aarch64":                     "linux/arm64/v8",
		"linux/arm/v8":                      "linux/arm/v7",
		"linux/armhf":                       "linux/arm/v7",
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

// layoutOf writes a layout whose index has the given descriptors.
func layoutOf(t testing.TB, add ...mutate.IndexAddendum) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "layout")
	_, err := layout.Write(dir, mutate.AppendManifests(empty.Index, add...))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// forPlatform returns an image whose configuration states a platform.
func forPlatform(t testing.TB, platform string) v1.Image {
	t.Helper()
	img := makeImage(t, platform, gzipLayer(t, "arch", platform))
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, _ = strings.Cut(platform, "/")
	file.Architecture, file.Variant, _ = strings.Cut(file.Architecture, "/")
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	return img
}

// entryOf returns the entry point that Resolve finds, or the error's text.
func entryOf(reference string, opts Options) string {
	i, err := Resolve(context.Background(), reference, opts)
	if err != nil {
		return err.Error()
	}
	defer i.Close()
	return string(i.Config.Encode())
}

// TestVariantsInAnyOrder wants platforms of indexes whose entries come in every order.
func TestVariantsInAnyOrder(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		has          []string
		wanted, want string
	}{
		{[]string{"linux/amd64", "linux/arm64"}, "linux/arm64/v8", `"linux/arm64"`},
		{[]string{"linux/amd64", "linux/arm64/v8"}, "linux/arm64", `"linux/arm64/v8"`},
		{[]string{"linux/arm64/v8", "linux/arm64/v9"}, "linux/arm64", `"linux/arm64/v8"`},
		{[]string{"linux/arm/v5", "linux/arm/v6", "linux/amd64"}, "linux/arm/v7", `"linux/arm/v6"`},
		{[]string{"linux/arm", "linux/arm/v6"}, "linux/arm/v7", `"linux/arm"`},
		{[]string{"linux/arm/v7", "linux/arm/v6"}, "linux/arm", `"linux/arm/v7"`},
		{[]string{"linux/arm/v7", "linux/amd64"}, "linux/arm/v6", "none for linux/arm/v6"},
		{[]string{"linux/amd64/v3", "linux/amd64", "linux/amd64/v2"}, "linux/amd64/v2", `"linux/amd64/v2"`},
		{[]string{"linux/amd64/v3", "linux/arm"}, "linux/amd64", "none for linux/amd64"},
		{[]string{"windows/amd64", "linux/amd64"}, "linux/amd64", `"linux/amd64"`},
		{[]string{"linux/arm64", "windows/arm64"}, "linux/arm", "none for linux/arm"},
	} {
		for range 2 {
			slices.Reverse(c.has)
			var add []mutate.IndexAddendum
			for _, p := range c.has {
				platform, err := v1.ParsePlatform(p)
				if err != nil {
					t.Fatal(err)
				}
				add = append(add, mutate.IndexAddendum{Add: forPlatform(t, p), Descriptor: v1.Descriptor{Platform: platform}})
			}
			if got := entryOf("oci:"+layoutOf(t, add...), Options{Platforms: []string{c.wanted}}); !strings.Contains(got, c.want) {
				t.Errorf("%v, wanted %s: %s; want %s", c.has, c.wanted, got, c.want)
			}
		}
	}
}

func TestWrongPlatformsAreForced(t *testing.T) {
	t.Parallel()
	h := newHost(t, nil)
	for _, c := range []struct{ is, wanted, want string }{
		{"linux/amd64", "linux/arm64", "linux/amd64"},
		{"linux/arm/v7", "linux/arm/v6", "linux/arm/v7"},
		{"windows/amd64", "linux/amd64", "windows/amd64"},
		{"windows/amd64", "", "windows/amd64"},
		{"linux/arm", "linux/arm/v6", ""}, // it does not state the variant
		{"linux/arm64", "linux/arm64/v8", ""},
		{"linux/arm64", "", ""},
	} {
		reference := "reg.example/" + strings.NewReplacer("/", "-").Replace(c.is+"-"+c.wanted) + "x:1"
		h.push(t, reference, forPlatform(t, c.is))
		dir := layoutOf(t, mutate.IndexAddendum{Add: forPlatform(t, c.is)})
		for _, reference := range []string{reference, "oci:" + dir} {
			opts := h.options(t)
			if c.wanted != "" {
				opts.Platforms = []string{c.wanted}
			}
			got := entryOf(reference, opts)
			if ok := strings.HasPrefix(got, "{"); ok != (c.want == "") || !ok && !(strings.Contains(got, c.is) && strings.Contains(got, cmp.Or(c.wanted, "linux"))) {
				t.Errorf("%s for %q: %s", reference, c.wanted, got)
			}
			opts.AnyPlatform = true
			if i, err := Resolve(context.Background(), reference, opts); err != nil || i.Forced != c.want {
				t.Errorf("%s for %q, forced: %+v, %v", reference, c.wanted, i, err)
			}
		}
	}
}

// TestLayoutsOfSeveralImages has tags, attestations, artefacts and nested indexes.
func TestLayoutsOfSeveralImages(t *testing.T) {
	t.Parallel()
	one, two := forPlatform(t, "linux/amd64"), forPlatform(t, "linux/arm64")
	chart := mutate.ConfigMediaType(makeImage(t, "chart"), "application/vnd.cncf.helm.config.v1+json")
	proof := mutate.IndexAddendum{Add: makeImage(t, "proof"), Descriptor: v1.Descriptor{
		Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"}, Annotations: map[string]string{"vnd.docker.reference.type": "attestation-manifest"}}}
	plainChart := mutate.IndexAddendum{Add: chart, Descriptor: v1.Descriptor{MediaType: types.OCIManifestSchema1}}
	inner := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: one}, mutate.IndexAddendum{Add: two}, proof)
	several := layoutOf(t, mutate.IndexAddendum{Add: one, Descriptor: named("v1")}, mutate.IndexAddendum{Add: two, Descriptor: named("docker.io/library/app:v2")}, proof, plainChart)
	alone := layoutOf(t, plainChart, proof, mutate.IndexAddendum{Add: one, Descriptor: named("v1")}, mutate.IndexAddendum{Add: one, Descriptor: named("latest")})
	nested := layoutOf(t, mutate.IndexAddendum{Add: inner, Descriptor: named("multi")}, mutate.IndexAddendum{Add: makeImage(t, "other"), Descriptor: named("other")})
	for _, c := range []struct{ reference, platform, want string }{
		{several + ":v1", "", "linux/amd64"},
		{several + ":v2", "", "linux/arm64"},
		{"oci:" + several + ":docker.io/library/app:v2", "", "linux/arm64"},
		{"oci:" + several + ":v3", "", "it has v1, docker.io/library/app:v2"},
		{"oci:" + several, "", "choose one with oci:DIRECTORY:TAG: v1, docker.io/library/app:v2"},
		{"oci:" + several, "linux/arm64", "linux/arm64"},
		{"oci:" + several + ":v1", "linux/arm64", "none for linux/arm64"},
		{"oci:" + alone, "", "linux/amd64"},
		{"oci:" + alone, "linux/amd64", "linux/amd64"},
		{"oci:" + nested + ":multi", "linux/arm64", "linux/arm64"},
		{"oci:" + nested + ":multi", "", "choose with --platform"},
		{"oci:" + nested + ":other", "", "other"},
		{"oci:" + layoutOf(t, plainChart, proof), "", "no container image"},
		{"oci:" + layoutOf(t), "", "no container image"},
		{"oci:/nowhere:v1", "", "opening the OCI layout /nowhere:v1"},
	} {
		var opts Options
		if c.platform != "" {
			opts.Platforms = []string{c.platform}
		}
		if got := entryOf(c.reference, opts); !strings.Contains(got, c.want) {
			t.Errorf("%s for %q: %s; want %s", c.reference, c.platform, got, c.want)
		}
	}
	i, err := Resolve(context.Background(), "oci:"+several+":v1", Options{})
	if err != nil || JoinReference(i.Name, i.Tag) != "oci:"+several+":v1" {
		t.Errorf("recorded as %q and %q: %v", i.Name, i.Tag, err)
	}
}

// TestArchivesOfSeveralImages has each form of compression.
func TestArchivesOfSeveralImages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	one, two := makeImage(t, "/one", gzipLayer(t, "f", "1")), makeImage(t, "/two", gzipLayer(t, "f", "2"))
	both := map[name.Reference]v1.Image{name.MustParseReference("app:v1"): one, name.MustParseReference("reg.example:5000/app:v2"): two}
	if err := errors.Join(tarball.MultiRefWriteToFile(path("both.tar"), both), tarball.WriteToFile(path("one.tar"), name.MustParseReference("app:v1"), one)); err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{"both.tar", "one.tar"} {
		data, err := os.ReadFile(path(from))
		if err != nil {
			t.Fatal(err)
		}
		enc, err := zstd.NewWriter(nil)
		if err := errors.Join(err, os.WriteFile(path(from+".gz"), append(gz(t, data), make([]byte, 512)...), 0o644), os.WriteFile(path(from+".zst"), enc.EncodeAll(data, nil), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for _, form := range []string{"", ".gz", ".zst"} {
		for reference, want := range map[string]string{
			"one.tar": "/one", "docker-archive:one.tar": "/one", "one.tar:v1": "/one", "one.tar:v2": "it has app:v1",
			"both.tar:v1": "/one", "docker-archive:both.tar:app:v1": "/one", "both.tar:reg.example:5000/app:v2": "/two",
			"both.tar": "choose one with docker-archive:FILE:TAG: ", "both.tar:v3": "it has ",
		} {
			reference := strings.Replace(reference, ".tar", ".tar"+form, 1)
			if got := entryOf(reference, Options{Dir: dir}); !strings.Contains(got, want) {
				t.Errorf("%s: %s; want %s", reference, got, want)
			}
		}
		if _, _, err := compose(t, "docker-archive:"+path("one.tar"+form), Options{}); err != nil {
			t.Errorf("one.tar%s: %v", form, err)
		}
	}
	if err := os.WriteFile(path("bad.tar"), []byte("LZIP\x01"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := entryOf(path("bad.tar"), Options{}); !strings.Contains(got, "the form lzip") {
		t.Errorf("an unknown form: %s", got)
	}
}

// TestRefusals asks registries that do not answer with an image.
func TestRefusals(t *testing.T) {
	t.Parallel()
	said := func(code string) string { return `{"errors":[{"code":"` + code + `","message":"said so"}]}` }
	const page = "<html>sign in</html>"
	for _, c := range []struct {
		status      int
		after, body string
		kind        string // Content-Type
		want        string
		fault       fault.Kind
	}{
		{429, "2", said("TOOMANYREQUESTS"), "", "limits how often it is asked: 429 Too Many Requests, TOOMANYREQUESTS: said so; try again in 2 seconds", fault.Unreachable},
		{429, "Wed, 21 Oct 2026 07:28:00 GMT", "", "", "try again after Wed, 21 Oct 2026 07:28:00 GMT", fault.Unreachable},
		{503, "", page, "text/html", "not available at the moment: 503 Service Unavailable; try again later", fault.Unreachable},
		{500, "", page, "text/html", "an error of its own: 500 Internal Server Error", fault.Unreachable},
		{403, "", said("DENIED"), "", "denies access: 403 Forbidden, DENIED: said so", fault.Missing},
		{401, "", said("UNAUTHORIZED"), "", "docker login", fault.Missing},
		{404, "", said("MANIFEST_UNKNOWN"), "", "image not found", fault.Missing},
		{418, "", page, "text/html", "418 I'm a teapot", fault.Missing},
		{200, "", page, "text/html; charset=utf-8", "a web page", fault.Unreachable},
		{200, "", page, "text/plain", `of type "text/plain", not a container image`, fault.Unsupported},
		{200, "", `{"schemaVersion":1}`, "application/vnd.docker.distribution.manifest.v1+prettyjws", "schema 1", fault.Unsupported},
		{200, "", `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":"sha256:` + strings.Repeat("b", 64) + `","size":2},"layers":[]}`,
			"application/vnd.oci.image.manifest.v1+json", "an artefact of type \"application/vnd.cncf.helm.config.v1+json\"", fault.Unsupported},
	} {
		h := newHost(t, func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/v2/" {
					return
				}
				if c.after != "" {
					w.Header().Set("Retry-After", c.after)
				}
				w.Header().Set("Content-Type", cmp.Or(c.kind, "application/json"))
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			})
		})
		t.Run(fmt.Sprint(c.status, c.kind), func(t *testing.T) {
			t.Parallel() // the library asks again when that may help
			_, err := Resolve(context.Background(), "reg.example/a:1", h.options(t))
			if err == nil || !strings.Contains(err.Error(), c.want) || fault.Of(err) != c.fault || strings.Contains(err.Error(), "<html>") {
				t.Errorf("%v (%v)", err, fault.Of(err))
			}
		})
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
	for reference, want := range map[string]string{"oci:no": "opening the OCI layout no", "docker-archive:no.tar": "opening the archive no.tar"} {
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

// TestUnpackedLayers composes an image twice: the second time of the layers that were unpacked the first time.
func TestUnpackedLayers(t *testing.T) {
	t.Parallel()
	h := newHost(t, nil)
	h.push(t, "reg.example/a:1", makeImage(t, "x", gzipLayer(t, "first", "data"), gzipLayer(t, "second", "more")))
	opts := h.options(t)
	opts.Unpacked = filepath.Join(t.TempDir(), "unpacked")
	for range 2 {
		i, _, err := compose(t, "reg.example/a:1", opts)
		if err != nil {
			t.Fatal(err)
		}
		tree, err := rootfs.New(t.TempDir(), 0)
		if err != nil {
			t.Fatal(err)
		}
		defer tree.Close()
		if err := i.Compose(t.Context(), tree, func(Progress) {}); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{"first": "data", "second": "more"} {
			if got, err := tree.ReadFile(name, 100); err != nil || string(got) != want {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		}
	}
	files, err := filepath.Glob(filepath.Join(opts.Unpacked, "*"))
	if err != nil || len(files) != 2 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, f := range files {
		if err := os.WriteFile(f, []byte("not an archive, which shows that it is read"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := compose(t, "reg.example/a:1", opts); err == nil {
		t.Error("the unpacked layers are not used")
	}
}

// TestDamagedLayersAreNotKept unpacks a layer whose archive is damaged.
func TestDamagedLayersAreNotKept(t *testing.T) {
	t.Parallel()
	h := newHost(t, nil)
	packed := gz(t, append(layerTar(t, "f", strings.Repeat("data", 1000))[:2000], bytes.Repeat([]byte("damaged"), 1000)...))
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(packed)), nil })
	if err != nil {
		t.Fatal(err)
	}
	h.push(t, "reg.example/a:1", makeImage(t, "x", layer))
	opts := h.options(t)
	opts.Unpacked = filepath.Join(t.TempDir(), "unpacked")
	for range 2 {
		if _, _, err := compose(t, "reg.example/a:1", opts); err == nil {
			t.Error("a damaged layer is taken")
		}
	}
	if files, err := os.ReadDir(opts.Unpacked); err != nil || len(files) > 0 {
		t.Errorf("%v; left are %v", err, files)
	}
}
