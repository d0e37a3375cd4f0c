package rpi

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/bootloader"
	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian/partstest"
	"github.com/pantavisor/pantavisor/formats/autoboot"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

// given is a step whose output are the files of a test.
type given struct {
	name  string
	files map[string][]byte
}

func give(name string, files ...string) given {
	g := given{name, map[string][]byte{}}
	for i := 0; i < len(files); i += 2 {
		g.files[files[i]] = []byte(files[i+1])
	}
	return g
}

func (g given) Name() string     { return "test/" + g.name }
func (given) Deps() []build.Step { return nil }
func (g given) Run(_ context.Context, w *build.Work) error {
	return bootloader.WriteTree(w.Out, g.files)
}

// pi is the shipped target with another type of boot loader.
func pi(t *testing.T, kind, arch string) *targets.Target {
	t.Helper()
	target, err := targets.Load(nil, "rpi64-5.10.y")
	if err != nil {
		t.Fatal(err)
	}
	target.Bootloader.Type, target.Arch.Go = kind, arch
	target.Kernel.Arguments = []string{"console=ttyS1,115200"}
	return target
}

// made runs the step for the partition with a role and returns its files.
func made(t *testing.T, l bootloader.Loader, role string, tree given) (files map[string]string, warnings []string) {
	t.Helper()
	run := partstest.New(t, "rpi64-5.10.y", bootloader.Request)
	kit := bootloader.Kit{Package: run.Unpacked(bootloader.Request), BSP: &bootloader.BSP{
		Kernel: bootloader.File{Step: give("kernel", "kernel.img", "the kernel"), Path: "kernel.img"},
		Initrd: []bootloader.File{{Step: give("base", "a", "base"), Path: "a"}, {Step: give("addon", "b", "addon"), Path: "b"}}, Tree: tree,
	}}
	step, err := l.Files(role, kit)
	if err != nil {
		t.Fatal(err)
	}
	if step == nil {
		return nil, nil
	}
	out := map[string]string{}
	dir := run.Run(step)
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		out[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out, run.Warns
}

// upstream are device trees as kernels have them: flat, or in a directory of the SoC's maker.
var upstream = give("tree", "dtbs/broadcom/bcm2837-rpi-3-b.dtb", "pi 3", "dtbs/bcm2835-rpi-zero-w.dtb", "zero", "dtbs/broadcom/bcm958622hr.dtb", "other")

func TestFilesOfEachWay(t *testing.T) {
	t.Parallel()
	stages := []string{"fixup.dat", "fixup4.dat", "start.elf", "start4.elf"}
	trees := []string{"bcm2835-rpi-zero-w.dtb", "bcm2837-rpi-3-b.dtb"}
	for _, c := range []struct {
		kind, role string
		open       func(*targets.Target) bootloader.Loader
		want       []string
	}{
		{"rpi-uboot", "boot", NewUBoot, slices.Concat(stages, trees, []string{"bootcode.bin", "boot.scr", "pv.env", "config.txt", "cmdline.txt"})},
		{"rpi", "boot", New, slices.Concat(stages, trees, []string{"bootcode.bin", "kernel.img", "pantavisor", "config.txt", "cmdline.txt"})},
		{"rpi", "root", New, nil},
		{"rpiab", "boot", NewAB, nil},
		{"rpiab", "bootb", NewAB, nil}, // nothing boots from there before an update
		{"rpiab", "boota", NewAB, slices.Concat(stages, trees, []string{"kernel.img", "pantavisor", "config.txt", "cmdline.txt", "pv_rev.txt"})},
		{"rpiab", "bootsel", NewAB, []string{"autoboot.txt", "bootcode.bin", "config.txt"}},
	} {
		files, warnings := made(t, c.open(pi(t, c.kind, "arm64")), c.role, upstream)
		if d := cmp.Diff(slices.Sorted(slices.Values(c.want)), slices.Sorted(maps.Keys(files))); d != "" {
			t.Errorf("%s, %s:\n%s", c.kind, c.role, d)
		}
		all := strings.Join(warnings, "\n")
		if files["start.elf"] != "" && (!strings.Contains(all, "no overlays") || strings.Contains(all, "always starts this kernel") != (c.kind == "rpi")) {
			t.Errorf("%s: warnings %q", c.kind, warnings)
		}
	}
}

func TestWhatTheFirmwareStarts(t *testing.T) {
	t.Parallel()
	files, _ := made(t, New(pi(t, "rpi", "arm64")), "boot", upstream)
	for name, want := range map[string]string{
		"config.txt": "kernel=kernel.img\ninitramfs pantavisor followkernel\n", "cmdline.txt": "console=ttyS1,115200 rdinit=/init\n",
		"kernel.img": "the kernel", "pantavisor": "baseaddon", "bcm2837-rpi-3-b.dtb": "pi 3",
	} {
		if got := files[name]; !strings.HasSuffix(got, want) || got != want && name != "config.txt" {
			t.Errorf("%s has %q, want %q", name, got, want)
		}
	}
	behind, _ := made(t, NewUBoot(pi(t, "rpi-uboot", "arm64")), "boot", upstream)
	if c := behind["config.txt"]; !strings.Contains(c, "\narm_64bit=1\n") || !strings.Contains(c, "\nupstream_kernel=1\n") || !strings.HasSuffix(c, "\nkernel=u-boot.bin\n") {
		t.Errorf("config.txt:\n%s", c)
	}
	if script := behind["boot.scr"]; !strings.Contains(script, "fdt get value pv_given /chosen bootargs") || !strings.Contains(script, "${pv_given}") {
		t.Error("U-Boot does not take the firmware's arguments")
	}
	if c := (&Loader{target: pi(t, "rpi", "arm")}).config(); !strings.Contains(c, "arm_64bit=0\n") {
		t.Errorf("a kernel of 32 bits:\n%s", c)
	}
}

func TestTwoPartitions(t *testing.T) {
	t.Parallel()
	target, err := targets.Load(nil, "rpi64ab")
	if err != nil {
		t.Fatal(err)
	}
	l := NewAB(target)
	selector, _ := made(t, l, "bootsel", upstream)
	if c, err := autoboot.Parse(selector["autoboot.txt"]); err != nil || c != (autoboot.Choice{Default: 2, Try: 3}) || len(selector["autoboot.txt"]) != 512 {
		t.Errorf("autoboot.txt: %v, %v", c, err)
	}
	boot, _ := made(t, l, "boota", upstream)
	if rev := boot["pv_rev.txt"]; strings.TrimSpace(rev) != "0" || len(rev) != 512 {
		t.Errorf("pv_rev.txt: %q", rev)
	}
	if role, key, _ := l.(bootloader.Slotted).Slot(); role != "boota" || key != "rpiab" {
		t.Errorf("slot %s, %s", role, key)
	}
	if role, _, _ := New(target).(bootloader.Slotted).Slot(); role != "" {
		t.Errorf("one partition has the slot %s", role)
	}
	if l.State() != nil {
		t.Error("the storage has files of the loader")
	}
}

func TestKernelOfAnotherBoard(t *testing.T) {
	t.Parallel()
	run := partstest.New(t, "rpi64-5.10.y", bootloader.Request)
	step, err := NewUBoot(pi(t, "rpi-uboot", "arm64")).Files("boot", bootloader.Kit{Package: run.Unpacked(bootloader.Request), BSP: &bootloader.BSP{Tree: give("tree", "dtbs/rockchip/rk3328-rock64.dtb", "")}})
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Try(step); fault.Of(err) != fault.Missing || !strings.Contains(err.Error(), "bcm2*-rpi-*.dtb") {
		t.Errorf("kind %v: %v", fault.Of(err), err)
	}
	if _, err := New(pi(t, "rpi", "arm64")).Files("boot", bootloader.Kit{Package: run.Unpacked(bootloader.Request)}); fault.Of(err) != fault.Unsupported {
		t.Errorf("the BSP of a reference device: %v", err)
	}
}
