package efiab

import (
	"debug/pe"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/bootloader"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/debian/partstest"
	"github.com/pantavisor/pantavisor/formats/autoboot"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

// kit has a kernel and an initrd of a test.
func kit(b *partstest.Runner) bootloader.Kit {
	file := func(name, text string) bootloader.File {
		return bootloader.File{Step: given{name, []byte(text)}, Path: "data"}
	}
	return bootloader.Kit{Package: b.Unpacked(bootloader.Request), Tools: b.Tools(), BSP: &bootloader.BSP{
		Kernel: file("kernel", "the kernel"), Initrd: []bootloader.File{file("initrd", "base"), file("addon", "addon")},
	}}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(dir, path)
			out = append(out, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestFilesOfEachPartition(t *testing.T) {
	t.Parallel()
	b := partstest.New(t, "x64-efiab", bootloader.Request, debian.ToolsRequest)
	own := kit(b)
	own.Files = []targets.File{{To: "EFI/BOOT/BOOTX64.EFI", Role: "bootsel", Part: "stage1"}}
	for _, c := range []struct {
		role string
		kit  bootloader.Kit
		want []string
	}{
		{"bootsel", kit(b), []string{"EFI/BOOT/BOOTX64.EFI", "autoboot.txt", "grub/grub.cfg", "tryboot.txt"}},
		{"bootsel", own, []string{"autoboot.txt", "grub/grub.cfg", "tryboot.txt"}},
		{"boota", kit(b), []string{"pv-linux.efi", "pv_rev.txt"}},
		{"bootb", kit(b), nil}, // nothing boots from there before an update
		{"root", kit(b), nil},
	} {
		step, err := New(shipped(t)).Files(c.role, c.kit)
		if err != nil {
			t.Fatal(err)
		}
		if step == nil {
			if c.want != nil {
				t.Errorf("%s has no files", c.role)
			}
			continue
		}
		dir := partstest.New(t, "x64-efiab", bootloader.Request, debian.ToolsRequest).Run(step)
		if d := cmp.Diff(c.want, names(t, dir)); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.role, d)
		}
		if c.role == "boota" {
			checkImage(t, filepath.Join(dir, linuxFile))
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, autoboot.FileName))
		if choice, bad := autoboot.Parse(string(text)); err != nil || bad != nil || choice != (autoboot.Choice{Default: 2, Try: 3}) {
			t.Errorf("%v %v: %s", err, bad, text)
		}
	}
}

// checkImage reads the sections of the kernel's image.
func checkImage(t *testing.T, file string) {
	t.Helper()
	f, err := pe.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for name, want := range map[string]string{
		".cmdline": "console=ttyS0,115200 panic=5 quiet rdinit=/init", ".initrd": "baseaddon", ".linux": "the kernel", ".osrel": release,
	} {
		s := f.Section(name)
		if s == nil {
			t.Errorf("no section %s", name)
			continue
		}
		data, err := s.Data()
		if err != nil || string(data[:s.VirtualSize]) != want {
			t.Errorf("%s: %q, %v; want %q", name, data, err, want)
		}
	}
}

func TestWhatCannotBeMade(t *testing.T) {
	t.Parallel()
	b := partstest.New(t, "x64-efiab", bootloader.Request, debian.ToolsRequest)
	for want, c := range map[string]struct {
		kind   fault.Kind
		change func(*targets.Target, *bootloader.Kit)
	}{
		"reference device": {fault.Unsupported, func(_ *targets.Target, k *bootloader.Kit) { k.BSP = nil }},
		"riscv64":          {fault.Unsupported, func(t *targets.Target, _ *bootloader.Kit) { t.Arch.Go = "riscv64" }},
		"pv_rev=1":         {fault.BadInput, func(t *targets.Target, _ *bootloader.Kit) { t.Kernel.Arguments = []string{"pv_rev=1"} }},
	} {
		target, k := shipped(t), kit(b)
		c.change(target, &k)
		if _, err := New(target).Files("boota", k); fault.Of(err) != c.kind || !strings.Contains(err.Error(), want) {
			t.Errorf("kind %v: %v; want %q", fault.Of(err), err, want)
		}
	}
	target := shipped(t)
	target.Bootloader.Packages = slices.DeleteFunc(target.Bootloader.Packages, func(p string) bool { return p == stubPackage })
	k := kit(b)
	k.Package = b.Unpacker(bootloader.Packages(target)[0])
	if _, err := New(target).Files("boota", k); err == nil || !strings.Contains(err.Error(), stubPackage) {
		t.Errorf("without the stub: %v", err)
	}
}
