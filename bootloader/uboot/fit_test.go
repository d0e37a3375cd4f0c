package uboot

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/bootloader/bootloadertest"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/debian/partstest"
	"github.com/pantavisor/pantavisor/formats/fit"
	"github.com/pantavisor/pantavisor/formats/ubootenv"
	"github.com/pantavisor/pantavisor/formats/uimage"
	"github.com/pantavisor/pantavisor/kernel/sources"
)

// TestBootsFIT boots the pinned kernel and a small init from a FIT without a device tree:
// U-Boot's own is used.
func TestBootsFIT(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a kernel in software emulation")
	}
	needTools(t)
	kernel := debianKernel(t)
	initrd := append(bootloadertest.Guest(t, "arm64"), bootloadertest.Addon(t)...)
	t.Run("own device tree", func(t *testing.T) {
		disk := fitDisk(t, image(t, kernel, initrd), nil, "")
		if diff := cmp.Diff([]string{"pv_rev=0 pv_try= addons=1"}, bootloadertest.Boots(t, run(t, disk, "-no-reboot"))); diff != "" {
			t.Errorf("a new disk (-want +got):\n%s", diff)
		}
	})
}

// TestPicksConfiguration checks what the script says of device trees in a FIT: fdtfile has the
// path of one or its last part.
func TestPicksConfiguration(t *testing.T) {
	t.Parallel()
	s := Settings{Root: 2, Initrd: 0x48000000, Boot: "booti", Trees: []string{"acme/one.dtb", "two.dtb"}}
	script, err := s.Script()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`if test "${fdtfile}" = "acme/one.dtb" || test "${fdtfile}" = "one.dtb"; then` + "\n" + `  setenv pv_conf "#conf-acme_one.dtb"`,
		`setenv pv_conf "#conf-two.dtb"`, "'bootm ${pv_initrd}${pv_conf} || bootm ${pv_initrd}'",
	} {
		if !strings.Contains(script, want) {
			t.Errorf("no %q in\n%s", want, script)
		}
	}
}

// debianKernel returns the pinned kernel.
func debianKernel(t *testing.T) []byte {
	t.Helper()
	b := partstest.New(t, "qemu-aarch64", sources.Request)
	unpacked := b.Run(&debian.Unpack{Keep: []string{"boot/vmlinuz"}, Package: b.Package(sources.Request, "linux-image-*")})
	found, err := filepath.Glob(filepath.Join(unpacked, "boot/vmlinuz-*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("kernels %v, %v", found, err)
	}
	kernel, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	return kernel
}

// device is a device tree by its path.
type device struct {
	name string
	tree []byte
}

// image makes a FIT with a configuration for each device tree.
func image(t *testing.T, kernel, initrd []byte, devices ...device) []byte {
	t.Helper()
	add := func(f *fit.File, name, kind, os string, load uint64, data []byte) {
		f.Images = append(f.Images, fit.Image{
			Name: name, Type: kind, Arch: "arm64", OS: os, Compression: "none", Load: load, Size: int64(len(data)),
			Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil },
		})
	}
	f := fit.File{Description: "a test", Hash: "crc32"}
	add(&f, "kernel", "kernel", "linux", 0x40400000, kernel)
	add(&f, "initrd", "ramdisk", "linux", 0, initrd)
	for _, d := range devices {
		name := strings.ReplaceAll(d.name, "/", "_")
		add(&f, name, "flat_dt", "", 0, d.tree)
		f.Configurations = append(f.Configurations, fit.Configuration{
			Name: fit.ConfigurationName(d.name), Kernel: "kernel", Ramdisk: "initrd", Trees: []string{name},
		})
	}
	if devices == nil {
		f.Configurations = []fit.Configuration{{Name: fit.PlainConfiguration, Kernel: "kernel", Ramdisk: "initrd"}}
	}
	var out bytes.Buffer
	if err := fit.Write(t.Context(), &out, f); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// fitDisk makes a disk with the FIT in two revisions. The last device tree is that of the
// board.
func fitDisk(t *testing.T, image []byte, trees []string, try string) string {
	t.Helper()
	script, err := Settings{Root: 2, Initrd: 0x48000000, Boot: "booti", Arguments: []string{"console=ttyAMA0", "panic=5", "quiet"}, Trees: trees}.Script()
	if err != nil {
		t.Fatal(err)
	}
	if len(trees) > 0 {
		script = "setenv fdtfile " + trees[len(trees)-1] + "\n" + script
	}
	command, err := uimage.EncodeScript(uimage.Header{}, []byte(script))
	if err != nil {
		t.Fatal(err)
	}
	state, err := ubootenv.Encode([]ubootenv.Entry{{Name: "pv_rev", Value: "0"}, {Name: "pv_try", Value: try}})
	if err != nil {
		t.Fatal(err)
	}
	fat, root := t.TempDir(), t.TempDir()
	bootloadertest.Write(t, filepath.Join(fat, scriptFile), command)
	bootloadertest.Write(t, filepath.Join(fat, tryingFile), append([]byte("pv_env=1\n"), make([]byte, stateSize-9)...))
	bootloadertest.Write(t, filepath.Join(root, stateFile), state)
	for _, r := range []string{"0", "locals/new"} {
		bootloadertest.Write(t, filepath.Join(root, "trails", r, ".pv/pantavisor.fit"), image)
	}
	d := &disk{file: filepath.Join(t.TempDir(), "disk.img")}
	d.add("vfat", fatSize, fat)
	d.add("ext4", 160*mega, root)
	d.write(t)
	return d.file
}
