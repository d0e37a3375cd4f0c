package init_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/bootloader/bootloadertest"
	"github.com/pantavisor/pantavisor/debian/partstest"
	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/kernel"
	"github.com/pantavisor/pantavisor/kernel/sources"
)

// earlySet is what this machine and the storage need.
var earlySet = []string{"virtio_pci", "virtio_blk", "ext4", "squashfs", "overlay", "loop", "button", "evdev"}

// mib is where the storage partition starts and how large disk and medium are.
const startMiB, diskMiB, mediumMiB = 17, 96, 320

// bench is what all boots share: kernel, initrd and a disk to copy.
type bench struct{ kernel, initrd, disk string }

func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// newBench makes the parts; an empty configuration makes an initrd without its file.
// The kernel is the one that a target's lock pins.
func newBench(t *testing.T, config string) bench {
	t.Helper()
	if testing.Short() {
		t.Skip("boots virtual machines")
	}
	oracle.Need(t, "qemu-system-x86_64", "sgdisk", "cpio", "mksquashfs", "e2fsck", "debugfs")
	parts := partstest.New(t, "x64-uefi", sources.Request)
	tree := parts.Run(&sources.PackageTree{Package: parts.Package(sources.Request, "linux-image-*")})
	images, _ := filepath.Glob(filepath.Join(tree, "boot/vmlinuz-*"))
	trees, _ := filepath.Glob(filepath.Join(tree, "lib/modules/*"))
	if len(images) != 1 || len(trees) != 1 {
		t.Fatalf("%s has kernels %v and modules %v, want one of each", tree, images, trees)
	}
	dir := t.TempDir()
	return bench{images[0], makeInitrd(t, dir, trees[0], config), makeDisk(t, dir)}
}

func makeInitrd(t *testing.T, dir, modules, config string) string {
	t.Helper()
	root := filepath.Join(dir, "root")
	index, err := kernel.Scan(modules)
	if err != nil {
		t.Fatal(err)
	}
	set, _, err := index.Closure(earlySet)
	if err != nil {
		t.Fatal(err)
	}
	into := filepath.Join(root, "lib/modules", filepath.Base(modules))
	for _, m := range set {
		copyFile(t, filepath.Join(modules, m.Path), filepath.Join(into, m.Path))
	}
	early, err := kernel.Scan(into)
	if err != nil {
		t.Fatal(err)
	}
	if err := early.WriteFiles(into); err != nil {
		t.Fatal(err)
	}
	if config != "" {
		writeFile(t, filepath.Join(root, "etc/pantavisor.config"), config)
	}
	writeFile(t, filepath.Join(root, "media/.keep"), "")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(root, "init"), "./testdata/stub")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	run(t, root, "sh", "-c", "find . | cpio --quiet -o -H newc >../initrd")
	return filepath.Join(dir, "initrd")
}

// makeDisk composes a disk that is smaller than its medium; the revision has the
// modules of the initrd.
func makeDisk(t *testing.T, dir string) string {
	t.Helper()
	stor := filepath.Join(dir, "storage")
	if err := os.CopyFS(filepath.Join(dir, "modules"), os.DirFS(filepath.Join(dir, "root/lib/modules"))); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "modules/proof"), "from the revision's squashfs\n")
	bsp := filepath.Join(stor, "trails/0/bsp")
	writeFile(t, filepath.Join(bsp, "run.json"), `{"modules":"modules.squashfs"}`)
	run(t, dir, "mksquashfs", "modules", filepath.Join(bsp, "modules.squashfs"), "-quiet", "-no-progress")
	sum, _, _ := strings.Cut(run(t, bsp, "sha256sum", "modules.squashfs"), " ")
	writeFile(t, filepath.Join(stor, "objects/.keep"), "")
	run(t, stor, "ln", "trails/0/bsp/modules.squashfs", "objects/"+sum)
	writeFile(t, filepath.Join(stor, "trails/0/.pvr/json"),
		`{"#spec":"pantavisor-service-system@1","bsp/modules.squashfs":"`+sum+`","bsp/run.json":{"modules":"modules.squashfs"}}`)
	writeFile(t, filepath.Join(stor, "boot/grubenv"), "# GRUB Environment Block\npv_rev=0\n"+strings.Repeat("#", 990))
	disk := filepath.Join(dir, "disk.img")
	run(t, dir, "truncate", "-s", fmt.Sprintf("%dM", diskMiB), disk)
	run(t, dir, "sgdisk", "-n", "1:1M:+16M", "-c", "1:pvboot", "-n", fmt.Sprintf("2:%dM:0", startMiB), "-c", "2:pvroot", disk)
	bootloadertest.Ext4(t, disk, startMiB<<20, (diskMiB-startMiB-1)<<20, stor, "pvroot")
	run(t, dir, "truncate", "-s", fmt.Sprintf("%dM", mediumMiB), disk)
	return disk
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, to, string(b))
}

// vm is a running virtual machine with its console.
type vm struct {
	t    *testing.T
	cmd  *exec.Cmd
	qmp  string
	mu   sync.Mutex
	seen bytes.Buffer
	more chan struct{}
	done chan error
	off  chan struct{} // closed when the console has ended
}

// start boots; a nil disk is a machine without storage.
func (b bench) start(t *testing.T, words string, withDisk bool) *vm {
	t.Helper()
	dir := t.TempDir()
	v := &vm{t: t, qmp: filepath.Join(dir, "qmp"), more: make(chan struct{}, 1), done: make(chan error, 1), off: make(chan struct{})}
	args := []string{"-M", "q35", "-m", "256", "-accel", "tcg", "-display", "none", "-serial", "stdio", "-monitor", "none",
		"-nic", "none", "-no-reboot", "-qmp", "unix:" + v.qmp + ",server=on,wait=off", "-kernel", b.kernel, "-initrd", b.initrd,
		"-append", "console=ttyS0 panic=-1 rdinit=/init " + words}
	if withDisk {
		args = append(args, "-drive", "if=virtio,format=raw,cache=unsafe,file="+b.disk)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	v.cmd = exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	out, err := v.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	v.cmd.Stderr = v.cmd.Stdout
	if err := v.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); <-v.done })
	go v.watch(bufio.NewReader(out))
	return v
}

func (v *vm) watch(r *bufio.Reader) {
	for {
		line, err := r.ReadString('\n')
		v.mu.Lock()
		v.seen.WriteString(line)
		v.mu.Unlock()
		select {
		case v.more <- struct{}{}:
		default:
		}
		if err != nil {
			v.done <- v.cmd.Wait()
			close(v.done)
			close(v.off)
			return
		}
	}
}

func (v *vm) screen() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.seen.String()
}

// shows waits until the console has shown the text, for at most the time.
func (v *vm) shows(text string, patience time.Duration) bool {
	for deadline := time.After(patience); !strings.Contains(v.screen(), text); {
		select {
		case <-v.more:
			continue
		case <-v.off:
		case <-deadline:
		}
		return strings.Contains(v.screen(), text)
	}
	return true
}

// expect waits until the console has shown the text.
func (v *vm) expect(text string) {
	v.t.Helper()
	if !v.shows(text, 90*time.Second) {
		v.t.Fatalf("%q does not show; console:\n%s", text, v.screen())
	}
}

// press presses the power button until the console has shown the text: the kernel drops
// a press between making the input device and enabling its ACPI event.
func (v *vm) press(text string) {
	v.t.Helper()
	for range 30 {
		v.command("system_powerdown")
		if v.shows(text, 3*time.Second) {
			return
		}
	}
	v.expect(text)
}

// ended waits until the machine is off.
func (v *vm) ended() {
	v.t.Helper()
	select {
	case err := <-v.done:
		if err != nil {
			v.t.Fatalf("qemu: %v; console:\n%s", err, v.screen())
		}
	case <-time.After(90 * time.Second):
		v.t.Fatalf("the machine does not end; console:\n%s", v.screen())
	}
}

// command sends one QMP command.
func (v *vm) command(name string) {
	v.t.Helper()
	c, err := net.Dial("unix", v.qmp)
	if err != nil {
		v.t.Fatal(err)
	}
	defer c.Close()
	in := json.NewDecoder(c)
	for _, cmd := range []string{"qmp_capabilities", name} {
		if _, err := fmt.Fprintf(c, "{\"execute\":%q}\n", cmd); err != nil {
			v.t.Fatal(err)
		}
		for answered := false; !answered; {
			var msg map[string]json.RawMessage
			if err := in.Decode(&msg); err != nil {
				v.t.Fatal(errors.Join(errors.New("reading QMP"), err))
			}
			_, answered = msg["return"]
		}
	}
}

// lacks checks that the console never showed a text.
func (v *vm) lacks(texts ...string) {
	v.t.Helper()
	for _, text := range texts {
		if strings.Contains(v.screen(), text) {
			v.t.Errorf("console shows %q:\n%s", text, v.screen())
		}
	}
}

const (
	embedded = "PV_SYSTEM_INIT_MODE=embedded\nPV_BOOTLOADER_TYPE=grub\nPV_STORAGE_DEVICE=LABEL=pvroot\nPV_STORAGE_FSTYPE=ext4\nPV_STORAGE_MNTPOINT=/storage\nPV_STORAGE_WAIT=20\nPV_WDT_MODE=disabled\n"
	panicked = "Kernel panic"
)

func clean(t *testing.T, b bench) {
	t.Helper()
	run(t, "", "e2fsck", "-fn", fmt.Sprintf("%s?offset=%d", b.disk, startMiB<<20))
	if out := run(t, "", "sgdisk", "-v", b.disk); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk -v: %s", out)
	}
	if out := run(t, "", "debugfs", "-R", "cat /written", fmt.Sprintf("%s?offset=%d", b.disk, startMiB<<20)); !strings.Contains(out, "by the stub") {
		t.Errorf("the file that was written: %s", out)
	}
}

func TestBootGrowAndPowerOff(t *testing.T) {
	b := newBench(t, embedded)
	v := b.start(t, "pv_rev=0 PV_LOG_LEVEL=4 loglevel=8", true)
	v.expect("STUB waits")
	for _, want := range []string{"STUB pid1 is the parent: true", "STUB revision 0", "STUB boot CPU is a number: true",
		"STUB orphan 1", "STUB modules: from the revision's squashfs", "STUB pivot: <nil>", "STUB early log: {"} {
		v.expect(want)
	}
	m := regexp.MustCompile(`STUB storage MiB (\d+)`).FindStringSubmatch(v.screen())
	if n := 0; len(m) != 2 || must(fmt.Sscan(m[1], &n)) != 1 || n < mediumMiB-startMiB-40 {
		t.Errorf("storage has %v MiB of a medium of %d", m, mediumMiB)
	}
	v.expect("event1 has a power button") // event0 is the keyboard
	v.press("STUB asked to power off")
	v.ended()
	v.expect("power off: the engine asks for it")
	v.lacks(panicked, "stays mounted", "still in use", "WARN")
	clean(t, b)
}

func must(n int, err error) int {
	if err != nil {
		return -1
	}
	return n
}

// The second boot of the same disk finds nothing to grow, and the engine's panic
// is named and ends in a clean reboot.
func TestEngineEnds(t *testing.T) {
	b := newBench(t, embedded)
	for _, tc := range []struct{ words, want string }{
		{"pv_rev=0 stub=panic", "init: reboot: the engine ended unexpectedly: exit code 2"},
		{"pv_rev=0 stub=0", "init: reboot: the engine asks for it"},
	} {
		v := b.start(t, tc.words, true)
		v.ended()
		v.expect(tc.want)
		v.lacks(panicked, "stays mounted", "still in use")
		clean(t, b)
	}
}

func TestNoStorageRebootsWithReason(t *testing.T) {
	b := newBench(t, embedded+"PV_STORAGE_WAIT=1\n")
	v := b.start(t, "pv_rev=0", false)
	v.ended()
	v.expect("init: reboot: storage: finding LABEL=pvroot: no such device")
	v.expect("PV_STORAGE_DEVICE")
	v.lacks(panicked, "STUB")
}

func TestHostileRevisionReboots(t *testing.T) {
	b := newBench(t, embedded)
	v := b.start(t, "pv_rev=../../etc", true)
	v.ended()
	v.expect(`revision name "../../etc"`)
	v.lacks(panicked, "STUB")
}

func TestNoConfigurationRebootsWithReason(t *testing.T) {
	b := newBench(t, "")
	v := b.start(t, "pv_rev=0", true)
	v.ended()
	v.expect("init: reboot: configuration: loading configuration: open /etc/pantavisor.config: no such file")
	v.lacks(panicked, "STUB")
}
