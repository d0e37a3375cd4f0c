package buildroot

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// output writes files below an output directory.
func output(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "output")
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

const board = `#
# Automatically generated file; DO NOT EDIT.
#
BR2_aarch64=y
BR2_LINUX_KERNEL=y
BR2_LINUX_KERNEL_VERSION="v6.12:rc/1"
BR2_LINUX_KERNEL_IMAGE=y
BR2_LINUX_KERNEL_DTS_SUPPORT=y
BR2_LINUX_KERNEL_INTREE_DTS_NAME="vendor/board other"
BR2_LINUX_KERNEL_CUSTOM_DTS_PATH="$(BR2_EXTERNAL_X_PATH)/a/mine.dts $(BR2_EXTERNAL_X_PATH)/a/mine.dtsi ovl.dtso"
# BR2_LINUX_KERNEL_DTB_KEEP_DIRNAME is not set
BR2_TARGET_ROOTFS_TAR=y
`

// files is an output directory with everything that board names.
func files() map[string]string {
	return map[string]string{
		".config": board, "images/Image": "", "images/board.dtb": "", "images/other.dtb": "", "images/mine.dtb": "", "images/ovl.dtbo": "",
		"build/linux-v6.12_rc_1/.config": "", "build/linux-v6.12_rc_1/include/config/kernel.release": "6.12.0-rc1\n",
		"target/lib/modules/6.12.0-rc1/modules.order": "", "images/rootfs.tar": "",
	}
}

func kernelOf(t *testing.T, files map[string]string) (*Kernel, string, error) {
	t.Helper()
	dir := output(t, files)
	o, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	k, err := o.Kernel()
	return k, dir, err
}

func TestKernel(t *testing.T) {
	t.Parallel()
	got, dir, err := kernelOf(t, files())
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	want := &Kernel{
		Image: at("images/Image"), Config: at("build/linux-v6.12_rc_1/.config"), Release: "6.12.0-rc1", Modules: at("target/lib/modules"),
		Trees:    []DeviceTree{{"vendor/board.dtb", at("images/board.dtb")}, {"other.dtb", at("images/other.dtb")}, {"mine.dtb", at("images/mine.dtb")}},
		Overlays: []DeviceTree{{"ovl.dtbo", at("images/ovl.dtbo")}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestNames computes the names of images from options.
func TestNames(t *testing.T) {
	t.Parallel()
	for options, want := range map[string]string{
		"BR2_LINUX_KERNEL_BZIMAGE=y": "images/bzImage",
		"BR2_LINUX_KERNEL_VMLINUX=y": "images/vmlinux",
		"BR2_LINUX_KERNEL_IMAGEGZ=y": "images/Image.gz",
		"BR2_LINUX_KERNEL_UIMAGE=y":  "images/uImage",
		"BR2_LINUX_KERNEL_CUIMAGE=y\nBR2_LINUX_KERNEL_DTS_SUPPORT=y\nBR2_LINUX_KERNEL_INTREE_DTS_NAME=\"a/b\"":                                              "images/cuImage.b",
		"BR2_LINUX_KERNEL_APPENDED_ZIMAGE=y\nBR2_LINUX_KERNEL_APPENDED_DTB=y\nBR2_LINUX_KERNEL_DTS_SUPPORT=y\nBR2_LINUX_KERNEL_INTREE_DTS_NAME=\"x/board\"": "images/zImage.board",
		"BR2_LINUX_KERNEL_IMAGE_TARGET_CUSTOM=y\nBR2_LINUX_KERNEL_IMAGE_TARGET_NAME=\"dir/Image.lz4\"":                                                      "images/Image.lz4",
		"BR2_LINUX_KERNEL_IMAGE_TARGET_CUSTOM=y\nBR2_LINUX_KERNEL_IMAGE_NAME=\"mine\"\nBR2_LINUX_KERNEL_IMAGE_TARGET_NAME=\"all\"":                          "images/mine",
	} {
		all := map[string]string{
			".config": "BR2_LINUX_KERNEL=y\nBR2_LINUX_KERNEL_VERSION=\"6.1\"\n" + options + "\n", want: "", "images/b.dtb": "",
			"build/linux-6.1/include/config/kernel.release": "6.1.0",
		}
		k, dir, err := kernelOf(t, all)
		if err != nil {
			t.Errorf("%s: %v", options, err)
			continue
		}
		if k.Image != filepath.Join(dir, want) || k.Release != "6.1.0" || k.Modules != "" {
			t.Errorf("%s: %+v", options, k)
		}
	}
}

// TestOverridden: a kernel from a directory of the user is built in another directory.
func TestOverridden(t *testing.T) {
	t.Parallel()
	all := files()
	all[".config"] += "BR2_PACKAGE_OVERRIDE_FILE=\"$(CONFIG_DIR)/local.mk\"\n"
	all["local.mk"] = "# mine\nLINUX_OVERRIDE_SRCDIR = /home/me/linux\n"
	all["build/linux-custom/.config"] = ""
	k, dir, err := kernelOf(t, all)
	if err != nil || k.Config != filepath.Join(dir, "build/linux-custom/.config") {
		t.Errorf("%+v, %v", k, err)
	}
	all["local.mk"] = "include other.mk\n" // which names the directory
	for _, name := range []string{".config", "include/config/kernel.release"} {
		delete(all, "build/linux-v6.12_rc_1/"+name)
	}
	if k, dir, err = kernelOf(t, all); err != nil || k.Config != filepath.Join(dir, "build/linux-custom/.config") {
		t.Errorf("the override file includes another: %+v, %v", k, err)
	}
}

// TestMistakes walks what can be missing or not be computed; each error names the option.
func TestMistakes(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(map[string]string){
		"images/Image does not exist, and BR2_LINUX_KERNEL_IMAGE makes it":               func(f map[string]string) { delete(f, "images/Image") },
		"images/other.dtb does not exist, and BR2_LINUX_KERNEL_INTREE_DTS_NAME makes it": func(f map[string]string) { delete(f, "images/other.dtb") },
		"has the modules of 2 kernels, 6.12.0-rc1, 6.6.1":                                func(f map[string]string) { f["target/lib/modules/6.6.1/modules.order"] = "" },
		"has the modules of 6.12.0-rc1, and the kernel is 6.12.3: make target/ again":    func(f map[string]string) { f["build/linux-v6.12_rc_1/include/config/kernel.release"] = "6.12.3" },
		"BR2_LINUX_KERNEL_CUSTOM_DTS_PATH has \"dts/*.dts\": name each file":             func(f map[string]string) { f[".config"] += "BR2_LINUX_KERNEL_CUSTOM_DTS_PATH=\"dts/*.dts\"\n" },
		"BR2_LINUX_KERNEL_CUSTOM_DTS_DIR: which device trees are in":                     func(f map[string]string) { f[".config"] += "BR2_LINUX_KERNEL_CUSTOM_DTS_DIR=\"dts\"\n" },
		"makes one image for each of 3 device trees":                                     func(f map[string]string) { f[".config"] += "BR2_LINUX_KERNEL_APPENDED_DTB=y\n" },
		"BR2_LINUX_KERNEL_INTREE_DTS_NAME is \"$(X)\": variables of make":                func(f map[string]string) { f[".config"] += "BR2_LINUX_KERNEL_INTREE_DTS_NAME=\"$(X)\"\n" },
		"\"../../etc/passwd.dtb\" is not the name of a file": func(f map[string]string) {
			f[".config"] += "BR2_LINUX_KERNEL_DTB_KEEP_DIRNAME=y\nBR2_LINUX_KERNEL_INTREE_DTS_NAME=\"../../etc/passwd\"\n"
		},
		"\"../../board\" is not the name of a device tree": func(f map[string]string) {
			f["images/board.dtb"] = ""
			f[".config"] += "BR2_LINUX_KERNEL_INTREE_DTS_NAME=\"../../board\"\n"
		},
		"the build has no kernel: BR2_LINUX_KERNEL is not set":                            func(f map[string]string) { f[".config"] = "BR2_aarch64=y\n" },
		"none of the options says which form the kernel's image has: BR2_LINUX_KERNEL_IM": func(f map[string]string) { f[".config"] = strings.Replace(board, "BR2_LINUX_KERNEL_IMAGE=y\n", "", 1) },
	} {
		all := maps.Clone(files())
		change(all)
		if _, _, err := kernelOf(t, all); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func TestRoot(t *testing.T) {
	t.Parallel()
	dir := output(t, map[string]string{
		".config": "BR2_TARGET_ROOTFS_SQUASHFS=y\nBR2_TARGET_ROOTFS_TAR=y\n", "images/rootfs.squashfs": "", "images/rootfs.tar": "",
	})
	o, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for form, want := range map[string]string{"": "squashfs", "tar": "tar"} {
		if r, err := o.Root(form); err != nil || r.Form != want || r.Path != filepath.Join(dir, "images/rootfs."+want) {
			t.Errorf("%q: %+v, %v", form, r, err)
		}
	}
	if _, err := o.Root("cpio"); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "BR2_TARGET_ROOTFS_CPIO is not set") {
		t.Errorf("got %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "images/rootfs.tar")); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Root("tar"); fault.Of(err) != fault.Missing {
		t.Errorf("got %v", err)
	}
}

func TestArch(t *testing.T) {
	t.Parallel()
	for options, want := range map[string]string{
		"BR2_x86_64=y":                                "amd64",
		"BR2_aarch64=y":                               "arm64",
		"BR2_riscv=y\nBR2_RISCV_64=y":                 "riscv64",
		"BR2_arm=y\nBR2_ARM_CPU_ARMV7A=y":             "arm7",
		"BR2_arm=y\nBR2_ARM_CPU_ARMV6=y":              "arm6",
		"BR2_arm=y\nBR2_ARM_CPU_ARMV5=y":              "arm5",
		"BR2_arm=y\nBR2_ARM_SOFT_FLOAT=y":             "arm5",
		"BR2_mips=y\nBR2_MIPS_SOFT_FLOAT=y":           "mipssoftfloat",
		"BR2_mipsel=y":                                "mipslehardfloat",
		"BR2_riscv=y\nBR2_RISCV_32=y":                 "",
		"BR2_sparc64=y\nBR2_ARCH=\"sparc \\\"x\\\"\"": "",
	} {
		o, err := Open(output(t, map[string]string{".config": options}))
		if err != nil {
			t.Fatal(err)
		}
		a, err := o.Arch()
		if got := a.Go + a.ARM + a.MIPS; got != want || (want == "") != (fault.Of(err) == fault.Unsupported) {
			t.Errorf("%q: %s, %v", options, got, err)
		}
	}
}

func TestNotAnOutput(t *testing.T) {
	t.Parallel()
	for want, files := range map[string]map[string]string{
		"it has no .config":                          {"images/Image": ""},
		"has no options of Buildroot":                {".config": "CONFIG_X=y\n"},
		"reading Buildroot's configuration: reading": {".config/a": ""},
	} {
		if _, err := Open(output(t, files)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
