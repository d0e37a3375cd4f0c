package efiab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/bootloader"
	"github.com/pantavisor/pantavisor/bootloader/bootloadertest"
	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/debian/partstest"
	"github.com/pantavisor/pantavisor/formats/autoboot"
	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/kernel/sources"
	"github.com/pantavisor/pantavisor/targets"
)

const (
	mega  = 1 << 20
	limit = 4 * time.Minute // of one run of the emulator, on a busy machine
)

// given is a step whose output is one file, "data".
type given struct {
	name string
	data []byte
}

func (g given) Name() string     { return "test/" + g.name }
func (given) Deps() []build.Step { return nil }
func (g given) Run(_ context.Context, w *build.Work) error {
	return bootloader.WriteTree(w.Out, map[string][]byte{"data": g.data})
}

// shipped is the target of this loader.
func shipped(t *testing.T) *targets.Target {
	t.Helper()
	target, err := targets.Load(nil, "x64-efiab")
	if err != nil {
		t.Fatal(err)
	}
	target.Kernel.Arguments = []string{"console=ttyS0,115200", "panic=5", "quiet"}
	return target
}

// machine is a disk with the loader: the revision 0 is on partition 2, locals/new on 3.
type machine struct {
	t    *testing.T
	dir  string
	disk string
}

// starts are where the partitions begin, in MiB.
var starts = map[int]int{1: 1, 2: 41, 3: 121}

const (
	espSize  = 40 // MiB
	slotSize = 80
)

func newMachine(t *testing.T) *machine {
	t.Helper()
	b := partstest.New(t, "x64-efiab", sources.Request, bootloader.Request, debian.ToolsRequest)
	l := &Loader{shipped(t)}
	unpacked := b.Run(&debian.Unpack{Keep: []string{"boot/vmlinuz"}, Package: b.Package(sources.Request, "linux-image-*")})
	found, err := filepath.Glob(filepath.Join(unpacked, "boot/vmlinuz-*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("kernels %v, %v", found, err)
	}
	kernel, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string, data []byte) bootloader.File {
		return bootloader.File{Step: given{name, data}, Path: "data"}
	}
	kit := bootloader.Kit{Package: b.Unpacked(bootloader.Request), Tools: b.Tools(), BSP: &bootloader.BSP{
		Kernel: file("kernel", kernel),
		Initrd: []bootloader.File{file("initrd", bootloadertest.Guest(t, "amd64")), file("addon", bootloadertest.Addon(t))},
	}}
	m := &machine{t: t, dir: t.TempDir()}
	m.disk = filepath.Join(m.dir, "disk.img")
	bootloadertest.Write(t, m.disk, nil)
	if err := os.Truncate(m.disk, 202*mega); err != nil {
		t.Fatal(err)
	}
	bootloadertest.Command(t, "sgdisk", "-n", "1:2048:+40M", "-t", "1:ef00", "-n", "2:0:+80M", "-n", "3:0:+80M", m.disk)
	selector, err := l.Files("bootsel", kit)
	if err != nil {
		t.Fatal(err)
	}
	m.fill(1, espSize, b.Run(selector))
	for number, rev := range map[int]string{2: "0", 3: "locals/new"} {
		slot, err := l.slot(kit)
		if err != nil {
			t.Fatal(err)
		}
		slot.Arguments = append(slot.Arguments, "pv_rev="+rev, "pv_try=")
		m.fill(number, slotSize, b.Run(named{slot, fmt.Sprint(number)}))
	}
	return m
}

// named is a step with another name.
type named struct {
	*Slot
	name string
}

func (n named) Name() string { return "test/slot/" + n.name }

// fill makes the file system of a partition.
func (m *machine) fill(number, size int, tree string) {
	m.t.Helper()
	bootloadertest.FAT(m.t, m.disk, int64(starts[number])*mega, int64(size)*mega, tree)
}

func (m *machine) volume(number int) string {
	return bootloadertest.Volume(m.disk, int64(starts[number])*mega)
}

// put replaces a file of a partition.
func (m *machine) put(number int, name, text string) {
	m.t.Helper()
	file := filepath.Join(m.dir, name)
	bootloadertest.Write(m.t, file, []byte(text))
	bootloadertest.Command(m.t, "mcopy", "-o", "-i", m.volume(number), file, "::/"+name)
}

// boot runs the machine until it powers off and returns what its guests said.
func (m *machine) boot(more ...string) []string {
	m.t.Helper()
	args := append(bootloadertest.UEFI(m.t), "-m", "512", "-drive", "if=virtio,format=raw,file="+m.disk)
	return bootloadertest.Boots(m.t, bootloadertest.Emulate(m.t, limit, "qemu-system-x86_64", append(args, more...)...))
}

// once returns what is in the file with the one-shot flag.
func (m *machine) once() string {
	m.t.Helper()
	return bootloadertest.Command(m.t, "mtype", "-i", m.volume(1), "::/"+autoboot.OnceFile)
}

// TestBoardsTwoPartitions has the flag started once, a partition that cannot be loaded passed
// over at once, and the default exchanged.
func TestBoardsTwoPartitions(t *testing.T) {
	wanted := strings.Split(os.Getenv("PV_TEST_TARGETS"), ",")
	if testing.Short() || !slices.Contains(wanted, "x64-efiab") && wanted[0] != "all" {
		t.Skip("boots four kernels in software emulation: mage boards")
	}
	oracle.Need(t, "qemu-system-x86_64", "sgdisk", "mkfs.vfat", "mcopy")
	bootloadertest.NeedUEFI(t)
	m := newMachine(t)
	const old, tried = "pv_rev=0 pv_try= addons=1", "pv_rev=locals/new pv_try= addons=1"
	step := func(what string, want []string, got ...string) {
		t.Helper()
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
		if o := m.once(); len(o) != autoboot.Size || !strings.Contains(o, "\n"+autoboot.OnceVariable+"=\n") {
			t.Errorf("%s: the flag is not cleared: %q", what, o)
		}
	}
	m.put(1, autoboot.OnceFile, autoboot.OnceText(3))
	step("a test that ends with a restart", []string{tried, old}, m.boot()...)

	m.put(1, autoboot.FileName, autoboot.Choice{Default: 3, Try: 2}.BlockText())
	step("the other one is the default", []string{tried}, m.boot("-no-reboot")...)

	m.put(1, autoboot.FileName, autoboot.Choice{Default: 2, Try: 3}.BlockText())
	m.put(1, autoboot.OnceFile, autoboot.OnceText(3))
	m.put(3, linuxFile, "MZ half written")
	step("a test that cannot be loaded", []string{old}, m.boot("-no-reboot")...)
}
