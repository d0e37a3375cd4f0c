package uboot

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/formats/ubootenv"
	"github.com/pantavisor/pantavisor/formats/uimage"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

const (
	mega     = 1 << 20
	firmware = "/usr/lib/u-boot/qemu_arm64/u-boot.bin"
	fatSize  = 34 * mega
	rootSize = 4 * mega
)

// scenario is a state of the handshake and what U-Boot must do.
type scenario struct {
	name             string
	rev, try, trying string
	trails           []string // revisions with kernel and initrd
	fits             []string // revisions with a FIT, which is damaged
	addons           int
	files            map[string]string // further files of revision 0, device trees as their source
	fdtfile          string            // what U-Boot says of its board
	noMark           bool              // pv.env is missing, and there is no space for it
	want             []string          // what is started, in this order, when each start fails
	again            []string          // the same at the next boot
}

var scenarios = []scenario{
	{name: "normal", rev: "3", trails: []string{"3", "0"}, want: []string{"3 try=", "0 try="}, again: []string{"3 try=", "0 try="}},
	{name: "normal ignores an old mark", rev: "3", trying: "2", trails: []string{"3"}, want: []string{"3 try="}, again: []string{"3 try="}},
	{name: "try", rev: "3", try: "4", trails: []string{"3", "4"}, want: []string{"4 try=4", "3 try=4"}, again: []string{"3 try=4"}},
	{name: "try after another one failed", rev: "3", try: "4", trying: "2", trails: []string{"3", "4"}, want: []string{"4 try=4", "3 try=4"},
		again: []string{"3 try=4"}},
	{name: "failed try", rev: "3", try: "4", trying: "4", trails: []string{"3", "4"}, want: []string{"3 try=4"}, again: []string{"4 try=4", "3 try=4"}},
	{name: "prefix is not equal", rev: "3", try: "4", trying: "41", trails: []string{"3", "4"}, want: []string{"4 try=4", "3 try=4"},
		again: []string{"3 try=4"}},
	{name: "local revisions", rev: "locals/a.b-c_1", try: "locals/x", trails: []string{"locals/a.b-c_1", "locals/x"},
		want: []string{"locals/x try=locals/x", "locals/a.b-c_1 try=locals/x"}, again: []string{"locals/a.b-c_1 try=locals/x"}},
	{name: "try without an initrd", rev: "3", try: "4", trails: []string{"3"}, want: []string{"3 try=4"}, again: []string{"3 try=4"}},
	{name: "good one without a kernel", rev: "3", trails: []string{"0"}, want: []string{"0 try="}, again: []string{"0 try="}},
	{name: "try of a FIT", rev: "3", try: "4", trails: []string{"3"}, fits: []string{"4"}, want: []string{"3 try=4"}, again: []string{"3 try=4"}},
	{name: "no state at all", trails: []string{"0"}, want: []string{"0 try="}, again: []string{"0 try="}},
	{name: "addons", rev: "0", addons: 3, trails: []string{"0"}, want: []string{"0 try= size=1c00000"}, again: []string{"0 try= size=1c00000"}},
	{name: "as many addons as there are places", rev: "0", addons: 8, trails: []string{"0"}, want: []string{"0 try= size=3000000"}, again: []string{"0 try= size=3000000"}},
	{name: "too many addons", rev: "3", addons: 9, trails: []string{"3"}},
	{name: "mark cannot be written", rev: "3", try: "4", trails: []string{"3", "4"}, noMark: true, want: []string{"3 try=4"}, again: []string{"3 try=4"}},
	{name: "quotes and variables", rev: "3", try: `'${pv_fat}"; reset`, trails: []string{"3"}, want: []string{"3 try="}, again: []string{"3 try="}},
	{name: "more than one command", rev: "3", try: "4; reset", trails: []string{"3"}, want: []string{"3 try=4; reset"}, again: []string{"3 try=4; reset"}},
	{name: "a variable", rev: "3", try: "${pv_fat}", trails: []string{"3"}, want: []string{"3 try=${pv_fat}"}, again: []string{"3 try=${pv_fat}"}},
	{name: "the tree of the revision", rev: "0", trails: []string{"0"}, fdtfile: "v/b.dtb", files: map[string]string{".pv/pv-fdt.dtb": source("one"), "bsp/dtbs/v/b.dtb": source("two")},
		want: []string{"0 try= tree=one"}, again: []string{"0 try= tree=one"}},
	{name: "the tree of the board", rev: "0", trails: []string{"0"}, fdtfile: "v/b.dtb", files: map[string]string{"bsp/dtbs/v/a.dtb": source("one"), "bsp/dtbs/v/b.dtb": source("two")},
		want: []string{"0 try= tree=two"}, again: []string{"0 try= tree=two"}},
	{name: "no tree for the board", rev: "0", trails: []string{"0"}, fdtfile: "v/c.dtb", files: map[string]string{"bsp/dtbs/v/a.dtb": source("one")},
		want: []string{"0 try= tree=linux,dummy-virt"}, again: []string{"0 try= tree=linux,dummy-virt"}},
	{name: "hostile rev", rev: `3" init=/bin/sh`, trails: []string{"0"}, want: []string{"0 try="}, again: []string{"0 try="}},
	{name: "way out of the trails", rev: "3", try: "../boot", trails: []string{"3"}, want: []string{"3 try=../boot"}, again: []string{"3 try=../boot"}},
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
		write(t, file, []byte(text))
		if strings.HasPrefix(text, "/dts-v1/") {
			command(t, "dtc", "-q", "-I", "dts", "-O", "dtb", "-o", file+".out", file)
			if err := os.Rename(file+".out", file); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func write(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
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
	write(t, filepath.Join(fat, "scenario.scr"), image)
	if s.noMark {
		write(t, filepath.Join(fat, "pv.env", "directory"), nil)
	} else {
		mark := make([]byte, stateSize)
		copy(mark, "pv_env=1\npv_trying="+s.trying+"\n")
		write(t, filepath.Join(fat, "pv.env"), mark)
	}
	if s.rev != "" {
		text, err := ubootenv.Encode([]ubootenv.Entry{{Name: "pv_rev", Value: s.rev}, {Name: "pv_try", Value: s.try}})
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(store, "boot/uboot.txt"), text)
	}
	s.stageFiles(t, store)
	for _, r := range s.fits {
		write(t, filepath.Join(store, "trails", r, ".pv/pantavisor.fit"), []byte("fit"))
	}
	for _, r := range s.trails {
		dir := filepath.Join(store, "trails", r, ".pv")
		write(t, filepath.Join(dir, "pv-kernel.img"), []byte("kernel"))
		write(t, filepath.Join(dir, "pv-initrd.img"), []byte("initrd"))
		for n := range s.addons {
			write(t, filepath.Join(dir, fmt.Sprintf("pv-initrd.img.%d", n)), []byte("addon"))
		}
	}
}

// driver runs all scenarios twice in one U-Boot.
func driver() string {
	var b strings.Builder
	b.WriteString("setenv show 'setenv model; fdt addr ${pv_fdt}; fdt get value model / compatible; echo \"STARTED ${pv_this} try=${pv_try} size=${pv_size} tree=${model} |\"'\n")
	b.WriteString("setenv top \"${devtype} ${devnum}\"\n")
	for i := range scenarios {
		for round := range 2 {
			fmt.Fprintf(&b, "echo SCENARIO %d %d\nsetenv fdtfile %s\nsetenv distro_bootpart %x\nload ${top}:%x 60000000 scenario.scr\nsource 60000000\n", i, round, scenarios[i].fdtfile, 2+2*i, 2+2*i)
		}
	}
	return b.String() + "echo SCENARIO end\npoweroff\n"
}

// newDisk has the driver's partition and then two for each scenario.
func newDisk(t *testing.T) (file string, fats []int64) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "disk.img")
	image, err := uimage.EncodeScript(uimage.Header{}, []byte(driver()))
	if err != nil {
		t.Fatal(err)
	}
	top := t.TempDir()
	write(t, filepath.Join(top, "boot.scr"), image)
	write(t, file, nil)
	at := int64(mega)
	args := []string{"-a", "1"}
	add := func(size int64) int64 {
		start := at
		args = append(args, "-n", fmt.Sprintf("0:%d:+%d", start/512, size/512))
		at += size
		return start
	}
	type part struct {
		start int64
		dir   string
	}
	fat, roots := []part{{add(fatSize), top}}, []part{}
	for i, s := range scenarios {
		p, r := part{add(fatSize), t.TempDir()}, part{add(rootSize), t.TempDir()}
		s.stage(t, 3+2*i, p.dir, r.dir)
		fat, roots, fats = append(fat, p), append(roots, r), append(fats, p.start)
	}
	if err := os.Truncate(file, at+mega); err != nil {
		t.Fatal(err)
	}
	command(t, "sgdisk", append(args, "-A", "1:set:2", file)...)
	for _, p := range fat {
		command(t, "mkfs.vfat", "-F", "32", "-s", "1", "--offset", fmt.Sprint(p.start/512), file, fmt.Sprint(fatSize/1024))
		entries, err := os.ReadDir(p.dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			command(t, "mcopy", "-s", "-i", fmt.Sprintf("%s@@%d", file, p.start), filepath.Join(p.dir, e.Name()), "::/")
		}
	}
	for _, r := range roots {
		command(t, "mke2fs", "-q", "-F", "-t", "ext4", "-d", r.dir, "-E", fmt.Sprintf("offset=%d", r.start), file, fmt.Sprintf("%dk", rootSize/1024))
	}
	return file, fats
}

// run starts U-Boot and returns its console.
func run(t *testing.T, disk string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-aarch64", "-nodefaults", "-display", "none", "-machine", "virt", "-cpu", "cortex-a57", "-accel", "tcg", "-m", "1024",
		"-bios", firmware, "-serial", "stdio", "-drive", "if=none,id=disk,format=raw,file="+disk, "-device", "virtio-blk-pci,drive=disk")
	var console, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &console, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("emulator: %v\n%s\nconsole:\n%s", err, errs.String(), console.String()[max(0, console.Len()-4000):])
	}
	return strings.ReplaceAll(console.String(), "\r", "")
}

var started = regexp.MustCompile(`(?m)^STARTED (.*) \|$`)

// TestStateTable runs the generated script in a real U-Boot on a real disk layout. For each
// scenario it checks the revisions that U-Boot boots, in fallback order, what it boots next
// time, and that it changed nothing of the medium but the content of pv.env.
func TestStateTable(t *testing.T) {
	oracle.Need(t, "dtc", "sgdisk", "mkfs.vfat", "mcopy", "mke2fs", "qemu-system-aarch64")
	if _, err := os.Stat(firmware); err != nil {
		oracle.Emulator(t, []string{firmware + " (package u-boot-qemu)"})
	}
	disk, fats := newDisk(t)
	before, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	console := run(t, disk)
	after, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	rounds := regexp.MustCompile(`(?m)^SCENARIO .*$`).Split(console, -1)
	if len(rounds) != 2*len(scenarios)+2 {
		t.Fatalf("%d rounds; console:\n%s", len(rounds), console)
	}
	for i, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			for round, want := range [][]string{s.want, s.again} {
				text := rounds[1+2*i+round]
				for _, r := range s.fits { // tried once
					if begun := strings.Contains(text, "Booting revision "+r+"\n3 bytes read"); begun != (round == 0) {
						t.Errorf("boot %d: the FIT of revision %s is loaded: %v; console:\n%s", round, r, begun, text)
					}
				}
				if diff := cmp.Diff(want, attempts(text, want)); diff != "" {
					t.Errorf("boot %d: want(-), got(+):\n%s\nconsole:\n%s", round, diff, text)
				}
			}
		})
	}
	t.Run("nothing else is written", func(t *testing.T) {
		for at := 0; at < len(before); at += 512 {
			if !bytes.Equal(before[at:at+512], after[at:at+512]) && !bytes.HasPrefix(before[at:], []byte("pv_env=1\n")) {
				t.Errorf("sector %d was changed (file systems begin at %v)", at/512, fats)
			}
		}
	})
}

// attempts returns what was started. The size of the initrd and the device tree count where
// they are wanted.
func attempts(text string, want []string) []string {
	var out []string
	for _, m := range started.FindAllStringSubmatch(text, -1) {
		line, size, _ := strings.Cut(m[1], " size=")
		size, tree, _ := strings.Cut(size, " tree=")
		for word, value := range map[string]string{" size=": size, " tree=": tree} {
			if len(want) > 0 && strings.Contains(want[0], word) {
				line += word + value
			}
		}
		out = append(out, line)
	}
	return out
}
