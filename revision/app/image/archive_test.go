package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

// archived returns the files of a directory as a tar archive, each name behind a prefix,
// with further members.
func archived(t testing.TB, dir, prefix string, more ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		err = w.WriteHeader(&tar.Header{Name: prefix + rel, Mode: 0o644, Size: int64(len(data))})
		_, err2 := w.Write(data)
		return errors.Join(err, err2)
	})
	for _, h := range more {
		err = errors.Join(err, w.WriteHeader(&h))
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func digestOf(t testing.TB, img v1.Image) string {
	t.Helper()
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

// addSaved writes manifest.json of docker save for an image of a layout in dir.
func addSaved(t testing.TB, dir string, img v1.Image) {
	t.Helper()
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	path := func(h v1.Hash) string { return "blobs/sha256/" + h.Hex }
	one := saved{Config: path(manifest.Config.Digest), RepoTags: []string{"app:v1"}}
	for _, l := range manifest.Layers {
		one.Layers = append(one.Layers, path(l.Digest))
	}
	text, err := json.Marshal([]saved{one})
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "manifest.json"), text)
}

func named(tag string) v1.Descriptor {
	return v1.Descriptor{Annotations: map[string]string{"org.opencontainers.image.ref.name": tag}}
}

// TestLayoutsInArchives reads what skopeo, podman and builders write, and what docker save
// writes since version 25: manifest.json beside a layout.
func TestLayoutsInArchives(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	amd, arm := forPlatform(t, "linux/amd64"), forPlatform(t, "linux/arm64")
	inner := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: amd}, mutate.IndexAddendum{Add: arm})
	layout := layoutOf(t, mutate.IndexAddendum{Add: inner, Descriptor: named("app:v1")}, mutate.IndexAddendum{Add: makeImage(t, "/other", gzipLayer(t, "f", "1")), Descriptor: named("other")})
	plain := archived(t, layout, "./")
	addSaved(t, layout, amd)
	both := archived(t, layout, "")
	for program, suffix := range map[string]string{"": "", "gzip": ".gz", "zstd": ".zst", "xz": ".xz", "bzip2": ".bz2"} {
		writeFile(t, filepath.Join(dir, "oci.tar"+suffix), packed(t, plain, program))
		writeFile(t, filepath.Join(dir, "save.tar"+suffix), packed(t, both, program))
		for _, c := range []struct{ reference, platform, want string }{
			{"oci.tar:v1", "linux/arm64", "linux/arm64"},
			{"oci-archive:oci.tar:app:v1", "linux/amd64", "linux/amd64"},
			{"docker-archive:oci.tar:v1", "linux/amd64", "linux/amd64"},
			{"oci.tar:other", "", "/other"},
			{"oci.tar:v1", "linux/riscv64", "none for linux/riscv64"},
			{"oci.tar", "", "choose one with oci-archive:FILE:TAG: app:v1, other"},
			{"oci.tar@" + digestOf(t, arm), "", "linux/arm64"},
			{"oci:" + layout + "@" + digestOf(t, arm), "", "linux/arm64"},
			{"oci.tar@sha256:" + strings.Repeat("0", 64), "", "it has no image sha256:0000"},
			{"save.tar", "", "linux/amd64"},
			{"save.tar", "linux/amd64", "linux/amd64"},
			{"save.tar:v1", "linux/arm64", "linux/arm64"},
			{"oci-archive:save.tar:other", "", "/other"},
		} {
			opts := Options{Dir: dir}
			if c.platform != "" {
				opts.Platforms = []string{c.platform}
			}
			reference := strings.Replace(c.reference, ".tar", ".tar"+suffix, 1)
			if got := entryOf(reference, opts); !strings.Contains(got, c.want) {
				t.Errorf("%s for %q: %s; want %s", reference, c.platform, got, c.want)
			}
		}
	}
	i, _, err := compose(t, "oci.tar:v1", Options{Dir: dir, Platforms: []string{"linux/arm64"}})
	if err != nil || JoinReference(i.Name, i.Tag) != "oci-archive:oci.tar:v1" || i.Digest != "oci-archive:oci.tar@"+digestOf(t, arm) {
		t.Errorf("%+v, %v", i, err)
	}
	i, _, err = compose(t, "save.tar", Options{Dir: dir})
	if err != nil || i.Name != "docker-archive:save.tar" || !strings.HasPrefix(i.Digest, "sha256:") {
		t.Errorf("%+v, %v", i, err)
	}
}

// packed compresses with a program of the system; "" leaves the data as they are.
func packed(t testing.TB, data []byte, program string) []byte {
	t.Helper()
	if program == "" {
		return data
	}
	cmd := exec.Command(oracle.Program(t, program), "-c")
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestSavedLayersOfEveryForm: the layers of one archive differ in their compression, and
// one is a link to another, as older versions wrote equal layers.
func TestSavedLayersOfEveryForm(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	one, two := layerTar(t, "one", "1"), layerTar(t, "two", "2")
	img := makeImage(t, "/x", gzipLayer(t, "one", "1"), gzipLayer(t, "two", "2"), gzipLayer(t, "one", "1"))
	config, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"config.json": config, "a/layer.tar": one, "b/layer.tar": packed(t, two, "zstd"),
		"manifest.json": []byte(`[{"Config":"config.json","Layers":["a/layer.tar","b/layer.tar","c/layer.tar"]}]`),
	} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, name), data)
	}
	for kind, to := range map[byte]string{tar.TypeSymlink: "../a/layer.tar", tar.TypeLink: "a/layer.tar"} {
		file := filepath.Join(t.TempDir(), "x.tar")
		writeFile(t, file, archived(t, dir, "", tar.Header{Name: "c/layer.tar", Linkname: to, Typeflag: kind}))
		if _, _, err := compose(t, file, Options{}); err != nil {
			t.Errorf("%c: %v", kind, err)
		}
	}
}

func TestUnusableArchives(t *testing.T) {
	t.Parallel()
	img := makeImage(t, "/x", gzipLayer(t, "f", "1"))
	layout := layoutOf(t, mutate.IndexAddendum{Add: img})
	replaced := func(name, text string) []byte {
		dir := filepath.Join(t.TempDir(), "copy")
		if err := os.CopyFS(dir, os.DirFS(layout)); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, name), []byte(text))
		return archived(t, dir, "")
	}
	manifest := "blobs/" + strings.Replace(digestOf(t, img), ":", "/", 1)
	id, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"other manifest": {replaced(manifest, "{}"), "not " + digestOf(t, img)},
		"other config":   {replaced("blobs/sha256/"+id.Hex, "{}"), "not " + id.String()},
		"large manifest": {replaced(manifest, strings.Repeat(" ", maxDocument+1)), "more bytes"},
		"large index":    {replaced("index.json", strings.Repeat(" ", maxDocument+1)), "more bytes"},
		"index of text":  {replaced("index.json", "text"), "index"},
		"odd digest":     {replaced("index.json", `{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha512:../../x","size":1}]}`), "non-hex"},
		"nothing":        {archived(t, t.TempDir(), ""), "neither manifest.json"},
		"docker 1.9":     {archiveOf(t, map[string]string{"repositories": "{}"}), "before version 1.10"},
		"layers differ":  {archiveOf(t, map[string]string{"manifest.json": `[{"Config":"c","Layers":["a"]}]`, "c": "{}"}), "has 0 layers and manifest.json 1"},
		"config is away": {archiveOf(t, map[string]string{"manifest.json": `[{"Config":"../c"}]`}), "file does not exist"},
		"config is link": {archived(t, t.TempDir(), "", tar.Header{Name: "manifest.json", Typeflag: tar.TypeSymlink, Linkname: "manifest.json"}), "neither manifest.json"},
		"no list":        {archiveOf(t, map[string]string{"manifest.json": `{}`}), "manifest.json"},
		"cut":            {archived(t, layout, "")[:700], "unexpected EOF"},
	} {
		file := filepath.Join(t.TempDir(), "x.tar")
		writeFile(t, file, c.data)
		_, _, err := compose(t, file, Options{})
		if err == nil || !strings.Contains(err.Error(), c.want) || fault.Of(err) == fault.Internal {
			t.Errorf("%s: %v (%v); want %s", name, err, fault.Of(err), c.want)
		}
	}
}

func archiveOf(t testing.TB, contents map[string]string) []byte {
	t.Helper()
	dir := t.TempDir()
	for name, text := range contents {
		writeFile(t, filepath.Join(dir, name), []byte(text))
	}
	return archived(t, dir, "")
}
