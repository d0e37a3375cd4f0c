package uboot

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/bootloader/bootloadertest"
	"github.com/pantavisor/pantavisor/formats/ubootenv"
	"github.com/pantavisor/pantavisor/formats/uimage"
	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/runtime/boot/spec"
)

const (
	mega     = 1 << 20
	fatSize  = 34 * mega
	rootSize = 4 * mega
)

// scenario is a state of the handshake and what is special with U-Boot.
type scenario struct {
	spec.State
	fits   []string // revisions with a FIT, which is damaged
	addons int
	files  map[string]string // further files of revision 0, device trees as their source
	// fdtfile is what U-Boot says of its board.
	fdtfile string
	noMark  bool   // pv.env is missing, and there is no space for it
	size    string // of the initrd, where it counts
	tree    string // the device tree, where it counts
}

// scenarios are those of every loader, and more.
func scenarios() []scenario {
	type S = spec.State
	starts := func(try string, revs ...string) (out []spec.Start) {
		for _, r := range revs {
			out = append(out, spec.Start{Rev: r, Try: try})
		}
		return out
	}
	same := func(name, rev, try string, want ...spec.Start) S {
		return S{Name: name, Rev: rev, Try: try, Revisions: []string{"3"}, Want: want, Again: want}
	}
	zero := starts("", "0")
	out := []scenario{
		{State: S{Name: "factory's revision last", Rev: "3", Revisions: []string{"3", "0"}, Want: starts("", "3", "0"), Again: starts("", "3", "0")}},
		{State: S{Name: "good one without a kernel", Rev: "3", Revisions: []string{"0"}, Want: zero, Again: zero}},
		{State: same("try of a FIT", "3", "4", starts("4", "3")...), fits: []string{"4"}},
		{State: S{Name: "addons", Rev: "0", Revisions: []string{"0"}, Want: zero, Again: zero}, addons: 3, size: "1c00000"},
		{State: S{Name: "as many addons as there are places", Rev: "0", Revisions: []string{"0"}, Want: zero, Again: zero}, addons: 8, size: "3000000"},
		{State: same("too many addons", "3", ""), addons: 9},
		{State: S{Name: "mark cannot be written", Rev: "3", Try: "4", Revisions: []string{"3", "4"}, Want: starts("4", "3"), Again: starts("4", "3")}, noMark: true},
		{State: same("quotes and variables", "3", `'${pv_fat}"; reset`, starts("", "3")...)},
		{State: same("more than one command", "3", "4; reset", starts("4; reset", "3")...)},
		{State: same("a variable", "3", "${pv_fat}", starts("${pv_fat}", "3")...)},
		{State: S{Name: "the tree of the revision", Rev: "0", Revisions: []string{"0"}, Want: zero, Again: zero}, fdtfile: "v/b.dtb", tree: "one",
			files: map[string]string{".pv/pv-fdt.dtb": source("one"), "bsp/dtbs/v/b.dtb": source("two")}},
		{State: S{Name: "the tree of the board", Rev: "0", Revisions: []string{"0"}, Want: zero, Again: zero}, fdtfile: "v/b.dtb", tree: "two",
			files: map[string]string{"bsp/dtbs/v/a.dtb": source("one"), "bsp/dtbs/v/b.dtb": source("two")}},
		{State: S{Name: "no tree for the board", Rev: "0", Revisions: []string{"0"}, Want: zero, Again: zero}, fdtfile: "v/c.dtb", tree: "linux,dummy-virt",
			files: map[string]string{"bsp/dtbs/v/a.dtb": source("one")}},
		{State: S{Name: "hostile rev", Rev: `3" init=/bin/sh`, Revisions: []string{"0"}, Want: zero, Again: zero}},
		{State: S{Name: "hostile number", Rev: "3", Try: "4", Trial: `1"; reset`, Trying: "4", Revisions: []string{"3", "4"},
			Want: starts("4", "4", "3"), Again: starts("4", "3")}},
		{State: same("way out of the trails", "3", "../boot", starts("../boot", "3")...)},
	}
	for _, s := range spec.States() {
		out = append(out, scenario{State: s})
	}
	return out
}

// settings start no kernel: the console shows what would be started.
func settings(root int) Settings {
	return Settings{Root: root, Initrd: 0x48000000, Arguments: []string{"panic=5"},
		DTB: 0x4f000000, Boot: "run show"}
}

// source is a device tree with a property that tells it from others.
func source(compatible string) string {
	return fmt.Sprintf("/dts-v1/; / { compatible = %q; };", compatible)
}

// stageFiles writes the further files of revision 0.
func (s scenario) stageFiles(t *testing.T, store string) {
	t.Helper()
	for name, text := range s.files {
		file := filepath.Join(store, "trails/0", name)
		bootloadertest.Write(t, file, []byte(text))
		if strings.HasPrefix(text, "/dts-v1/") {
			bootloadertest.Command(t, "dtc", "-q", "-I", "dts", "-O", "dtb", "-o", file+".out", file)
			if err := os.Rename(file+".out", file); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// stage writes the files of the two partitions of a scenario.
func (s scenario) stage(t *testing.T, root int, fat, store string) {
	t.Helper()
	script, err := settings(root).Script()
	if err != nil {
		t.Fatal(err)
	}
	script, ok := strings.CutSuffix(script, "sleep 10\nreset\n")
	if !ok {
		t.Fatal("the script does not end with a restart")
	}
	image, err := uimage.EncodeScript(uimage.Header{}, []byte(script))
	if err != nil {
		t.Fatal(err)
	}
	bootloadertest.Write(t, filepath.Join(fat, "scenario.scr"), image)
	if s.noMark {
		bootloadertest.Write(t, filepath.Join(fat, "pv.env", "directory"), nil)
	} else {
		mark := make([]byte, stateSize)
		copy(mark, "pv_env=1\npv_trying="+s.Trying+"\n")
		bootloadertest.Write(t, filepath.Join(fat, "pv.env"), mark)
	}
	if s.Rev != "" || s.Try != "" {
		bootloadertest.Write(t, filepath.Join(store, "boot/uboot.txt"), state(t, s.Rev, s.Try, s.Trial))
	}
	s.stageFiles(t, store)
	for _, r := range s.fits {
		bootloadertest.Write(t, filepath.Join(store, "trails", r, ".pv/pantavisor.fit"), []byte("fit"))
	}
	for _, r := range s.Revisions {
		dir := filepath.Join(store, "trails", r, ".pv")
		bootloadertest.Write(t, filepath.Join(dir, "pv-kernel.img"), []byte("kernel"))
		bootloadertest.Write(t, filepath.Join(dir, "pv-initrd.img"), []byte("initrd"))
		for n := range s.addons {
			bootloadertest.Write(t, filepath.Join(dir, fmt.Sprintf("pv-initrd.img.%d", n)), []byte("addon"))
		}
	}
}

// state is what the runtime writes to boot/uboot.txt.
func state(t *testing.T, rev, try, trial string) []byte {
	t.Helper()
	text, err := ubootenv.Encode([]ubootenv.Entry{{Name: "pv_rev", Value: rev}, {Name: "pv_try", Value: try}, {Name: "pv_trial", Value: trial}})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// driver runs each scenario a number of times in one U-Boot.
func driver(scenarios []scenario, rounds int) string {
	var b strings.Builder
	b.WriteString("setenv show 'setenv model; fdt addr ${pv_fdt}; fdt get value model / compatible; echo \"STARTED ${pv_this} try=${pv_try} size=${pv_size} tree=${model} |\"'\n")
	b.WriteString("setenv top \"${devtype} ${devnum}\"\n")
	for i := range scenarios {
		for round := range rounds {
			fmt.Fprintf(&b, "echo SCENARIO %d %d\nsetenv fdtfile %s\nsetenv distro_bootpart %x\nload ${top}:%x 60000000 scenario.scr\nsource 60000000\n", i, round, scenarios[i].fdtfile, 2+2*i, 2+2*i)
		}
	}
	return b.String() + "echo SCENARIO end\npoweroff\n"
}

// disk is a disk with a table of type gpt; the first partition is bootable.
type disk struct {
	file  string
	parts []part
	end   int64 // of the last partition
}

// part is a partition with a file system of the files in dir.
type part struct {
	format      string // vfat or ext4
	start, size int64
	dir         string
}

func (d *disk) add(format string, size int64, dir string) {
	d.end = max(d.end, mega)
	d.parts = append(d.parts, part{format, d.end, size, dir})
	d.end += size
}

// write writes the disk.
func (d *disk) write(t *testing.T) {
	t.Helper()
	bootloadertest.Write(t, d.file, nil)
	if err := os.Truncate(d.file, d.end+mega); err != nil {
		t.Fatal(err)
	}
	args := []string{"-a", "1"}
	for _, p := range d.parts {
		args = append(args, "-n", fmt.Sprintf("0:%d:+%d", p.start/512, p.size/512))
	}
	bootloadertest.Command(t, "sgdisk", append(args, "-A", "1:set:2", d.file)...)
	for _, p := range d.parts {
		if p.format == "ext4" {
			bootloadertest.Ext4(t, d.file, p.start, p.size, p.dir, "")
		} else {
			bootloadertest.FAT(t, d.file, p.start, p.size, p.dir, "-s", "1")
		}
	}
}

// newDisk has the driver's partition and then two for each scenario.
func newDisk(t *testing.T, scenarios []scenario, rounds int) *disk {
	t.Helper()
	image, err := uimage.EncodeScript(uimage.Header{}, []byte(driver(scenarios, rounds)))
	if err != nil {
		t.Fatal(err)
	}
	top := t.TempDir()
	bootloadertest.Write(t, filepath.Join(top, "boot.scr"), image)
	d := &disk{file: filepath.Join(t.TempDir(), "disk.img")}
	d.add("vfat", fatSize, top)
	for i, s := range scenarios {
		fat, root := t.TempDir(), t.TempDir()
		s.stage(t, 3+2*i, fat, root)
		d.add("vfat", fatSize, fat)
		d.add("ext4", rootSize, root)
	}
	d.write(t)
	return d
}

// needTools skips the test where a program is missing.
func needTools(t *testing.T) {
	t.Helper()
	oracle.Need(t, "dtc", "sgdisk", "mkfs.vfat", "mcopy", "debugfs")
	bootloadertest.NeedUBoot(t)
}

// run starts U-Boot and returns its console.
func run(t *testing.T, disk string, more ...string) string {
	t.Helper()
	args := append(bootloadertest.UBoot(), "-m", "1024", "-drive", "if=none,id=disk,format=raw,file="+disk, "-device", "virtio-blk-pci,drive=disk")
	return bootloadertest.Emulate(t, 6*time.Minute, "qemu-system-aarch64", append(args, more...)...)
}

var started = regexp.MustCompile(`(?m)^STARTED (.*) \|$`)

// TestStateTable runs the generated script in a real U-Boot on a real disk layout. For each
// scenario it checks the revisions that U-Boot boots, in fallback order, what it boots next
// time, and that it changed nothing of the medium but the content of pv.env.
func TestStateTable(t *testing.T) {
	needTools(t)
	all := scenarios()
	d := newDisk(t, all, 2)
	before, err := os.ReadFile(d.file)
	if err != nil {
		t.Fatal(err)
	}
	console := run(t, d.file)
	after, err := os.ReadFile(d.file)
	if err != nil {
		t.Fatal(err)
	}
	rounds := regexp.MustCompile(`(?m)^SCENARIO .*$`).Split(console, -1)
	if len(rounds) != 2*len(all)+2 {
		t.Fatalf("%d rounds; console:\n%s", len(rounds), console)
	}
	for i, s := range all {
		t.Run(s.Name, func(t *testing.T) {
			for round, want := range [][]spec.Start{s.Want, s.Again} {
				text := rounds[1+2*i+round]
				for _, r := range s.fits { // tried once
					if begun := strings.Contains(text, "Booting revision "+r+"\n3 bytes read"); begun != (round == 0) {
						t.Errorf("boot %d: the FIT of revision %s is loaded: %v; console:\n%s", round, r, begun, text)
					}
				}
				if diff := cmp.Diff(s.lines(want), s.attempts(text)); diff != "" {
					t.Errorf("boot %d: want(-), got(+):\n%s\nconsole:\n%s", round, diff, text)
				}
			}
		})
	}
	t.Run("nothing else is written", func(t *testing.T) {
		for at := 0; at < len(before); at += 512 {
			if !bytes.Equal(before[at:at+512], after[at:at+512]) && !bytes.HasPrefix(before[at:], []byte("pv_env=1\n")) {
				t.Errorf("sector %d was changed", at/512)
			}
		}
	})
}

// attempts returns what was started. The size of the initrd and the device tree count where
// they are wanted.
func (s scenario) attempts(text string) []string {
	var out []string
	for _, m := range started.FindAllStringSubmatch(text, -1) {
		line, size, _ := strings.Cut(m[1], " size=")
		size, tree, _ := strings.Cut(size, " tree=")
		if s.size != "" {
			line += " size=" + size
		}
		if s.tree != "" {
			line += " tree=" + tree
		}
		out = append(out, line)
	}
	return out
}

// lines are the starts as [settings] report them.
func (s scenario) lines(starts []spec.Start) []string {
	var out []string
	for _, start := range starts {
		line := start.Rev + " try=" + start.Try
		if s.size != "" {
			line += " size=" + s.size
		}
		if s.tree != "" {
			line += " tree=" + s.tree
		}
		out = append(out, line)
	}
	return out
}

// TestUpdatesOnOneDisk boots one disk again and again. Between the boots it writes what the
// runtime would write, and reads what U-Boot has written.
func TestUpdatesOnOneDisk(t *testing.T) {
	needTools(t)
	s := scenario{State: spec.State{Rev: "3", Revisions: []string{"3", "4"}}}
	d := newDisk(t, []scenario{s}, 1)
	fat, store := d.parts[1].start, d.parts[2].start
	for _, step := range bootloadertest.Steps() {
		bootloadertest.Replace(t, d.file, store, "/boot/uboot.txt", state(t, step.Rev, step.Try, step.Trial))
		console := run(t, d.file)
		if diff := cmp.Diff(s.lines(step.Want), s.attempts(console)); diff != "" {
			t.Errorf("%s (-want +got):\n%s\nconsole:\n%s", step.Name, diff, console)
		}
		if got := trying(bootloadertest.Read(t, d.file, fat, "/pv.env")); got != step.Trying {
			t.Errorf("%s: pv_trying is %q, want %q", step.Name, got, step.Trying)
		}
	}
}

// trying returns pv_trying of pv.env; U-Boot leaves out what is empty.
func trying(file []byte) string {
	for line := range strings.Lines(string(file)) {
		if value, ok := strings.CutPrefix(line, "pv_trying="); ok {
			return strings.TrimSuffix(value, "\n")
		}
	}
	return ""
}
