package kernel

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/debian/partstest"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

// module returns a relocatable ELF file with a .modinfo section.
func module(fields ...string) []byte {
	info := []byte(strings.Join(fields, "\x00") + "\x00")
	strs := []byte("\x00.modinfo\x00.shstrtab\x00")
	head := elf.Header64{Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1, Shoff: 64, Ehsize: 64, Shentsize: 64, Shnum: 3, Shstrndx: 2}
	copy(head.Ident[:], "\x7fELF\x02\x01\x01")
	at := uint64(64 + 3*64)
	sections := []elf.Section64{{},
		{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: at, Size: uint64(len(info)), Addralign: 1},
		{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: at + uint64(len(info)), Size: uint64(len(strs)), Addralign: 1}}
	var b bytes.Buffer
	for _, v := range []any{head, sections, info, strs} {
		_ = binary.Write(&b, binary.LittleEndian, v)
	}
	return b.Bytes()
}

// modulesTree writes a directory lib/modules/<release> with the fields of each module.
func modulesTree(t *testing.T, release string, modules map[string][]string, builtin ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "lib/modules", release)
	var order []string
	for path, fields := range modules {
		file := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, module(fields...), 0o644); err != nil {
			t.Fatal(err)
		}
		order = append(order, path)
	}
	slices.Sort(order)
	for name, lines := range map[string][]string{"modules.builtin": builtin, "modules.order": order} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func scan(t *testing.T, dir string) *Index {
	t.Helper()
	x, err := Scan(dir)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// small returns a kernel with modules of every kind.
func small(t *testing.T) string {
	t.Helper()
	return modulesTree(t, "6.1.0-1-amd64", map[string][]string{
		"kernel/fs/ext4/ext4.ko":        {"license=GPL", "depends=jbd2,mbcache,crc16", "softdep=pre: crc32c", "alias=fs-ext4"},
		"kernel/fs/jbd2/jbd2.ko":        {"depends="},
		"kernel/fs/mbcache.ko":          {"depends="},
		"kernel/lib/crc16.ko":           {"depends="},
		"kernel/crypto/crc32c-intel.ko": {"depends=", "alias=crc32c", "alias=cpu:type:x86,ven*fam*mod*:feature:*0094*"},
		"kernel/crypto/crc32c_gen.ko":   {"depends=", "alias=crc32c", "softdep=post: after pre: nothing-there"},
		"kernel/misc/after.ko":          {"depends=crc16"},
		"kernel/usb/uas.ko":             {"depends=usb-storage", "alias=usb:v*p*d*dc*dsc*dp*ic08isc06ip62in*", "alias=of:N*T*Ca,b-[0-9]C*"},
		"kernel/usb/usb-storage.ko":     {"depends=scsi_mod", "firmware=usb/a.bin", "firmware=usb/x-*.bin"},
	}, "kernel/drivers/scsi/scsi_mod.ko", "kernel/lib/button.ko")
}

func moduleNames(set []*Module) []string {
	var out []string
	for _, m := range set {
		out = append(out, m.Name)
	}
	return out
}

func TestClosureOrder(t *testing.T) {
	x := scan(t, small(t))
	set, builtin, err := x.Closure([]string{"ext4", "button", "uas"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"jbd2", "mbcache", "crc16", "crc32c_intel", "crc32c_gen", "after", "ext4", "usb_storage", "uas"}
	if diff := cmp.Diff(want, moduleNames(set)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"button"}, builtin); diff != "" {
		t.Errorf("built in (-want +got):\n%s", diff)
	}
	byAlias, _, err := x.Closure([]string{"usb:v0001p0002d0001dc00dsc00dp00ic08isc06ip62in00"})
	if err != nil || moduleNames(byAlias)[len(byAlias)-1] != "uas" {
		t.Errorf("by a device's alias: %v, %v", moduleNames(byAlias), err)
	}
}

func TestClosureErrors(t *testing.T) {
	x := scan(t, small(t))
	_, _, err := x.Closure([]string{"ext5", "ext4", "nothing_like_it_at_all", "buton"})
	if fault.Of(err) != fault.BadInput {
		t.Fatalf("%v, want bad input", err)
	}
	for _, want := range []string{`"ext5" of early_modules: the kernel has none of that name; the nearest is "ext4"`, `"nothing_like_it_at_all" of early_modules: the kernel has none`, `nearest is "button"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v: no %s", err, want)
		}
	}
	y := scan(t, modulesTree(t, "1", map[string][]string{"a.ko": {"depends=gone"}}))
	if _, _, err := y.Closure([]string{"a"}); err == nil || !strings.Contains(err.Error(), `"gone"`) {
		t.Errorf("a missing dependency: %v", err)
	}
	cycle := scan(t, modulesTree(t, "1", map[string][]string{"a.ko": {"softdep=pre: b"}, "b.ko": {"softdep=pre: a"}}))
	if set, _, err := cycle.Closure([]string{"a"}); err != nil || len(set) != 2 {
		t.Errorf("a cycle of soft dependencies: %v, %v", moduleNames(set), err)
	}
}

func TestIndexText(t *testing.T) {
	files := scan(t, small(t)).Files()
	for name, wants := range map[string][]string{
		"modules.dep": {"kernel/fs/jbd2/jbd2.ko:\n", "kernel/usb/uas.ko: kernel/usb/usb-storage.ko\n",
			"kernel/fs/ext4/ext4.ko: kernel/lib/crc16.ko kernel/fs/mbcache.ko kernel/fs/jbd2/jbd2.ko\n"},
		"modules.alias":   {"alias fs_ext4 ext4\n", "alias of:N*T*Ca,b_[0-9]C* uas\n"},
		"modules.softdep": {"softdep ext4 pre: crc32c\n", "softdep crc32c_gen pre: nothing_there post: after\n"},
	} {
		for _, want := range wants {
			if !strings.Contains(string(files[name]), want) {
				t.Errorf("no %q in %s:\n%s", want, name, files[name])
			}
		}
	}
}

// TestModprobeReadsIndex checks the .bin files with kmod itself.
func TestModprobeReadsIndex(t *testing.T) {
	modprobe := partstest.Program(t, "kmod", "modprobe")
	dir := small(t)
	x := scan(t, dir)
	if err := x.WriteFiles(dir); err != nil {
		t.Fatal(err)
	}
	root := strings.TrimSuffix(dir, "/lib/modules/"+x.Release)
	for name, want := range map[string]string{
		"button": "button", "usb-storage": "usb-storage.ko", "uas": "usb-storage.ko uas.ko", "of:N1T2Ca,b-7Cx": "usb-storage.ko uas.ko",
		"usb:v1p1d1dc1dsc1dp1ic08isc06ip62in1": "usb-storage.ko uas.ko",
		"crc32c":                               "crc32c-intel.ko crc32c_gen.ko crc16.ko after.ko",
		"fs-ext4":                              "jbd2.ko mbcache.ko crc16.ko crc32c-intel.ko crc32c_gen.ko crc16.ko after.ko ext4.ko",
	} {
		out, err := modprobe("-d", root, "-S", x.Release, "-C", "/dev/null", "--show-depends", name).CombinedOutput()
		var got []string
		for line := range strings.Lines(string(out)) {
			got = append(got, filepath.Base(strings.Fields(line)[1]))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("modprobe %s: %v: loads %q, want %q", name, err, got, want)
		}
	}
}

// checkDepmod compares the dependencies with those that depmod finds by symbols.
func checkDepmod(t *testing.T, x *Index, tree string) {
	t.Helper()
	depmod := partstest.Program(t, "kmod", "depmod")
	out, err := depmod("-n", "-b", tree, x.Release).Output()
	if err != nil {
		t.Fatalf("depmod: %v", err)
	}
	compared := 0
	for line := range strings.Lines(string(out)) {
		path, needs, ok := strings.Cut(strings.TrimSpace(line), ":")
		m := x.Module(moduleName(filepath.Base(path)))
		if !ok || m == nil || m.Path != path {
			continue
		}
		compared++
		var ours []string
		for _, d := range x.needs(m) {
			ours = append(ours, d.Path)
		}
		slices.Sort(ours)
		theirs := strings.Fields(needs)
		slices.Sort(theirs)
		if !slices.Equal(ours, theirs) {
			t.Errorf("%s needs %v, depmod says %v", path, ours, theirs)
		}
	}
	if compared != len(x.Modules) {
		t.Errorf("compared %d of %d modules", compared, len(x.Modules))
	}
}

func TestReadInfoRejects(t *testing.T) {
	good := module("depends=a", "firmware=f")
	for name, b := range map[string][]byte{
		"empty": nil, "text": []byte("no module"), "truncated": good[:100], "other sections": bytes.Replace(good, []byte(".modinfo"), []byte(".modinfi"), 1),
	} {
		if _, err := readInfo(bytes.NewReader(b)); !errors.Is(err, errModule) {
			t.Errorf("%s: %v, want ErrModule", name, err)
		}
	}
	got, err := readInfo(bytes.NewReader(good))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Info{Depends: []string{"a"}, Firmware: []string{"f"}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func FuzzReadInfo(f *testing.F) {
	f.Add(module("depends=a,b-c", "softdep=pre: x post: y", "alias=z", "firmware=w"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := readInfo(bytes.NewReader(b))
		if err != nil {
			return
		}
		for _, s := range slices.Concat(m.Depends, m.Pre, m.Post, m.Aliases, m.Firmware) {
			if strings.ContainsAny(s, "\x00\n") {
				t.Fatalf("%q", s)
			}
		}
	})
}

func TestConfigCheck(t *testing.T) {
	text := "# comment\nCONFIG_64BIT=y\n# CONFIG_VETH is not set\n"
	for _, n := range configNeeds {
		if n.Options[0] != "VETH" && n.Options[0] != "RD_XZ" {
			text += "CONFIG_" + n.Options[0] + "=y\n"
		}
	}
	c := parseConfig(text + "CONFIG_RD_XZ=m\nCONFIG_X=\"text\"\n")
	want := []Lack{{"RD_XZ", "m", "y", "the initrd", without["the initrd"]}, {"VETH", "not set", "y or m", "containers' networks", without["containers' networks"]}}
	if diff := cmp.Diff(want, c.Check()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	delete(c, "64BIT")
	if got := c.Check(); got[len(got)-1].Option != "COMPAT_32BIT_TIME" {
		t.Errorf("on 32 bits: %v", got)
	}
}

func TestFirmwarePicker(t *testing.T) {
	dir := t.TempDir()
	for name, size := range map[string]int{"usb/a.bin": 10, "usb/x-1.bin": 20, "usb/x-2.bin": 30, "usb/unused": 99, "real/b": 5, "out/no": 7} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"link": "real/b", "dangling": "nowhere", "escape": "../../etc/passwd", "loop": "loop"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	p := picker{to: t.TempDir(), sizes: map[string]int64{}, exclude: []string{"out/**", "usb/x-2.bin"},
		wanted: []string{"usb/a.bin", "usb/x-*.bin", "link", "dangling", "escape", "loop", "out/no", "../usb/unused", "/usb/unused", "absent", "[bad"}}
	if err := p.pick(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int64{"usb/a.bin": 10, "usb/x-1.bin": 20, "link": 0, "real/b": 5}, p.sizes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got, err := os.ReadFile(filepath.Join(p.to, "link")); err != nil || len(got) != 5 {
		t.Errorf("through the link %d bytes, %v", len(got), err)
	}
	if err := p.checkBudget(35); err != nil {
		t.Errorf("exactly the budget: %v", err)
	}
	if err := p.checkBudget(34); fault.Of(err) != fault.NoSpace || !strings.Contains(err.Error(), "usb 0.0 MiB, real") {
		t.Errorf("over the budget: %v", err)
	}
}

// TestRealKernel runs all steps on the pinned packages.
func TestRealKernel(t *testing.T) {
	if testing.Short() {
		t.Skip("unpacks a kernel of 390 MB")
	}
	b := partstest.New(t, "x64-uefi", "kernel", "firmware")
	kernel := &debian.Unpack{Keep: []string{"boot/", "lib/modules/"}, Package: b.Package("kernel", "linux-image-*")}
	if err := IndexTree(b.Run(kernel)); err != nil {
		t.Fatal(err)
	}
	x, err := readIndex(b.Run(kernel))
	if err != nil {
		t.Fatal(err)
	}
	checkDepmod(t, x, b.Run(kernel))
	checkImage(t, filepath.Join(b.Run(&Image{kernel}), ImageFile))
	b.Run(&ConfigCheck{kernel})
	if len(b.Warns) != 0 {
		t.Errorf("Debian's kernel lacks %q", b.Warns)
	}
	checkEarly(t, x, b.Run(&Early{Modules: []string{"ext4", "overlay", "squashfs", "virtio_pci", "nvme", "uas"}, Tree: kernel}))
	b.Run(&Modules{Tree: kernel})
	checkFirmware(t, b, kernel)
}

func checkImage(t *testing.T, file string) {
	t.Helper()
	head, err := os.ReadFile(file)
	if err != nil || len(head) < 0x206 || string(head[0x202:0x206]) != "HdrS" {
		t.Errorf("%s is not a bzImage: %v", file, err)
	}
}

// checkEarly checks that the dependencies of each early module come before it.
func checkEarly(t *testing.T, x *Index, out string) {
	t.Helper()
	dir := filepath.Join(out, "lib/modules", x.Release)
	lines, err := readLines(filepath.Join(dir, earlyFile))
	if err != nil || len(lines) < 10 {
		t.Fatalf("%d early modules, %v", len(lines), err)
	}
	loaded := map[string]bool{}
	for _, path := range lines {
		info, err := readModuleFile(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range info.Depends {
			if !loaded[d] && !x.IsBuiltin(d) {
				t.Errorf("%s comes before %s, which it needs", path, d)
			}
		}
		loaded[moduleName(filepath.Base(path))] = true
	}
}

func checkFirmware(t *testing.T, b *partstest.Runner, kernel build.Step) {
	t.Helper()
	pkg := &debian.Unpack{Keep: FirmwarePaths, Package: b.Package("firmware", "firmware-realtek")}
	step := &Firmware{Packages: []build.Step{pkg}, Tree: kernel, Budget: 1}
	if err := b.Try(step); fault.Of(err) != fault.NoSpace {
		t.Errorf("Realtek's firmware within 1 MiB: %v", err)
	}
	step.Budget = 32
	file := filepath.Join(b.Run(step), FirmwareFile)
	out, err := exec.Command(oracle.Program(t, "unsquashfs"), "-l", file).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("squashfs-root/rtl_nic/")) {
		t.Errorf("%v: %.300s", err, out)
	}
}

// TestFirmwareOfBuiltinDrivers: a kernel that is compiled with all drivers has no modules that
// could name their firmware.
func TestFirmwareOfBuiltinDrivers(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "6.1-test")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	const info = "r8169.firmware=rtl_nic/b.fw\x00r8169.license=GPL\x00x.parm=a:see .firmware=c\x00r8169.firmware=rtl_nic/a.fw\x00tg3.firmware=rtl_nic/a.fw\x00"
	if err := os.WriteFile(filepath.Join(dir, "modules.builtin.modinfo"), []byte(info), 0o644); err != nil {
		t.Fatal(err)
	}
	x, err := Scan(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"rtl_nic/a.fw", "rtl_nic/b.fw"}, x.firmware()); diff != "" {
		t.Error(diff)
	}
}
