package main

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBuildroot makes output directories as Buildroot leaves them, of a BSP and of a container,
// from the inputs of a target, and composes them with a layout in a genimage.cfg. The image must be
// the one that the inputs themselves make, bit for bit.
func TestBuildroot(t *testing.T) {
	b := &buildrootBuild{saved: savedInputs(t), bsp: filepath.Join(t.TempDir(), "bsp/output"), container: filepath.Join(t.TempDir(), "app-output")}
	b.outputs()
	want := b.direct(object{"packages": []any{"busybox", "linux"}}, object{"persistence": object{"/var/lib": "permanent"}})

	made := filepath.Join(t.TempDir(), "inputs.json")
	args := []string{
		"from-buildroot", b.bsp, "app=" + b.container, "--with", b.without(), "--target", "x64-uefi", "--genimage", b.genimage(), "--size", "4096",
		"--epoch", "1700000000", "--outputs", "image", "--group", "app=root", "--role", "app=mgmt", "--out", made, "--digests",
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
	if got := strings.Join(documents, " "); got != "app-manifest.csv x64-uefi-cyclonedx.json" {
		t.Errorf("documents %q", got)
	}
	if got := composed(t, made, list); got != want {
		t.Error("the image differs from the one of the inputs themselves")
	}
}

// buildrootBuild are two builds with Buildroot of the inputs of a target.
type buildrootBuild struct {
	*saved
	bsp, container string
}

// without writes what the builds do not know.
func (b *buildrootBuild) without() string {
	return b.partial([]string{"#spec", "target", "epoch", "outputs", "arch", "runtime", "image", "packages"}, []string{"image", "modules", "firmware", "config"}, nil)
}

// genimage writes the target's layout as Buildroot's boards do.
func (b *buildrootBuild) genimage() string {
	file := filepath.Join(b.dir, "genimage.cfg")
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
	for file, text := range map[string]string{
		// A build in Buildroot's own directory has its configuration beside output/.
		filepath.Join(b.bsp, "../.config"): "#\n# Buildroot 2026.05.1 Configuration\n#\nBR2_x86_64=y\nBR2_ARCH=\"x86_64\"\nBR2_LINUX_KERNEL=y\n" +
			"BR2_LINUX_KERNEL_VERSION=\"6.1/debian\"\nBR2_LINUX_KERNEL_BZIMAGE=y\nBR2_PACKAGE_PANTAVISOR=y\n# BR2_TARGET_ROOTFS_TAR is not set\n",
		filepath.Join(b.container, ".config"): "BR2_x86_64=y\nBR2_TARGET_ROOTFS_TAR=y\nBR2_TARGET_ROOTFS_TAR_GZIP=y\nBR2_PANTAVISOR_CONTAINER_ENTRYPOINT=\"/init\"\n" +
			"BR2_PANTAVISOR_CONTAINER_PERSISTENCE=\"/var/lib:permanent\"\n",
		filepath.Join(b.bsp, "build/packages-file-list.txt"):  "busybox,./bin/busybox\nlinux,./lib/modules/6.1/modules.dep\nbusybox,./bin/sh\n",
		filepath.Join(b.bsp, "cyclonedx.json"):                "{}\n",
		filepath.Join(b.container, "legal-info/manifest.csv"): "\"PACKAGE\",\"VERSION\",\"LICENSE\"\n\"busybox\",\"1.37.0\",\"GPL-2.0\"\n",
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
	b.pack(filepath.Join(b.container, "images/rootfs.tar"), b.app)
}

func (b *buildrootBuild) copy(from, to string) {
	content, err := os.ReadFile(filepath.Join(b.dir, from))
	must(b.t, err)
	file := filepath.Join(b.bsp, to)
	must(b.t, os.MkdirAll(filepath.Dir(file), 0o755))
	must(b.t, os.WriteFile(file, content, 0o755))
}

// tree copies a directory; what is there already stays.
func (b *buildrootBuild) tree(from, to string) {
	dir := filepath.Join(b.dir, from)
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
