package extlinux

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/bootloader"
	"github.com/pantavisor/pantavisor/bootloader/bootloadertest"
	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/revision/trail"
	"github.com/pantavisor/pantavisor/targets"
)

// newDisk makes a disk with one partition, bootable, that has the state and two revisions
// with a kernel that cannot be started.
func newDisk(t *testing.T, state trail.Extlinux) string {
	t.Helper()
	const start, size = 1 << 20, 8 << 20
	store, disk := t.TempDir(), filepath.Join(t.TempDir(), "disk.img")
	state.Arguments, state.DeviceTree = "console=ttyAMA0 panic=5", func(string) bool { return false }
	text, err := state.Encode()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{trail.ExtlinuxFile: text}
	for _, rev := range []string{"3", "4"} {
		files["trails/"+rev+"/.pv/pv-kernel.img"], files["trails/"+rev+"/.pv/pv-initrd.img"] = []byte("kernel"), []byte("initrd")
	}
	if err := bootloader.WriteTree(store, files); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(disk, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, start+size); err != nil {
		t.Fatal(err)
	}
	sfdisk := exec.CommandContext(t.Context(), oracle.Program(t, "sfdisk"), "-q", disk)
	sfdisk.Stdin = strings.NewReader("label: dos\nstart=2048, type=83, bootable\n")
	if out, err := sfdisk.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v\n%s", err, out)
	}
	bootloadertest.Ext4(t, disk, start, size, store, "")
	return disk
}

const limit = 3 * time.Minute // on a busy machine

// boot starts U-Boot and returns its lines up to the first kernel's command line.
func boot(t *testing.T, disk string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	args := append(bootloadertest.UBoot(), "-m", "256", "-nodefaults", "-display", "none", "-serial", "stdio",
		"-drive", "if=none,id=disk,format=raw,file="+disk, "-device", "virtio-blk-device,drive=disk")
	cmd := exec.CommandContext(ctx, "qemu-system-aarch64", args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); _ = cmd.Wait() }()
	var text strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		text.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), "append:") {
			return text.String()
		}
	}
	t.Fatalf("U-Boot started no kernel:\n%s", text.String())
	return ""
}

var started = regexp.MustCompile(`(?s)Retrieving file: (\S+pv-kernel\.img).*append: ([^\r\n]*)`)

// TestUBootStartsTheDefault: the real loader reads our file and starts the revision that the
// state asks for, with its arguments.
func TestUBootStartsTheDefault(t *testing.T) {
	if testing.Short() {
		t.Skip("boots virtual machines")
	}
	oracle.Need(t, "sfdisk")
	bootloadertest.NeedUBoot(t)
	for name, c := range map[string]struct {
		state trail.Extlinux
		want  string
	}{
		"good":  {trail.Extlinux{Good: "3"}, "3"},
		"try":   {trail.Extlinux{Good: "3", Try: "4"}, "4"},
		"tried": {trail.Extlinux{Good: "3", Try: "4", Tried: true}, "3"},
	} {
		text := boot(t, newDisk(t, c.state))
		m := started.FindStringSubmatch(text)
		append := "console=ttyAMA0 panic=5 rdinit=/init pv_rev=" + c.want + " pv_try=" + c.state.Try
		if m == nil || m[1] != "/trails/"+c.want+"/.pv/pv-kernel.img" || strings.TrimSpace(m[2]) != append {
			t.Errorf("%s: want revision %s with %q; the console has:\n%s", name, c.want, append, text)
		}
	}
}

func TestWhatTheLoaderCannotTake(t *testing.T) {
	t.Parallel()
	with := func(arguments ...string) *targets.Target {
		return &targets.Target{Kernel: &targets.Kernel{Arguments: arguments}, Bootloader: &targets.Bootloader{Type: "extlinux"}}
	}
	for _, a := range []string{"pv_rev=1", "pv_try=", "rdinit=/bin/sh", "a b", "a\nDEFAULT b", ""} {
		if _, err := New(with(a)).Raw(bootloader.Kit{}); fault.Of(err) != fault.BadInput {
			t.Errorf("%q: kind %v: %v", a, fault.Of(err), err)
		}
	}
	kit := bootloader.Kit{BSP: &bootloader.BSP{Initrd: make([]bootloader.File, 2)}}
	if _, err := New(with()).Raw(kit); fault.Of(err) != fault.Unsupported {
		t.Errorf("addons: kind %v: %v", fault.Of(err), err)
	}
}

func TestStateOfATarget(t *testing.T) {
	t.Parallel()
	target := &targets.Target{Kernel: &targets.Kernel{Arguments: []string{"console=tty0", "quiet"}, DeviceTrees: []string{"a.dtb"}}}
	out := t.TempDir()
	if err := New(target).State().Run(t.Context(), build.NewWork(out, t.TempDir(), nil, nil)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(out, trail.ExtlinuxFile))
	if err != nil || !strings.Contains(string(text), "FDT /trails/0/.pv/pv-fdt.dtb\n") || !strings.Contains(string(text), "APPEND console=tty0 quiet rdinit=/init pv_rev=0 pv_try=\n") {
		t.Errorf("%v:\n%s", err, text)
	}
}
