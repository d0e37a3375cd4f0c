package grub

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/bootloader"
	"github.com/pantavisor/pantavisor/bootloader/bootloadertest"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/debian/partstest"
	"github.com/pantavisor/pantavisor/formats/grubenv"
	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/kernel/sources"
	"github.com/pantavisor/pantavisor/runtime/boot/spec"
	"github.com/pantavisor/pantavisor/targets"
)

const (
	mega  = 1 << 20
	limit = 4 * time.Minute // of one run of the emulator, on a busy machine
)

// machine is a kind of firmware and of partition table that the tests boot.
type machine struct {
	name, pkg, table string
}

var (
	uefi    = machine{"uefi", "grub-efi-amd64-bin", "gpt"}
	bios    = machine{"bios", "grub-pc-bin", "gpt"}
	biosMBR = machine{"bios and mbr", "grub-pc-bin", "mbr"}
)

// target is a board with the machine's loader and partitions. A GPT has one for what a BIOS
// loads.
func (m machine) target() *targets.Target {
	parts := []targets.Partition{{Name: "pvboot", Role: "boot", Start: targets.MiB}, {Name: "pvroot", Role: "root"}}
	if m.table == "gpt" {
		parts = slices.Insert(parts, 0, targets.Partition{Name: "bios", Role: "loader", Start: biosStart, Size: espStart - biosStart})
	}
	return &targets.Target{
		Name: "board", Arch: targets.Arch{Go: "amd64", Debian: "amd64"},
		Kernel:     &targets.Kernel{Arguments: []string{"console=ttyS0,115200", "panic=5", "quiet"}},
		Bootloader: &targets.Bootloader{Type: "grub", Suite: "bookworm", Packages: []string{m.pkg}},
		Images:     targets.Images{{Table: m.table, Partitions: parts}},
	}
}

// needTools skips the test where a program is missing.
func needTools(t *testing.T) {
	t.Helper()
	oracle.Need(t, "qemu-system-x86_64", "sgdisk", "sfdisk", "mkfs.vfat", "mcopy", "mmd", "debugfs")
	bootloadertest.NeedUEFI(t)
}

func env(t *testing.T, pairs ...string) []byte {
	t.Helper()
	e := grubenv.Env{}
	for i := 0; i < len(pairs); i += 2 {
		e[pairs[i]] = pairs[i+1]
	}
	b, err := e.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// disk is a disk with an ESP and file systems behind it.
type disk struct {
	t    *testing.T
	m    machine
	file string
}

const (
	biosStart = 34 * 512
	espStart  = 1 * mega
	espSize   = 40 * mega
)

// newDisk puts the tree esp on a FAT partition and each tree of roots on its own ext4
// partition; the label comes first.
func newDisk(t *testing.T, m machine, esp string, roots [][2]string, rootSize int64) *disk {
	t.Helper()
	d := &disk{t: t, m: m, file: filepath.Join(t.TempDir(), "disk.img")}
	bootloadertest.Write(t, d.file, nil)
	if err := os.Truncate(d.file, espStart+espSize+rootSize*int64(len(roots))+mega); err != nil {
		t.Fatal(err)
	}
	d.partition(len(roots), rootSize)
	bootloadertest.FAT(t, d.file, espStart, espSize, esp, "-n", "pvboot")
	for i, r := range roots {
		bootloadertest.Ext4(t, d.file, espStart+espSize+rootSize*int64(i), rootSize, r[1], r[0])
	}
	return d
}

// partition writes the table: the ESP and a number of partitions of one size.
func (d *disk) partition(roots int, size int64) {
	d.t.Helper()
	if d.m.table == "mbr" {
		text := fmt.Sprintf("start=%d,size=%d,type=c,bootable\n", espStart/512, espSize/512)
		for i := range roots {
			text += fmt.Sprintf("start=%d,size=%d,type=83\n", (espStart+espSize+size*int64(i))/512, size/512)
		}
		script := d.file + ".sfdisk"
		bootloadertest.Write(d.t, script, []byte("label: dos\nlabel-id: 0x0a000000\n"+text))
		bootloadertest.Command(d.t, "sh", "-c", `exec sfdisk --quiet "$1" <"$2"`, "sh", d.file, script)
		return
	}
	args := []string{"-a", "1", "-n", fmt.Sprintf("1:%d:%d", biosStart/512, espStart/512-1), "-t", "1:ef02",
		"-n", fmt.Sprintf("2:%d:+%d", espStart/512, espSize/512), "-t", "2:ef00"}
	for i := range roots {
		start := espStart + espSize + size*int64(i)
		args = append(args, "-n", fmt.Sprintf("%d:%d:+%d", i+3, start/512, size/512), "-u", fmt.Sprintf("%d:%s", i+3, partUUID(i)))
	}
	bootloadertest.Command(d.t, "sgdisk", append(args, d.file)...)
}

// embed writes the blobs of a loader to their places.
func (d *disk) embed(b *partstest.Runner, blobs []bootloader.Blob) {
	d.t.Helper()
	f, err := os.OpenFile(d.file, os.O_WRONLY, 0)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	for _, blob := range blobs {
		data, err := os.ReadFile(filepath.Join(b.Run(blob.File.Step), blob.File.Path))
		if err != nil || int64(len(data)) > blob.Max {
			d.t.Fatalf("%s has %d bytes of %d: %v", blob.Name, len(data), blob.Max, err)
		}
		if blob.Partition != "" {
			blob.Offset = biosStart
		}
		if _, err := f.WriteAt(data, blob.Offset); err != nil {
			d.t.Fatal(err)
		}
	}
}

// partUUID returns the UUID of the i-th root partition.
func partUUID(i int) string { return fmt.Sprintf("0a000000-0000-4000-8000-%012x", i) }

// trying reads pv_trying from an environment block on the ESP.
func (d *disk) trying(file string) string {
	d.t.Helper()
	block := bootloadertest.Read(d.t, d.file, espStart, file)
	if len(block) != grubenv.Size {
		d.t.Fatalf("%d bytes in %s", len(block), file)
	}
	e, err := grubenv.Parse(block)
	if err != nil {
		d.t.Fatal(err)
	}
	return e["pv_trying"]
}

// boot runs the disk until the machine powers off, or restarts if an argument says so,
// and returns the console.
func (d *disk) boot(more ...string) string {
	d.t.Helper()
	args := []string{"-machine", "pc"}
	if d.m.name == uefi.name {
		args = bootloadertest.UEFI(d.t)
	}
	args = append(args, "-m", "512", "-drive", "if=virtio,format=raw,file="+d.file)
	return bootloadertest.Emulate(d.t, limit, "qemu-system-x86_64", append(args, more...)...)
}

// scenario is a state of the handshake and what is special with GRUB.
type scenario struct {
	spec.State
	addons  int
	damaged bool   // the block on the ESP is not an environment block
	state   string // in place of the block of the storage
}

// scenarios are those of every loader, and more.
func scenarios() []scenario {
	type S = spec.State
	starts := func(rev ...string) (out []spec.Start) {
		for _, r := range rev {
			out = append(out, spec.Start{Rev: r})
		}
		return out
	}
	three, zero := starts("3"), starts("0")
	failed := []spec.Start{{Rev: "3", Try: "4"}}
	out := []scenario{
		{State: S{Name: "factory's revision last", Rev: "3", Revisions: []string{"3", "0"}, Want: starts("3", "0"), Again: starts("3", "0")}},
		{State: S{Name: "good one without a kernel", Rev: "3", Revisions: []string{"0"}, Want: zero, Again: zero}},
		{State: S{Name: "mark cannot be written", Rev: "3", Try: "4", Revisions: []string{"3", "4"}, Want: failed, Again: failed}, damaged: true},
		{State: S{Name: "garbage for a state", Revisions: []string{"0"}, Want: zero, Again: zero}, state: strings.Repeat("\x00\xff\n=pv_try\x80", 80)},
		{State: S{Name: "state cut short", Revisions: []string{"0", "3"}, Want: zero, Again: zero}, state: "# GRUB Environment Block\npv_rev=3"},
		{State: S{Name: "addons", Rev: "0", Revisions: []string{"0"}, Want: zero, Again: zero}, addons: 3},
		{State: S{Name: "hostile rev", Rev: `3" init=/bin/sh`, Revisions: []string{"0"}, Want: zero, Again: zero}},
		{State: S{Name: "hostile try", Rev: "3", Try: "4; halt", Revisions: []string{"3"}, Want: three, Again: three}},
		{State: S{Name: "quotes and variables", Rev: "3", Try: `'$root"`, Revisions: []string{"3"}, Want: three, Again: three}},
		{State: S{Name: "hostile number", Rev: "3", Try: "4", Trial: `1" init=/bin/sh`, Trying: "4", Revisions: []string{"3", "4"},
			Want: failed, Again: []spec.Start{{Rev: "4", Try: "4"}, {Rev: "3", Try: "4"}}}},
		{State: S{Name: "way out of the trails", Rev: "locals/../3", Try: "../3", Revisions: []string{"3", "0"}, Want: zero, Again: zero}},
	}
	for _, s := range spec.States() {
		out = append(out, scenario{State: s})
	}
	return out
}

// stage writes a scenario's files: configuration and pv_trying below esp, trails and
// state below root.
func (s scenario) stage(t *testing.T, label, esp, root string) {
	t.Helper()
	config, err := Settings{RootLabel: label, Arguments: []string{"console=tty0", "panic=5"}}.Config()
	if err != nil {
		t.Fatal(err)
	}
	bootloadertest.Write(t, filepath.Join(esp, label, "grub.cfg"), []byte(config))
	mark := env(t, "pv_trying", s.Trying)
	if s.damaged {
		mark = bytes.Repeat([]byte{0}, grubenv.Size)
	}
	bootloadertest.Write(t, filepath.Join(esp, label, "grubenv"), mark)
	if s.Rev != "" || s.Try != "" {
		bootloadertest.Write(t, filepath.Join(root, "boot/grubenv"), env(t, "pv_rev", s.Rev, "pv_try", s.Try, "pv_trial", s.Trial))
	}
	if s.state != "" {
		bootloadertest.Write(t, filepath.Join(root, "boot/grubenv"), []byte(s.state))
	}
	for _, r := range s.Revisions {
		dir := filepath.Join(root, "trails", r, ".pv")
		bootloadertest.Write(t, filepath.Join(dir, "pv-kernel.img"), []byte("k"))
		bootloadertest.Write(t, filepath.Join(dir, "pv-initrd.img"), []byte("i"))
		for n := range s.addons {
			bootloadertest.Write(t, filepath.Join(dir, fmt.Sprintf("pv-initrd.img.%d", n)), []byte("a"))
		}
	}
}

// driver runs all scenarios twice in one GRUB. The commands that would leave GRUB are not
// in the core image; functions that print their arguments replace them.
const driver = `
function linux {
  echo "LINUX $1"
  shift
  while test -n "$1"; do
    echo "ARGUMENT $1"
    shift
  done
  true
}
function initrd {
  while test -n "$1"; do
    echo "INITRD $1"
    shift
  done
  false
}
function sleep {
  true
}
function reboot {
  true
}
set top="$prefix"
`

// TestStateTable runs the generated configuration in a real GRUB on a real disk layout.
// For each scenario it checks the revisions that GRUB boots, in fallback order, and what
// it boots next time, which depends on the pv_trying it wrote.
func TestStateTable(t *testing.T) {
	needTools(t)
	for _, m := range []machine{uefi, bios} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			stateTable(t, m)
		})
	}
}

func stateTable(t *testing.T, m machine) {
	all := scenarios()
	attempts := read(t, stateDisk(t, m, all, 2).boot("-no-reboot"), 2*len(all))
	for i, s := range all {
		t.Run(s.Name, func(t *testing.T) {
			for round, want := range [][]spec.Start{s.Want, s.Again} {
				check(t, fmt.Sprintf("boot %d", round), s.attempts(want, i), attempts[[2]int{i, round}])
			}
		})
	}
}

// stateDisk makes a disk on which GRUB runs each scenario a number of times.
func stateDisk(t *testing.T, m machine, all []scenario, rounds int) *disk {
	t.Helper()
	b := partstest.New(t, "x64-bios", bootloader.Request, debian.ToolsRequest)
	p := platforms[m.pkg]
	modules, err := b.Unpacked(bootloader.Request)(m.pkg, p.modules()+"/")
	if err != nil {
		t.Fatal(err)
	}
	core := newCore(p, m.table, modules, b.Tools())
	without := []string{"linux", "sleep", "reboot"}
	core.Modules = append(slices.DeleteFunc(core.Modules, func(m string) bool { return slices.Contains(without, m) }), "configfile")
	esp, config := t.TempDir(), driver
	var roots [][2]string
	for i, s := range all {
		label, root := fmt.Sprintf("s%d", i), t.TempDir()
		s.stage(t, label, esp, root)
		roots = append(roots, [2]string{label, root})
		for round := range rounds {
			config += fmt.Sprintf("echo 'SCENARIO %d %d'\nset pv_stop=\nset prefix=\"$top/../%s\"\nsource \"$prefix/grub.cfg\"\n", i, round, label)
		}
	}
	if p.coreFile == "" { // the console of UEFI is on the serial line already
		config = "serial\nterminal_output serial\n" + config
	}
	bootloadertest.Write(t, filepath.Join(esp, ConfigFile), []byte(strings.ReplaceAll(config, "$top/../", "($root)/")+"halt\n"))
	if p.coreFile != "" {
		image, err := os.ReadFile(filepath.Join(b.Run(core), coreName))
		if err != nil {
			t.Fatal(err)
		}
		bootloadertest.Write(t, filepath.Join(esp, p.coreFile), image)
	}
	d := newDisk(t, m, esp, roots, 2*mega)
	if p.coreFile == "" {
		blobs, err := (&Loader{m.target()}).embed(core)
		if err != nil {
			t.Fatal(err)
		}
		d.embed(b, blobs)
	}
	return d
}

// TestUpdatesOnOneDisk boots one disk again and again. Between the boots it writes what the
// runtime would write, and reads what GRUB has written.
func TestUpdatesOnOneDisk(t *testing.T) {
	needTools(t)
	for _, m := range []machine{uefi, bios} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			s := scenario{State: spec.State{Rev: "3", Revisions: []string{"3", "4"}}}
			d := stateDisk(t, m, []scenario{s}, 1)
			for _, step := range bootloadertest.Steps() {
				d.setState("pv_rev", step.Rev, "pv_try", step.Try, "pv_trial", step.Trial)
				check(t, step.Name, s.attempts(step.Want, 0), read(t, d.boot("-no-reboot"), 1)[[2]int{0, 0}])
				if got := d.trying("/s0/grubenv"); got != step.Trying {
					t.Errorf("%s: pv_trying is %q, want %q", step.Name, got, step.Trying)
				}
			}
		})
	}
}

// attempt is one start of a kernel as GRUB was asked to do it.
type attempt struct {
	rev       string // of the kernel's file
	arguments []string
	initrds   []string
}

var (
	told      = regexp.MustCompile(`^(SCENARIO|LINUX|ARGUMENT|INITRD) (.*)$`)
	sequences = regexp.MustCompile("\x1b\\[[0-9;?=]*[a-zA-Z]|\x1bc")
	imagePath = regexp.MustCompile(`^\(hd0,gpt\d+\)/trails/(\S+)/\.pv/pv-kernel\.img$`)
)

// read groups GRUB's output by scenario and round. The output comes over the serial line
// and contains control sequences.
func read(t *testing.T, console string, rounds int) map[[2]int][]attempt {
	t.Helper()
	out := map[[2]int][]attempt{}
	var at [2]int
	for line := range strings.Lines(sequences.ReplaceAllString(console, "")) {
		m := told.FindStringSubmatch(strings.TrimRight(line, "\n"))
		if m == nil {
			continue
		}
		last := len(out[at]) - 1
		switch {
		case m[1] == "SCENARIO":
			if _, err := fmt.Sscan(m[2], &at[0], &at[1]); err != nil {
				t.Fatal(err)
			}
			out[at] = nil
		case m[1] == "LINUX":
			out[at] = append(out[at], attempt{rev: imagePath.ReplaceAllString(m[2], "$1")})
		case m[1] == "ARGUMENT" && last >= 0:
			out[at][last].arguments = append(out[at][last].arguments, m[2])
		case m[1] == "INITRD" && last >= 0:
			out[at][last].initrds = append(out[at][last].initrds, m[2])
		}
	}
	if len(out) != rounds {
		t.Fatalf("%d of %d rounds were run; console:\n%s", len(out), rounds, bootloadertest.Tail(console))
	}
	return out
}

func check(t *testing.T, boot string, want, got []attempt) {
	t.Helper()
	for _, a := range got {
		for i, f := range a.initrds {
			_, a.initrds[i], _ = strings.Cut(f, "/")
		}
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(attempt{})); diff != "" {
		t.Errorf("%s (-want +got):\n%s", boot, diff)
	}
}

// attempts are how GRUB must start kernels from the i-th partition.
func (s scenario) attempts(starts []spec.Start, i int) []attempt {
	var out []attempt
	for _, start := range starts {
		out = append(out, s.attempt(start, partUUID(i)))
	}
	return out
}

// attempt is how GRUB must start a kernel from the partition with the UUID.
func (s scenario) attempt(start spec.Start, partition string) attempt {
	out := attempt{rev: start.Rev, arguments: []string{
		"console=tty0", "panic=5", "rdinit=/init", "pv_boot_partuuid=" + partition, "pv_rev=" + start.Rev, "pv_try=" + start.Try,
	}}
	for n := range 1 + s.addons {
		suffix := ""
		if n > 0 {
			suffix = fmt.Sprintf(".%d", n-1)
		}
		out.initrds = append(out.initrds, "trails/"+start.Rev+"/.pv/pv-initrd.img"+suffix)
	}
	return out
}

// TestBootsDebianKernel boots the loader's own files with the pinned kernel and a
// small init: normal, test boot, fallback.
func TestBootsDebianKernel(t *testing.T) {
	if testing.Short() {
		t.Skip("boots three kernels in software emulation")
	}
	needTools(t)
	for _, m := range []machine{uefi, biosMBR} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			bootsDebianKernel(t, m)
		})
	}
}

func bootsDebianKernel(t *testing.T, m machine) {
	b := partstest.New(t, "x64-bios", sources.Request, bootloader.Request, debian.ToolsRequest)
	loader, kit := &Loader{m.target()}, bootloader.Kit{Package: b.Unpacked(bootloader.Request), Tools: b.Tools()}
	loader.target.Bootloader.Packages = b.Request(bootloader.Request).Packages // the lock's
	boot, err := loader.Files("boot", kit)
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := loader.Raw(kit)
	if err != nil {
		t.Fatal(err)
	}
	esp, state := b.Run(boot), b.Run(loader.State())
	root := t.TempDir()
	if err := os.CopyFS(root, os.DirFS(state)); err != nil {
		t.Fatal(err)
	}
	stageTrails(t, b, root)
	d := newDisk(t, m, esp, [][2]string{{"pvroot", root}}, 48*mega)
	d.embed(b, blobs)

	normal := bootloadertest.Boots(t, d.boot("-no-reboot"))
	if diff := cmp.Diff([]string{"pv_rev=0 pv_try= addons=1"}, normal); diff != "" {
		t.Errorf("a new disk (-want +got):\n%s", diff)
	}
	d.setState("pv_rev", "0", "pv_try", "locals/new")
	again := bootloadertest.Boots(t, d.boot())
	if diff := cmp.Diff([]string{"pv_rev=locals/new pv_try=locals/new addons=1", "pv_rev=0 pv_try=locals/new addons=1"}, again); diff != "" {
		t.Errorf("test boot and fallback (-want +got):\n%s", diff)
	}
	if got := d.trying("/" + TryingFile); got != "" {
		t.Errorf("pv_trying is %q after the fallback, want it empty", got)
	}
}

// stageTrails writes two revisions with the pinned kernel, an initrd and an addon.
func stageTrails(t *testing.T, b *partstest.Runner, root string) {
	t.Helper()
	unpacked := b.Run(&debian.Unpack{Keep: []string{"boot/vmlinuz"}, Package: b.Package(sources.Request, "linux-image-*")})
	found, err := filepath.Glob(filepath.Join(unpacked, "boot/vmlinuz-*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("kernels %v, %v", found, err)
	}
	kernel, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	initrd, addon := bootloadertest.Guest(t, "amd64"), bootloadertest.Addon(t)
	for _, rev := range []string{"0", "locals/new"} {
		dir := filepath.Join(root, "trails", rev, ".pv")
		bootloadertest.Write(t, filepath.Join(dir, "pv-kernel.img"), kernel)
		bootloadertest.Write(t, filepath.Join(dir, "pv-initrd.img"), initrd)
		bootloadertest.Write(t, filepath.Join(dir, "pv-initrd.img.0"), addon)
	}
}

// setState overwrites the environment block of the first storage as the runtime would.
func (d *disk) setState(pairs ...string) {
	d.t.Helper()
	bootloadertest.Replace(d.t, d.file, espStart+espSize, "/"+StateFile, env(d.t, pairs...))
}
