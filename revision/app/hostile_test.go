package app

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// pushLayers pushes an image of the given uncompressed layers.
func pushLayers(t testing.TB, transport http.RoundTripper, reference string, layers ...[]byte) {
	t.Helper()
	var all []v1.Layer
	for _, l := range layers {
		all = append(all, static.NewLayer(zipped(t, l), types.DockerLayer))
	}
	img, err := mutate.AppendLayers(empty.Image, all...)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(reference)
	if err == nil {
		err = remote.Write(ref, img, remote.WithTransport(transport))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// claim is a layer whose only member says to be of a size that it is not.
func claim(t testing.TB, member string, size int64) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: member, Mode: 0o644, Size: size, Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	return append(b.Bytes(), make([]byte, 1<<20)...)
}

func TestHostileImagesLeaveNothing(t *testing.T) {
	t.Parallel()
	transport, ctx := serve(t), context.Background()
	w, _ := workspace(t, transport)
	const good, bad = "reg.example/good:1", "reg.example/bad:1"
	pushLayers(t, transport, good, tarOf(t, [2]string{"etc/", ""}, [2]string{"etc/a", "1"}))
	if _, err := w.Add(ctx, "good", AddOptions{From: good}); err != nil {
		t.Fatal(err)
	}
	before := treeOf(t, w.Dir)
	for what, layer := range map[string][]byte{
		"../x":  tarOf(t, [2]string{"../x", "y"}),
		"zeros": claim(t, "zeros", 10<<30),
		"short": claim(t, "short", 4<<20),
	} {
		pushLayers(t, transport, bad, layer)
		for op, do := range map[string]func() error{
			"add":       func() error { _, err := w.Add(ctx, "new", AddOptions{From: bad}); return err },
			"add force": func() error { _, err := w.Add(ctx, "good", AddOptions{From: bad, Force: true}); return err },
			"update":    func() error { _, err := w.Update(ctx, "good", UpdateOptions{From: bad}); return err },
			"patch":     func() error { _, err := w.Update(ctx, "good", UpdateOptions{From: bad, Patch: true}); return err },
			"extend":    func() error { _, err := w.Add(ctx, "new", AddOptions{From: bad, Base: "good"}); return err },
		} {
			if err := do(); err == nil || !strings.Contains(err.Error(), what) {
				t.Errorf("%s with %s: error %v", op, what, err)
			}
			if d := cmp.Diff(before, treeOf(t, w.Dir)); d != "" {
				t.Errorf("%s with %s changed the tree:\n%s", op, what, d)
			}
		}
	}
}

func TestBaseMovesWithItsExtensions(t *testing.T) {
	t.Parallel()
	transport, ctx := serve(t), context.Background()
	w, _ := workspace(t, transport)
	push := func(reference string, members ...[2]string) {
		pushLayers(t, transport, reference, tarOf(t, members...))
	}
	push("reg.example/base:1", [2]string{"a", "1"}, [2]string{"b", "1"})
	push("reg.example/ext:1", [2]string{"a", "1"}, [2]string{"b", "1"}, [2]string{"c", "1"})
	for name, o := range map[string]AddOptions{"base": {From: "reg.example/base:1", Group: "data"}} {
		if _, err := w.Add(ctx, name, o); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Add(ctx, "ext", AddOptions{From: "reg.example/ext:1", Base: "base"}); err != nil {
		t.Fatal(err)
	}
	names := func() (paths []string) {
		for _, e := range list(t, filepath.Join(w.Dir, "ext", overlayName)) {
			paths = append(paths, e.Mode[:1]+e.Path)
		}
		return paths
	}
	if d := cmp.Diff([]string{"d/", "-/c"}, names()); d != "" {
		t.Error(d)
	}
	push("reg.example/base:1", [2]string{"a", "2"}, [2]string{"new", "1"}) // the tag moves
	r, err := w.Update(ctx, "base", UpdateOptions{})
	if err != nil || !strings.Contains(strings.Join(r.Written, " "), "ext/root.ovl.squashfs") {
		t.Fatalf("%v, %v", r, err)
	}
	if d := cmp.Diff([]string{"d/", "-/a", "-/b", "-/c", "c/new"}, names()); d != "" {
		t.Errorf("the overlay over the new base:\n%s", d)
	}
	base, ext := mustRead(t, w, "base"), mustRead(t, w, "ext")
	if base.Text("docker_digest") != ext.Text("docker_digest") || ext.Text("docker_digest") == "" {
		t.Errorf("digests %q and %q", base.Text("docker_digest"), ext.Text("docker_digest"))
	}
	before := treeOf(t, w.Dir)
	if r, err := w.Update(ctx, "base", UpdateOptions{}); err != nil || len(r.Written) != 0 || cmp.Diff(before, treeOf(t, w.Dir)) != "" {
		t.Errorf("an update to the same wrote %v, %v", r, err)
	}
}

func mustRead(t testing.TB, w *Workspace, name string) *Source {
	t.Helper()
	s, err := w.read(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestBasesRefused(t *testing.T) {
	t.Parallel()
	transport, ctx := serve(t), context.Background()
	w, _ := workspace(t, transport)
	pushLayers(t, transport, "reg.example/a:1", tarOf(t, [2]string{"a", "1"}))
	put(t, w, "one/src.json", []byte(`{"base":"two","template":"builtin-lxc-docker","docker_digest":"d","docker_name":"n","docker_config":{}}`))
	put(t, w, "two/src.json", []byte(`{"base":"one","template":"builtin-lxc-docker","docker_digest":"d","docker_name":"n","docker_config":{}}`))
	for base, want := range map[string]string{"missing": "has no src.json", "one": "its own base", "../x": "application name"} {
		if _, err := w.Add(ctx, "x", AddOptions{From: "reg.example/a:1", Base: base}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", base, err, want)
		}
	}
	if w.Exists("x") {
		t.Error("something was left")
	}
}

// TestManifestByHand installs a src.json as pipelines keep it, with only a
// reference and a platform.
func TestManifestByHand(t *testing.T) {
	t.Parallel()
	transport, ctx := serve(t), context.Background()
	w, log := workspace(t, transport)
	pushLayers(t, transport, "reg.example/a:v1", tarOf(t, [2]string{"a", "1"}))
	put(t, w, "h/src.json", []byte(`{"template":"builtin-lxc-docker","docker_name":"reg.example/a","docker_tag":"v1","docker_source":"remote","docker_platform":"linux/arm","later":{"x":1}}`))
	if _, err := w.Install(ctx, "h"); err != nil {
		t.Fatal(err)
	}
	src := mustRead(t, w, "h")
	if !strings.HasPrefix(src.Text("docker_digest"), "reg.example/a@sha256:") || string(src.Value("later").Encode()) != `{"x":1}` || !strings.Contains(strings.Join(log.take(), "\n"), "WARN") {
		t.Errorf("%s", src.Encode())
	}
	if src.Text("docker_platform") != "linux/arm" {
		t.Errorf("the platform is now %q", src.Text("docker_platform"))
	}
}

func cpuSeconds(t testing.TB) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// BenchmarkAdd adds an image of the programs and libraries of this machine, 50 MB
// of files, from a warm cache; it reports CPU seconds and the size of the result.
func BenchmarkAdd(b *testing.B) {
	var layer bytes.Buffer
	files := tar.NewWriter(&layer)
	left := int64(50_000_000)
	for _, dir := range []string{"/usr/bin", "/usr/lib/x86_64-linux-gnu", "/usr/share/perl"} {
		left = addFiles(b, files, dir, left)
	}
	if err := files.Close(); err != nil {
		b.Fatal(err)
	}
	transport := serve(b)
	pushLayers(b, transport, "reg.example/fifty:1", layer.Bytes())
	w, _ := workspace(b, transport)
	var size int64
	before := cpuSeconds(b)
	for b.Loop() {
		if err := os.RemoveAll(filepath.Join(w.Dir, "x")); err != nil {
			b.Fatal(err)
		}
		if _, err := w.Add(context.Background(), "x", AddOptions{From: "reg.example/fifty:1"}); err != nil {
			b.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(w.Dir, "x", rootName))
		if err != nil {
			b.Fatal(err)
		}
		size = info.Size()
	}
	b.ReportMetric((cpuSeconds(b)-before)/float64(b.N), "cpu-s/op")
	b.ReportMetric(float64(size), "bytes")
}

// addFiles adds the regular files of a directory up to 4 MB until left are spent.
func addFiles(b *testing.B, w *tar.Writer, dir string, left int64) int64 {
	b.Helper()
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		data, err := os.ReadFile(p)
		if err != nil || len(data) > 4<<20 || int64(len(data)) > left {
			return nil
		}
		left -= int64(len(data))
		err = w.WriteHeader(&tar.Header{Name: p[1:], Mode: 0o755, Size: int64(len(data)), Typeflag: tar.TypeReg})
		_, err2 := w.Write(data)
		return errors.Join(err, err2)
	})
	if err != nil {
		b.Fatal(err)
	}
	return left
}
