package main

import (
	"archive/tar"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/workspace"
)

// TestBuildroot makes output directories as Buildroot leaves them, of a BSP and of a container,
// from the inputs of a target, and composes them with a layout in a genimage.cfg. The image must be
// the one that the inputs themselves make, bit for bit.
func TestBuildroot(t *testing.T) {
	if testing.Short() {
		t.Skip("builds images")
	}
	root, err := filepath.Abs("../..")
	must(t, err)
	m, err := workspace.OpenMaker(t.Context(), root, "x64-uefi", func(text string) { t.Log(text) })
	must(t, err)
	dir := t.TempDir()
	b := &buildrootBuild{t: t, saved: filepath.Join(dir, "inputs"), bsp: filepath.Join(dir, "bsp/output"), app: filepath.Join(dir, "app-output")}
	must(t, m.Inputs(t.Context(), b.saved))
	b.list = readObject(t, filepath.Join(b.saved, "inputs.json"))
	b.prune()
	b.outputs()
	want := composed(t, filepath.Join(b.saved, "direct.json"), b.direct())

	made := filepath.Join(dir, "inputs.json")
	args := []string{
		"from-buildroot", b.bsp, "demo=" + b.app, "--with", b.partial(), "--target", "x64-uefi", "--genimage", b.genimage(), "--size", "4096",
		"--epoch", "1700000000", "--outputs", "image", "--group", "demo=root", "--role", "demo=mgmt", "--out", made, "--digests",
	}
	if code := Run(t.Context(), args, io.Discard, os.Stderr); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	list := readObject(t, made)
	if sum, _ := list["runtime"].(object)["sha256"].(string); len(sum) != 64 {
		t.Errorf("the list has no digests: %v", list["runtime"])
	}
	var documents []string
	for _, d := range list["sbom"].([]any) {
		documents = append(documents, d.(object)["name"].(string))
	}
	if got := strings.Join(documents, " "); got != "demo-manifest.csv x64-uefi-cyclonedx.json" {
		t.Errorf("documents %q", got)
	}
	if got := composed(t, made, list); got != want {
		t.Error("the image differs from the one of the inputs themselves")
	}
}

// buildrootBuild are two builds with Buildroot of the inputs of a target.
type buildrootBuild struct {
	t               *testing.T
	saved, bsp, app string
	list            object
}

// prune takes away what takes long to compress and says nothing here: most modules, and most of
// the runtime.
func (b *buildrootBuild) prune() {
	modules, err := filepath.Glob(filepath.Join(b.saved, "kernel/modules/lib/modules/*"))
	must(b.t, err)
	for _, dir := range []string{"drivers/gpu", "drivers/net", "drivers/media", "drivers/infiniband", "drivers/staging", "drivers/iio", "drivers/usb", "sound", "net", "fs/xfs"} {
		must(b.t, os.RemoveAll(filepath.Join(modules[0], "kernel", dir)))
	}
	must(b.t, os.Truncate(filepath.Join(b.saved, "runtime"), 1<<20))
	b.list["runtime"] = object{"path": "runtime"}
	k := b.list["kernel"].(object)
	k["modules"], k["early_modules"] = object{"form": "directory", "path": "kernel/modules"}, []any{"ext4", "virtio_blk"}
}

// demo is the container's root file system, a directory.
func (b *buildrootBuild) demo() string {
	dir := filepath.Join(b.saved, "demo")
	must(b.t, os.MkdirAll(filepath.Join(dir, "etc"), 0o755))
	must(b.t, os.WriteFile(filepath.Join(dir, "etc/passwd"), []byte("root:x:0:0::/:/bin/sh\n"), 0o644))
	program, err := os.ReadFile(filepath.Join(b.saved, "runtime"))
	must(b.t, err)
	must(b.t, os.WriteFile(filepath.Join(dir, "init"), program, 0o755))
	return dir
}

// direct is the list with the inputs where they are.
func (b *buildrootBuild) direct() object {
	out := maps.Clone(b.list)
	out["outputs"], out["epoch"] = []any{"image"}, 1700000000
	k := maps.Clone(out["kernel"].(object))
	k["firmware"] = object{"trees": k["firmware"].(object)["trees"]}
	out["kernel"] = k
	out["packages"] = []any{"busybox", "linux"}
	out["containers"] = []any{object{
		"name": "demo", "root": object{"form": "directory", "path": "demo"}, "entrypoint": []any{"/init"},
		"args": object{"PV_GROUP": "root", "PV_ROLES": []any{"mgmt"}}, "persistence": object{"/var/lib": "permanent"},
	}}
	return out
}

// partial writes what the builds do not know.
func (b *buildrootBuild) partial() string {
	out := maps.Clone(b.list)
	for _, field := range []string{"#spec", "target", "epoch", "outputs", "arch", "runtime", "image", "packages"} {
		delete(out, field)
	}
	k := maps.Clone(out["kernel"].(object))
	for _, field := range []string{"image", "modules", "firmware", "config"} {
		delete(k, field)
	}
	out["kernel"] = k
	file := filepath.Join(b.saved, "partial.json")
	writeObject(b.t, file, out)
	return file
}

// genimage writes the target's layout as Buildroot's boards do.
func (b *buildrootBuild) genimage() string {
	file := filepath.Join(b.saved, "genimage.cfg")
	must(b.t, os.WriteFile(file, []byte(`# EFI system partition
image efi-part.vfat {
	vfat {
		label = "pvboot"
		files = { "bzImage" }
	}
	size = 64M
}

image disk.img {
	hdimage {
		partition-table-type = "gpt"
	}
	partition boot {
		image = "efi-part.vfat"
		partition-type-uuid = C12A7328-F81F-11D2-BA4B-00A0C93EC93B
		offset = 1M
		bootable = "true"
	}
	partition rootfs {
		image = "rootfs.ext2"
	}
}
`), 0o644))
	return file
}

// outputs writes the output directories.
func (b *buildrootBuild) outputs() {
	demo := b.demo()
	for file, text := range map[string]string{
		// A build in Buildroot's own directory has its configuration beside output/.
		filepath.Join(b.bsp, "../.config"): "#\n# Buildroot 2026.05.1 Configuration\n#\nBR2_x86_64=y\nBR2_ARCH=\"x86_64\"\nBR2_LINUX_KERNEL=y\n" +
			"BR2_LINUX_KERNEL_VERSION=\"6.1/debian\"\nBR2_LINUX_KERNEL_BZIMAGE=y\nBR2_PACKAGE_PANTAVISOR=y\n# BR2_TARGET_ROOTFS_TAR is not set\n",
		filepath.Join(b.app, ".config"): "BR2_x86_64=y\nBR2_TARGET_ROOTFS_TAR=y\nBR2_TARGET_ROOTFS_TAR_GZIP=y\nBR2_PANTAVISOR_CONTAINER_ENTRYPOINT=\"/init\"\n" +
			"BR2_PANTAVISOR_CONTAINER_PERSISTENCE=\"/var/lib:permanent\"\n",
		filepath.Join(b.bsp, "build/packages-file-list.txt"): "busybox,./bin/busybox\nlinux,./lib/modules/6.1/modules.dep\nbusybox,./bin/sh\n",
		filepath.Join(b.bsp, "cyclonedx.json"):               "{}\n",
		filepath.Join(b.app, "legal-info/manifest.csv"):      "\"PACKAGE\",\"VERSION\",\"LICENSE\"\n\"busybox\",\"1.37.0\",\"GPL-2.0\"\n",
	} {
		must(b.t, os.MkdirAll(filepath.Dir(file), 0o755))
		must(b.t, os.WriteFile(file, []byte(text), 0o644))
	}
	b.copy("kernel/image", "images/bzImage")
	b.copy("kernel/config", "build/linux-6.1_debian/.config")
	b.copy("runtime", "target/usr/bin/pantavisor")
	b.tree("kernel/modules/lib/modules", "target/lib/modules")
	for _, tree := range b.list["kernel"].(object)["firmware"].(object)["trees"].([]any) {
		for _, place := range []string{"lib/firmware", "usr/lib/firmware"} {
			b.tree(filepath.Join(tree.(object)["path"].(string), place), "target/lib/firmware")
		}
	}
	b.pack(filepath.Join(b.app, "images/rootfs.tar"), demo)
}

func (b *buildrootBuild) copy(from, to string) {
	content, err := os.ReadFile(filepath.Join(b.saved, from))
	must(b.t, err)
	file := filepath.Join(b.bsp, to)
	must(b.t, os.MkdirAll(filepath.Dir(file), 0o755))
	must(b.t, os.WriteFile(file, content, 0o755))
}

// tree copies a directory; what is there already stays.
func (b *buildrootBuild) tree(from, to string) {
	dir := filepath.Join(b.saved, from)
	if _, err := os.Stat(dir); err != nil {
		return
	}
	must(b.t, filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, at)
		if err != nil {
			return err
		}
		dst := filepath.Join(b.bsp, to, rel)
		if _, err := os.Lstat(dst); err == nil {
			return nil
		}
		switch {
		case d.IsDir():
			return os.MkdirAll(dst, 0o755)
		case d.Type()&fs.ModeSymlink != 0:
			link, err := os.Readlink(at)
			if err != nil {
				return err
			}
			return os.Symlink(link, dst)
		}
		return os.Link(at, dst)
	}))
}

// pack writes a directory as a tar with root as the owner.
func (b *buildrootBuild) pack(file, dir string) {
	must(b.t, os.MkdirAll(filepath.Dir(file), 0o755))
	f, err := os.Create(file)
	must(b.t, err)
	defer f.Close()
	w := tar.NewWriter(f)
	must(b.t, filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil || at == dir {
			return err
		}
		return member(w, dir, at, d)
	}))
	must(b.t, w.Close())
	must(b.t, f.Close())
}
