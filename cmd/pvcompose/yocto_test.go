package main

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/pantavisor/pantavisor/internal/workspace"
)

type object = map[string]any

// TestYocto makes a deploy directory as a build with Yocto leaves it from the inputs of a target,
// and composes it: from the list of the layer's classes, and from the directory alone. Both must
// be the image that the inputs themselves make, bit for bit.
func TestYocto(t *testing.T) {
	if testing.Short() {
		t.Skip("builds images")
	}
	root, err := filepath.Abs("../..")
	must(t, err)
	m, err := workspace.OpenMaker(t.Context(), root, "x64-uefi", func(text string) { t.Log(text) })
	must(t, err)
	dir := t.TempDir()
	saved := filepath.Join(dir, "inputs")
	must(t, m.Inputs(t.Context(), saved))
	list := readObject(t, filepath.Join(saved, "inputs.json"))
	b := &yoctoBuild{t: t, saved: saved, deploy: filepath.Join(dir, "deploy/images/qemux86-64"), list: list}
	want := composed(t, filepath.Join(saved, "direct.json"), b.direct())
	b.deployed()

	layer := filepath.Join(dir, "pv-bundle.json")
	writeObject(t, layer, b.layer())
	for name, args := range map[string][]string{
		"from the layer's list": {layer},
		"from the deploy directory": {
			"--deploy-dir", b.deploy, "--image", "app", "--machine", "qemux86-64", "--with", b.partial(), "--target", "x64-uefi",
			"--outputs", "image", "--epoch", "1700000000",
		},
	} {
		made := filepath.Join(dir, "made", filepath.Base(t.TempDir()), "inputs.json")
		must(t, os.MkdirAll(filepath.Dir(made), 0o755))
		if code := Run(t.Context(), append([]string{"from-yocto", "--out", made}, args...), io.Discard, os.Stderr); code != 0 {
			t.Fatalf("%s: exit code %d", name, code)
		}
		if got := composed(t, made, readObject(t, made)); got != want {
			t.Errorf("%s: the image differs from the one of the inputs themselves", name)
		}
	}
}

// yoctoBuild is a build with Yocto of the inputs of a target.
type yoctoBuild struct {
	t             *testing.T
	saved, deploy string
	list          object
}

// direct is the list with the inputs where they are, and a container from a directory.
func (b *yoctoBuild) direct() object {
	app := filepath.Join(b.saved, "app")
	must(b.t, os.MkdirAll(filepath.Join(app, "etc"), 0o755))
	must(b.t, os.WriteFile(filepath.Join(app, "etc/passwd"), []byte("root:x:0:0::/:/bin/sh\n"), 0o644))
	program, err := os.ReadFile(filepath.Join(b.saved, "runtime"))
	must(b.t, err)
	must(b.t, os.WriteFile(filepath.Join(app, "init"), program[:1<<20], 0o755))
	out := maps.Clone(b.list)
	out["outputs"], out["epoch"] = []any{"image"}, 1700000000
	out["containers"] = []any{object{
		"name": "app", "root": object{"form": "directory", "path": "app"}, "compression": "xz", "entrypoint": []any{"/init"},
		"args": object{"PV_GROUP": "root", "PV_ROLES": []any{"mgmt"}}, "persistence": object{"ovl:/var": "permanent"},
	}}
	return out
}

// partial writes what a build does not know.
func (b *yoctoBuild) partial() string {
	out := maps.Clone(b.list)
	for _, field := range []string{"#spec", "target", "epoch", "outputs"} {
		delete(out, field)
	}
	k := maps.Clone(out["kernel"].(object))
	delete(k, "image")
	delete(k, "modules")
	out["kernel"] = k
	out["containers"] = []any{object{"name": "app", "entrypoint": []any{"/init"}}}
	file := filepath.Join(b.saved, "partial.json")
	writeObject(b.t, file, out)
	return file
}

const linkName = "app-qemux86-64.rootfs"

// deployed writes the deploy directory: files under the names of a build, and links to them.
func (b *yoctoBuild) deployed() {
	must(b.t, os.MkdirAll(b.deploy, 0o755))
	kernel, err := os.ReadFile(filepath.Join(b.saved, "kernel/image"))
	must(b.t, err)
	b.put("bzImage--6.1-r0-qemux86-64-20260102030405.bin", kernel, "bzImage-qemux86-64.bin", "bzImage")
	b.pack("modules--6.1-r0-qemux86-64-20260102030405.tgz", filepath.Join(b.saved, "kernel/modules"), "modules-qemux86-64.tgz")
	b.pack("app-qemux86-64.rootfs-20260102030405.tar.gz", filepath.Join(b.saved, "app"), linkName+".tar.gz")
	variables, err := json.Marshal(object{
		"PN": "app", "MACHINE": "qemux86-64", "IMAGE_BASENAME": "app", "IMAGE_LINK_NAME": linkName, "IMAGE_NAME": linkName + "-20260102030405",
		"IMAGE_FSTYPES": "tar.gz ext4", "KERNEL_IMAGETYPE": "bzImage", "TARGET_ARCH": "x86_64", "TUNE_FEATURES": "m64 core2",
		"REPRODUCIBLE_TIMESTAMP_ROOTFS": "1600000000", "PVR_APP_ADD_GROUP": "root", "PVR_APP_ADD_ROLES": "mgmt",
		"PVR_APP_ADD_EXTRA_ARGS": "  --volume ovl:/var:permanent", "PVR_FORMAT_OPTS": "-comp xz",
	})
	must(b.t, err)
	b.put("app-qemux86-64.rootfs-20260102030405.testdata.json", variables, linkName+".testdata.json")
	b.put("app-qemux86-64.rootfs-20260102030405.manifest", []byte("busybox core2_64 1.36.1\n"), linkName+".manifest")
}

func (b *yoctoBuild) put(name string, content []byte, links ...string) {
	must(b.t, os.WriteFile(filepath.Join(b.deploy, name), content, 0o644))
	for _, l := range links {
		must(b.t, os.Symlink(name, filepath.Join(b.deploy, l)))
	}
}

// pack writes a directory as a compressed tarball, with owners as the build has them.
func (b *yoctoBuild) pack(name, dir, link string) {
	f, err := os.Create(filepath.Join(b.deploy, name))
	must(b.t, err)
	defer f.Close()
	z := gzip.NewWriter(f)
	w := tar.NewWriter(z)
	must(b.t, filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil || at == dir {
			return err
		}
		return member(w, dir, at, d)
	}))
	must(b.t, w.Close())
	must(b.t, z.Close())
	must(b.t, f.Close())
	must(b.t, os.Symlink(name, filepath.Join(b.deploy, link)))
}

func member(w *tar.Writer, dir, at string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	to := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if to, err = os.Readlink(at); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(info, to)
	if err != nil {
		return err
	}
	rel, err := filepath.Rel(dir, at)
	if err != nil {
		return err
	}
	h.Name, h.Uid, h.Gid, h.Uname, h.Gname = "./"+rel, 0, 0, "", ""
	if err := w.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
		return err
	}
	content, err := os.ReadFile(at)
	if err == nil {
		_, err = w.Write(content)
	}
	return err
}

// layer is the list that a recipe with pv-bundle writes.
func (b *yoctoBuild) layer() object {
	return object{
		"#spec": "pantavisor-yocto@1", "target": "x64-uefi", "epoch": 1700000000, "arch": "x86_64", "machine": "qemux86-64", "deploy": b.deploy,
		"outputs": []any{"image"}, "with": b.partial(),
		"kernel": object{"image": "bzImage-qemux86-64.bin", "modules": "modules-qemux86-64.tgz"},
		"containers": []any{object{
			"name": "app", "root": linkName + ".tar.gz", "type": "tar.gz", "group": "root", "roles": "mgmt", "format": "-comp xz",
			"add": "--volume=ovl:/var:permanent",
		}},
	}
}

// composed composes a list, and returns the SHA-256 of the image.
func composed(t *testing.T, file string, list object) string {
	t.Helper()
	writeObject(t, file, list)
	out := filepath.Join(t.TempDir(), "out")
	if code := Run(t.Context(), []string{"build", "-i", file, "-o", out}, io.Discard, os.Stderr); code != 0 {
		t.Fatalf("%s: exit code %d", file, code)
	}
	made, err := filepath.Glob(filepath.Join(out, "*.img"))
	if err != nil || len(made) != 1 {
		t.Fatalf("%v, %v", made, err)
	}
	return sum(t, made[0])
}

func readObject(t *testing.T, file string) object {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	var out object
	must(t, json.Unmarshal(text, &out))
	return out
}

func writeObject(t *testing.T, file string, o object) {
	t.Helper()
	text, err := json.MarshalIndent(o, "", "  ")
	must(t, err)
	must(t, os.WriteFile(file, text, 0o644))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
