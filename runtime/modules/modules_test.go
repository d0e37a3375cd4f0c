package modules

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/debian/partstest"
	"github.com/pantavisor/pantavisor/kernel/sources"
	"github.com/pantavisor/pantavisor/runtime/uevent"
	"golang.org/x/sys/unix"
)

const depText = `# comment
kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/lib/crc16.ko
kernel/fs/jbd2/jbd2.ko:
kernel/lib/crc16.ko:
kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_ring.ko:
kernel/drivers/virtio/virtio-pci.ko.xz: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/crypto/crc32c-intel.ko:
kernel/broken.ko: kernel/gone.ko
`

const aliasText = `# Aliases extracted from modules themselves.
alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci
alias virtio:d00000002v* virtio_blk
alias fs-ext4 ext4
alias acpi*:LNXPWRBN:* jbd2
alias cpu:type:x86,ven*fam*mod*:feature:*0094* crc32c-intel
`

// tree writes a module directory.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for n, content := range files {
		p := filepath.Join(dir, n)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// recording returns a loader that notes what it would insert, by file name and options.
func recording(dir string, got *[]string) *Loader {
	l := NewLoader(dir)
	l.loaded, l.sys = map[string]bool{}, "" // nothing of this machine
	l.insert = func(p, options string) error {
		*got = append(*got, strings.TrimSpace(path.Base(p)+" "+options))
		return nil
	}
	return l
}

func TestLoadOrder(t *testing.T) {
	dir := tree(t, map[string]string{"modules.dep": depText, "modules.builtin": "kernel/fs/loop.ko\n",
		"modules.softdep": "softdep ext4 pre: crc32c_intel not_there post: virtio_blk\n"})
	tests := []struct {
		names []string
		want  []string
	}{
		{[]string{"jbd2"}, []string{"jbd2.ko"}},
		{[]string{"virtio-pci"}, []string{"virtio_ring.ko", "virtio.ko", "virtio-pci.ko.xz"}},
		{[]string{"virtio_pci", "virtio_blk"}, []string{"virtio_ring.ko", "virtio.ko", "virtio-pci.ko.xz", "virtio_blk.ko"}},
		{[]string{"ext4"}, []string{"crc32c-intel.ko", "crc16.ko", "jbd2.ko", "ext4.ko", "virtio_ring.ko", "virtio.ko", "virtio_blk.ko"}},
		{[]string{"loop"}, nil},
		{[]string{"jbd2", "jbd2", "jbd2.ko"}, []string{"jbd2.ko"}},
	}
	for _, tc := range tests {
		t.Run(strings.Join(tc.names, " "), func(t *testing.T) {
			var got []string
			if err := recording(dir, &got).Load(tc.names...); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("order (-want +got):\n%s", diff)
			}
		})
	}
}

// TestSoftDependencyByAlias loads all modules that stand for a soft dependency
// which is not a module itself, as modprobe does.
func TestSoftDependencyByAlias(t *testing.T) {
	x, err := readIndex(tree(t, map[string]string{"modules.dep": depText, "modules.softdep": "softdep jbd2 pre: crypto-crc32c\n",
		"modules.alias": "alias crypto_crc32c crc32c_intel\nalias crypto_crc32c crc16\nalias other virtio\n"}), "", []string{"jbd2"})
	if err != nil {
		t.Fatal(err)
	}
	list, err := x.order(nil, "jbd2", false, map[string]bool{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range list {
		got = append(got, s.module)
	}
	if diff := cmp.Diff([]string{"crc32c_intel", "crc16", "jbd2"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestLoadCircleEnds(t *testing.T) {
	dir := tree(t, map[string]string{"modules.dep": "a.ko: b.ko\nb.ko: a.ko\n"})
	var got []string
	if err := recording(dir, &got).Load("a"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"b.ko", "a.ko"}, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestLoadReportsAllFailures(t *testing.T) {
	dir := tree(t, map[string]string{"modules.dep": depText})
	var got []string
	err := recording(dir, &got).Load("nosuch", "jbd2", "broken")
	if !errors.Is(err, ErrUnknown) {
		t.Fatalf("%v, want ErrUnknown", err)
	}
	for _, word := range []string{"nosuch", "gone", "broken"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%v does not name %s", err, word)
		}
	}
	if diff := cmp.Diff([]string{"jbd2.ko"}, got); diff != "" {
		t.Errorf("loaded (-want +got):\n%s", diff)
	}
}

func TestLoadKernelSays(t *testing.T) {
	dir := tree(t, map[string]string{"modules.dep": depText})
	for _, tc := range []struct {
		kernel, want error
	}{{unix.EEXIST, nil}, {unix.ENOEXEC, unix.ENOEXEC}} {
		l := NewLoader(dir)
		l.loaded = map[string]bool{}
		l.insert = func(string, string) error { return tc.kernel }
		if err := l.Load("jbd2"); !errors.Is(err, tc.want) {
			t.Errorf("kernel says %v: %v, want %v", tc.kernel, err, tc.want)
		}
	}
}

func TestLoadWithOptionsAndRemove(t *testing.T) {
	dir := tree(t, map[string]string{"modules.dep": depText})
	var got []string
	l := recording(dir, &got)
	l.Options = map[string]string{"ext4": "a=1"}
	l.remove = func(m string) error { got = append(got, "-"+m); return nil }
	for _, options := range []string{"b=2", ""} {
		if err := errors.Join(l.LoadWith("ext4", options), l.Remove("ext4"), l.Remove("ext4")); err != nil {
			t.Fatal(err)
		}
	}
	all := strings.Join(got, ",")
	if !strings.Contains(all, "ext4.ko a=1 b=2,-ext4") || !strings.Contains(all, "ext4.ko a=1,-ext4") {
		t.Errorf("done: %s", all)
	}
	l.insert = func(string, string) error { return unix.ENOEXEC }
	for range 2 { // a failure is not remembered
		if err := l.LoadWith("virtio_blk", "x=1"); !errors.Is(err, unix.ENOEXEC) {
			t.Errorf("loading what the kernel refuses: %v", err)
		}
	}
	l.loaded["busy"] = true
	l.remove = func(string) error { return unix.EBUSY }
	if err := l.Remove("busy"); !errors.Is(err, unix.EBUSY) {
		t.Errorf("removing what is in use: %v", err)
	}
}

func TestLoadAgainAfterMove(t *testing.T) {
	dir := tree(t, map[string]string{"modules.dep": "a.ko:\n"})
	var got []string
	l := recording(dir, &got)
	if err := l.Load("b"); !errors.Is(err, ErrUnknown) {
		t.Fatalf("%v, want ErrUnknown", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "modules.dep"), []byte("a.ko:\nb.ko:\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	l.Moved()
	if err := l.Load("b"); err != nil || len(got) != 1 {
		t.Errorf("%v, loaded %v", err, got)
	}
}

func TestLoadWithoutTables(t *testing.T) {
	l := NewLoader(filepath.Join(t.TempDir(), "none"))
	if err := l.Load("no_such_module_anywhere"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, want that the directory is missing", err)
	}
	if n, err := l.LoadFor("pci:v0"); n != 0 || err != nil {
		t.Errorf("aliases without tables: %d, %v", n, err)
	}
}

func TestOptions(t *testing.T) {
	conf := tree(t, map[string]string{"a.conf": "# x\noptions jbd2 debug=1\nblacklist pcspkr\n", "b.conf": "options jbd2 two=2\n", "c.txt": "options jbd2 no=1\n"})
	none := filepath.Join(t.TempDir(), "none")
	if err := os.WriteFile(none, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	settings, err := Read(conf, none)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	l := recording(tree(t, map[string]string{"modules.dep": depText}), &got)
	l.Settings = settings
	if err := l.Load("jbd2"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"jbd2.ko debug=1 two=2"}, got); diff != "" {
		t.Errorf("inserted (-want +got):\n%s", diff)
	}
	cmdline := filepath.Join(t.TempDir(), "cmdline")
	if err := os.WriteFile(cmdline, []byte("quiet jbd2.two=3 ubi.mtd=ubi ubi.mtd=1,2048 usb-core.nousb .x=1 a.=2 pv_rev=0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"jbd2": "debug=1 two=2 two=3", "ubi": "mtd=ubi mtd=1,2048", "usb_core": "nousb"}
	all, err := Read(conf, cmdline)
	if diff := cmp.Diff(want, all.Options); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if s, err := Read(filepath.Join(conf, "missing"), none); err != nil || len(s.Options) != 0 {
		t.Errorf("missing directory: %v, %v", s, err)
	}
}

// sysfs makes a directory as /sys looks, with one modalias for each device.
func sysfs(t *testing.T, devices map[string]string) string {
	t.Helper()
	files := map[string]string{"bus/x/drivers/dummy": ""}
	for dev, modalias := range devices {
		files[dev+"/modalias"] = modalias + "\n"
	}
	return tree(t, files)
}

func TestColdPlugFollowsNewDevices(t *testing.T) {
	dir := tree(t, map[string]string{"modules.dep": depText, "modules.alias": aliasText})
	sys := sysfs(t, map[string]string{
		"bus/pci/devices/0000:00:01.0": "pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00",
		"bus/pci/devices/0000:00:02.0": "pci:v00008086d00001001sv00001AF4sd00000002bc01sc00i00",
	})
	var got []string
	l := recording(dir, &got)
	l.sys = sys
	note := l.insert
	l.insert = func(p, o string) error {
		if path.Base(p) == "virtio-pci.ko.xz" { // the driver brings a device
			d := filepath.Join(sys, "bus/virtio/devices/virtio0")
			if err := os.MkdirAll(d, 0o755); err != nil {
				t.Error(err)
			}
			if err := os.WriteFile(filepath.Join(d, "modalias"), []byte("virtio:d00000002v00001AF4\n"), 0o644); err != nil {
				t.Error(err)
			}
		}
		return note(p, o)
	}
	n, err := l.ColdPlug(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"virtio_ring.ko", "virtio.ko", "virtio-pci.ko.xz", "virtio_blk.ko"}
	if diff := cmp.Diff(want, got); diff != "" || n != len(want) {
		t.Errorf("loaded %d (-want +got):\n%s", n, diff)
	}
}

func TestAliasBusWithStar(t *testing.T) {
	dir := tree(t, map[string]string{"modules.dep": depText, "modules.alias": aliasText})
	got, err := match(dir, []string{"acpi:LNXPWRBN:"})
	if diff := cmp.Diff([]string{"jbd2"}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// TestBlacklist has modules kept from devices by both sources of settings; as with modprobe
// they come by name all the same, and where another module needs them.
func TestBlacklist(t *testing.T) {
	conf := tree(t, map[string]string{"a.conf": "blacklist sound-card\n"})
	cmdline := filepath.Join(t.TempDir(), "cmdline")
	if err := os.WriteFile(cmdline, []byte("modprobe.blacklist=camera,,gpu_core quiet modprobe.blacklist=radio modprobe.blacklist\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	settings, err := Read(conf, cmdline)
	if err != nil {
		t.Fatal(err)
	}
	if len(settings.Options) != 0 {
		t.Errorf("options %v, want none", settings.Options)
	}
	dir := tree(t, map[string]string{
		"modules.dep":   "gpu.ko: gpu-core.ko\ngpu-core.ko:\nsound_card.ko:\ncamera.ko:\nradio.ko:\n",
		"modules.alias": "alias x:gpu gpu\nalias x:core gpu_core\nalias x:s sound_card\nalias x:c camera\nalias x:r radio\n",
	})
	var got []string
	l := recording(dir, &got)
	l.Settings = settings
	l.sys = sysfs(t, map[string]string{"bus/x/devices/core": "x:core", "bus/x/devices/radio": "x:r"})
	_, cold := l.ColdPlug(t.Context(), nil)
	_, hot := l.LoadFor("x:s", "x:c", "x:gpu")
	if err := errors.Join(cold, hot, l.Load("camera")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"gpu-core.ko", "gpu.ko", "camera.ko"}, got); diff != "" {
		t.Errorf("inserted (-want +got):\n%s", diff)
	}
}

func TestColdPlugStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewLoader(t.TempDir()).ColdPlug(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
}

func TestHotPlugStops(t *testing.T) {
	events, err := uevent.Listen()
	if err != nil {
		t.Skipf("no netlink here: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- NewLoader(t.TempDir()).HotPlug(ctx, events, func(error) {}) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
}

func TestGlob(t *testing.T) {
	tests := []struct {
		pattern, s string
		want       bool
	}{
		{"pci:v*d*", "pci:v1d2", true},
		{"pci:v*d2", "pci:v1d3", false},
		{"a?c", "abc", true},
		{"a?c", "ac", false},
		{"usb:d[0-3]*", "usb:d2x", true},
		{"usb:d[0-3]*", "usb:d4x", false},
		{"d[!0-3]", "d4", true},
		{"d[ab", "d[ab", true},
		{`a\*b`, "a*b", true},
		{`a\*b`, "axb", false},
		{"*", "", true},
		{"**a", "bba", true},
		{"", "", true},
		{"", "a", false},
		{"of:N*T*Cvirtio,mmioC*", "of:Nvirtio_mmioT(null)Cvirtio,mmio", false},
		{"of:N*T*Cgpio_keysC*", "of:Ngpio-keysT(null)Cgpio-keysCx", true},
		{"of:N*T*Cgpio-keys", "of:Ngpio_keysT(null)Cgpio_keys", true},
		{"*a*a*a*a*a*a*a*a*b", strings.Repeat("a", 200), false},
	}
	for _, tc := range tests {
		if got := glob([]byte(tc.pattern), tc.s); got != tc.want {
			t.Errorf("glob(%q, %q) = %v, want %v", tc.pattern, tc.s, got, tc.want)
		}
	}
}

func FuzzGlob(f *testing.F) {
	f.Add("pci:v[0-9]*", "pci:v1")
	f.Add(`[\]`, "x")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		got := glob([]byte(pattern), s)
		if strings.ContainsAny(pattern, `*?[\`) {
			return
		}
		alike := strings.NewReplacer("-", "_")
		if want := alike.Replace(pattern) == alike.Replace(s); got != want {
			t.Errorf("glob(%q, %q) = %v, want %v", pattern, s, got, want)
		}
	})
}

func FuzzIndex(f *testing.F) {
	f.Add(depText, "softdep a pre: b\n")
	f.Fuzz(func(t *testing.T, dep, soft string) {
		dir := tree(t, map[string]string{"modules.dep": dep, "modules.softdep": soft})
		for _, line := range strings.Split(dep, "\n") {
			file, _, _ := strings.Cut(strings.TrimSpace(line), ":")
			m := name(file)
			x, err := readIndex(dir, "", []string{m})
			if err != nil {
				t.Fatal(err)
			}
			if x.files[m] == "" {
				continue
			}
			if _, err := x.order(nil, m, false, map[string]bool{}); err != nil && !errors.Is(err, ErrUnknown) {
				t.Error(err)
			}
		}
	})
}

// depmod is the oracle: what modprobe would load is what we load, in its order.
func TestOrderAgreesWithModprobe(t *testing.T) {
	modprobe := partstest.Program(t, "kmod", "modprobe")
	parts := partstest.New(t, "x64-uefi", sources.Request)
	release := parts.Run(&sources.PackageTree{Package: parts.Package(sources.Request, "linux-image-*")})
	directories, _ := filepath.Glob(filepath.Join(release, "lib/modules/*"))
	if len(directories) != 1 {
		t.Fatalf("%d kernels in %s, want one", len(directories), release)
	}
	for _, m := range []string{"overlay", "virtio_blk", "ext4", "usb_storage"} {
		out, err := modprobe("-d", release, "-S", filepath.Base(directories[0]), "-D", m).Output()
		if err != nil {
			continue // not in this kernel
		}
		var want []string
		for _, l := range strings.Split(strings.TrimSpace(string(out)), "\n") {
			if f := strings.Fields(l); f[0] == "insmod" {
				want = append(want, path.Base(f[1]))
			}
		}
		var got []string
		if err := recording(directories[0], &got).Load(m); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-modprobe +got):\n%s", m, diff)
		}
	}
}

func TestFilesystem(t *testing.T) {
	if !Filesystem("proc") || Filesystem("roc") || Filesystem("nosuchfs") {
		t.Error("proc must be known, roc and nosuchfs not")
	}
}

func TestDirectory(t *testing.T) {
	out, err := exec.Command("uname", "-r").Output()
	if err != nil {
		t.Fatalf("uname: %v", err)
	}
	got, err := Directory("/")
	if want := "/lib/modules/" + strings.TrimSpace(string(out)); err != nil || got != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}

// pc is a machine with a disk on virtio and one on SATA, and a power button.
func pc(t *testing.T) (dir, sys string) {
	t.Helper()
	dir = tree(t, map[string]string{
		"modules.dep": "kernel/drivers/ata/ahci.ko: kernel/drivers/ata/libata.ko\nkernel/drivers/ata/libata.ko:\n" +
			"kernel/drivers/acpi/button.ko:\nkernel/drivers/virtio/virtio_pci.ko:\n",
		"modules.alias": "alias acpi*:PNP0C0C:* button\nalias pci:v00008086* ahci\nalias pci:v00001AF4* virtio_pci\n",
	})
	return dir, sysfs(t, map[string]string{
		"bus/acpi/devices/PNP0C0C:00": "acpi:PNP0C0C:", "bus/pci/devices/0000:00:02.0": "pci:v00008086", "bus/pci/devices/0000:00:03.0": "pci:v00001AF4",
	})
}

func TestColdPlugEnds(t *testing.T) {
	ata := []string{"virtio_pci.ko", "libata.ko", "ahci.ko"}
	for _, tc := range []struct {
		after int // so many modules are enough
		want  []string
	}{{1, ata[:1]}, {3, ata}, {99, append(ata, "button.ko")}} {
		dir, sys := pc(t)
		var got []string
		l := recording(dir, &got)
		l.sys = sys
		if _, err := l.ColdPlug(t.Context(), func() bool { return len(got) >= tc.after }); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("enough after %d (-want +got):\n%s", tc.after, diff)
		}
		l.Moved()
		if _, err := l.ColdPlug(t.Context(), nil); err != nil || len(got) < 4 {
			t.Errorf("the rest is not loaded later: %v, %v", got, err)
		}
	}
}

// TestIdleDrivers tells drivers without a device from those that cannot be loaded.
func TestIdleDrivers(t *testing.T) {
	dir, sys := pc(t)
	l := NewLoader(dir)
	l.sys, l.loaded = sys, map[string]bool{}
	var idle []error
	l.Idle = func(err error) { idle = append(idle, err) }
	l.insert = func(p, _ string) error {
		return map[string]error{"button.ko": unix.ENODEV, "libata.ko": unix.ENOEXEC}[path.Base(p)]
	}
	_, err := l.ColdPlug(t.Context(), nil)
	if !errors.Is(err, unix.ENOEXEC) || errors.Is(err, unix.ENODEV) {
		t.Errorf("%v, want only that libata cannot be loaded", err)
	}
	if len(idle) != 1 || !strings.Contains(idle[0].Error(), "button") {
		t.Errorf("idle: %v, want button", idle)
	}
	l.Moved()
	l.loaded = map[string]bool{}
	if err := l.Load("button"); !errors.Is(err, unix.ENODEV) {
		t.Errorf("%v, want that the module asked for is refused", err)
	}
}

// TestStandInForAnotherProcessor leaves a module out that the processor cannot run.
func TestStandInForAnotherProcessor(t *testing.T) {
	dir := tree(t, map[string]string{"modules.dep": depText, "modules.softdep": "softdep jbd2 pre: crypto_crc32c\n",
		"modules.alias": aliasText + "alias crypto_crc32c crc32c-intel\nalias crypto_crc32c crc16\n"})
	for cpu, want := range map[string][]string{
		"cpu:type:x86,ven0002fam000Fmod006B:feature:,0000,0094,0100": {"crc32c-intel.ko", "crc16.ko", "jbd2.ko"},
		"cpu:type:x86,ven0002fam000Fmod006B:feature:,0000,0100":      {"crc16.ko", "jbd2.ko"},
		"": {"crc32c-intel.ko", "crc16.ko", "jbd2.ko"},
	} {
		var got []string
		l := recording(dir, &got)
		l.sys = tree(t, map[string]string{"devices/system/cpu/modalias": cpu + "\n"})
		if err := l.Load("jbd2"); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("on %q (-want +got):\n%s", cpu, diff)
		}
	}
}
