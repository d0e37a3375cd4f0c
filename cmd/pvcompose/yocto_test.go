package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// TestYocto makes a deploy directory as a build with Yocto leaves it from the inputs of a target,
// and composes it: from the list of the layer's classes, and from the directory alone. Both must
// be the image that the inputs themselves make, bit for bit.
func TestYocto(t *testing.T) {
	dir := t.TempDir()
	b := &yoctoBuild{saved: savedInputs(t), deploy: filepath.Join(dir, "deploy/images/qemux86-64")}
	want := b.direct(nil, object{"compression": "xz", "persistence": object{"ovl:/var": "permanent"}})
	b.deployed()

	layer := filepath.Join(dir, "pv-bundle.json")
	writeObject(t, layer, b.layer())
	for name, args := range map[string][]string{
		"from the layer's list": {layer},
		"from the deploy directory": {
			"--deploy-dir", b.deploy, "--image", "app", "--machine", "qemux86-64", "--with", b.without(), "--target", "x64-uefi",
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
	*saved
	deploy string
}

// without writes what a build does not know.
func (b *yoctoBuild) without() string {
	return b.partial([]string{"#spec", "target", "epoch", "outputs"}, []string{"image", "modules"},
		object{"containers": []any{object{"name": "app", "entrypoint": []any{"/init"}}}})
}

const linkName = "app-qemux86-64.rootfs"

// deployed writes the deploy directory: files under the names of a build, and links to them.
func (b *yoctoBuild) deployed() {
	must(b.t, os.MkdirAll(b.deploy, 0o755))
	kernel, err := os.ReadFile(filepath.Join(b.dir, "kernel/image"))
	must(b.t, err)
	b.put("bzImage--6.1-r0-qemux86-64-20260102030405.bin", kernel, "bzImage-qemux86-64.bin", "bzImage")
	for _, p := range []struct{ name, dir, link string }{
		{"modules--6.1-r0-qemux86-64-20260102030405.tgz", filepath.Join(b.dir, "kernel/modules"), "modules-qemux86-64.tgz"},
		{"app-qemux86-64.rootfs-20260102030405.tar.gz", b.app, linkName + ".tar.gz"},
	} {
		b.pack(filepath.Join(b.deploy, p.name), p.dir)
		must(b.t, os.Symlink(p.name, filepath.Join(b.deploy, p.link)))
	}
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

// layer is the list that a recipe with pv-bundle writes.
func (b *yoctoBuild) layer() object {
	return object{
		"#spec": "pantavisor-yocto@1", "target": "x64-uefi", "epoch": 1700000000, "arch": "x86_64", "machine": "qemux86-64", "deploy": b.deploy,
		"outputs": []any{"image"}, "with": b.without(),
		"kernel": object{"image": "bzImage-qemux86-64.bin", "modules": "modules-qemux86-64.tgz"},
		"containers": []any{object{
			"name": "app", "root": linkName + ".tar.gz", "type": "tar.gz", "group": "root", "roles": "mgmt", "format": "-comp xz",
			"add": "--volume=ovl:/var:permanent",
		}},
	}
}
