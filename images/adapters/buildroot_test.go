package adapters

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/images/inputs"
)

// builds writes files below a directory and returns it.
func builds(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// pi are the output directories of a Raspberry Pi and of a container, with a partial list.
func pi() map[string]string {
	return map[string]string{
		"bsp/.config": "BR2_aarch64=y\nBR2_LINUX_KERNEL=y\nBR2_LINUX_KERNEL_VERSION=\"6.6\"\nBR2_LINUX_KERNEL_IMAGE=y\nBR2_PACKAGE_PANTAVISOR=y\n" +
			"BR2_PACKAGE_RPI_FIRMWARE=y\nBR2_PACKAGE_RPI_FIRMWARE_BOOTCODE_BIN=y\nBR2_PACKAGE_RPI_FIRMWARE_VARIANT_PI=y\nBR2_PACKAGE_RPI_FIRMWARE_VARIANT_PI4=y\n" +
			"BR2_PANTAVISOR_TARGET=\"gateway\"\n",
		"bsp/images/Image": "", "bsp/target/usr/bin/pantavisor": "", "bsp/target/lib/modules/6.6.1/modules.order": "", "bsp/images/u-boot.bin": "",
		"bsp/images/rpi-firmware/bootcode.bin": "", "bsp/images/rpi-firmware/start.elf": "", "bsp/images/rpi-firmware/start4.elf": "",
		"bsp/build/packages-file-list.txt": "rpi-firmware,./x\nlinux,./y\nlinux,./z\n",
		"bsp/legal-info/manifest.csv":      "\"PACKAGE\",\"VERSION\"\n\"linux\",\"6.6\"\n",
		"app/.config": "BR2_aarch64=y\nBR2_TARGET_ROOTFS_SQUASHFS=y\nBR2_PANTAVISOR_CONTAINER_NAME=\"app\"\nBR2_PANTAVISOR_CONTAINER_GROUP=\"app\"\n" +
			"BR2_PANTAVISOR_CONTAINER_ROLES=\"mgmt\"\nBR2_PANTAVISOR_CONTAINER_ARGS=\"PV_RESTART_POLICY=system PV_STATUS_GOAL=STARTED\"\n" +
			"BR2_PANTAVISOR_CONTAINER_ENTRYPOINT=\"/sbin/init\"\nBR2_PANTAVISOR_CONTAINER_PERSISTENCE=\"/var:permanent\"\n",
		"app/images/rootfs.squashfs": "",
		"with.yaml": `config: {runtime: {path: c}, hub: {path: c}, defaults: {path: d}}
kernel: {arguments: [panic=5]}
containers: [{name: app, args: {PV_STATUS_GOAL: MOUNTED}}]
image: {size: 512, table: mbr, partitions: [{name: boot, role: boot, format: fat32, size: 64}, {name: pvroot, role: root, format: ext4}]}
bootloader: {type: rpi-uboot, addresses: {initrd: 67108864}, files: [{to: u-boot.bin, path: "${BINARIES_DIR}/u-boot.bin"}]}
`, "c": "", "d/x": "",
	}
}

func TestBuildrootOfTwo(t *testing.T) {
	t.Parallel()
	dir := builds(t, pi())
	at := func(name string) string { return filepath.Join(dir, name) }
	b := &Buildroot{
		With: at("with.yaml"), Epoch: 1700000000, Builds: []BuildrootBuild{{Dir: at("app")}, {Dir: at("bsp")}},
		Args: map[string]map[string]any{"app": {"PV_GROUP": "root"}},
	}
	m, err := b.List()
	if err != nil {
		t.Fatal(err)
	}
	l := m.List
	if l.Target != "gateway" || l.Arch.Go != "arm64" || !slices.Equal(l.Outputs, []string{"image", "export", "revision"}) {
		t.Errorf("target %q, arch %+v, outputs %v", l.Target, l.Arch, l.Outputs)
	}
	want := []inputs.Container{{
		Name: "app", Root: inputs.Tree{Form: "squashfs", Path: at("app/images/rootfs.squashfs")}, Entrypoint: []string{"/sbin/init"},
		Args: map[string]any{
			"PV_GROUP": "root", "PV_ROLES": []string{"mgmt"}, "PV_RESTART_POLICY": "system", "PV_STATUS_GOAL": "MOUNTED",
		},
		Persistence: map[string]string{"/var": "permanent"},
	}}
	if diff := cmp.Diff(want, l.Containers); diff != "" {
		t.Errorf("containers (-want +got):\n%s", diff)
	}
	firmware := []inputs.Package{{Name: "raspi-firmware", Path: at("bsp/images/rpi-firmware"), Place: "usr/lib/raspi-firmware"}}
	if diff := cmp.Diff(firmware, l.Bootloader.Packages); diff != "" {
		t.Errorf("firmware (-want +got):\n%s", diff)
	}
	if got := l.Bootloader.Files[0].Path; got != at("bsp/images/u-boot.bin") {
		t.Errorf("u-boot.bin is %s", got)
	}
	if diff := cmp.Diff([]string{"linux=6.6", "rpi-firmware"}, l.Packages); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
	if k := l.Kernel; k.Modules.Path != at("bsp/target/lib/modules") || !slices.Equal(k.Arguments, []string{"panic=5"}) {
		t.Errorf("kernel %+v", k)
	}
}

// TestBuildrootMistakes: each error names what is missing and the option that makes it.
func TestBuildrootMistakes(t *testing.T) {
	t.Parallel()
	without := func(file, old string) func(map[string]string, *Buildroot) {
		return func(f map[string]string, _ *Buildroot) { f[file] = strings.Replace(f[file], old, "", 1) }
	}
	for want, change := range map[string]func(map[string]string, *Buildroot){
		"the build has no runtime: set BR2_PACKAGE_PANTAVISOR":                        without("bsp/.config", "BR2_PACKAGE_PANTAVISOR=y\n"),
		"usr/bin/pantavisor does not exist, and BR2_PACKAGE_PANTAVISOR makes it":      func(f map[string]string, _ *Buildroot) { delete(f, "bsp/target/usr/bin/pantavisor") },
		"set BR2_PACKAGE_RPI_FIRMWARE_VARIANT_PI4, which makes start4.elf":            without("bsp/.config", "BR2_PACKAGE_RPI_FIRMWARE_VARIANT_PI4=y\n"),
		"images/rootfs.squashfs does not exist, and BR2_TARGET_ROOTFS_SQUASHFS makes": func(f map[string]string, _ *Buildroot) { delete(f, "app/images/rootfs.squashfs") },
		"is a container: name it, NAME=":                                              without("app/.config", "BR2_PANTAVISOR_CONTAINER_NAME=\"app\"\n"),
		"both have a kernel (BR2_LINUX_KERNEL)": func(f map[string]string, b *Buildroot) {
			f["app/.config"] += "BR2_LINUX_KERNEL=y\n"
		},
		"is for amd64: what is in one revision runs on one CPU": func(f map[string]string, _ *Buildroot) {
			f["app/.config"] = strings.Replace(f["app/.config"], "aarch64", "x86_64", 1)
		},
		"name the firmware: --target NAME":       without("bsp/.config", "BR2_PANTAVISOR_TARGET=\"gateway\"\n"),
		"name the time of the firmware: --epoch": func(_ map[string]string, b *Buildroot) { b.Epoch = 0 },
		"container db has no root file system":   func(_ map[string]string, b *Buildroot) { b.Args = map[string]map[string]any{"db": {}} },
		"ARGS: \"alone\": want words NAME=VALUE": func(f map[string]string, _ *Buildroot) {
			f["app/.config"] += "BR2_PANTAVISOR_CONTAINER_ARGS=\"alone\"\n"
		},
		"PERSISTENCE: \"/var\": want words PATH:POLICY": func(f map[string]string, _ *Buildroot) {
			f["app/.config"] += "BR2_PANTAVISOR_CONTAINER_PERSISTENCE=\"/var\"\n"
		},
		"packages-file-list.txt:2: want PACKAGE,FILE": func(f map[string]string, _ *Buildroot) { f["bsp/build/packages-file-list.txt"] = "a,b\nc\n" },
		"unknown field \"kernels\"":                   func(f map[string]string, _ *Buildroot) { f["with.yaml"] += "kernels: 1\n" },
		"has a layout, image, and":                    func(_ map[string]string, b *Buildroot) { b.Genimage = "genimage.cfg" },
		"name the output directories of Buildroot":    func(_ map[string]string, b *Buildroot) { b.Builds = nil },
	} {
		files := pi()
		b := &Buildroot{Epoch: 1, Builds: []BuildrootBuild{{Dir: "bsp"}, {Dir: "app"}}}
		change(files, b)
		files["genimage.cfg"] = sdcard
		dir := builds(t, files)
		b.With = filepath.Join(dir, "with.yaml")
		for i := range b.Builds {
			b.Builds[i].Dir = filepath.Join(dir, b.Builds[i].Dir)
		}
		if b.Genimage != "" {
			b.Genimage = filepath.Join(dir, b.Genimage)
		}
		if _, err := b.List(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
