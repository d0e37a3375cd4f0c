package images

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/debian/partstest"
	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/kernel/sources"
)

// pinnedKernel returns the kernel image that the lock of a target pins.
func pinnedKernel(t *testing.T, target string) string {
	t.Helper()
	parts := partstest.New(t, target, sources.Request)
	tree := parts.Run(&sources.PackageTree{Package: parts.Package(sources.Request, "linux-image-*")})
	images, err := filepath.Glob(filepath.Join(tree, "boot/vmlinuz-*"))
	if err != nil || len(images) != 1 {
		t.Fatalf("looking for the kernel of %s: %v, %v", target, images, err)
	}
	return images[0]
}

// TestKernelUnpacksTheInitrd boots a kernel with an initrd of several blocks and
// an addon behind it; init reads a file of each block.
func TestKernelUnpacksTheInitrd(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine")
	}
	oracle.Need(t, "cpio", "xz")
	qemu, vmlinuz := oracle.Program(t, "qemu-system-x86_64"), pinnedKernel(t, "x64-uefi")
	files := boardFiles()
	files["cmd/pantavisor/main.go"] = `package main

import (
	"fmt"
	"os"
	"syscall"
)

func main() {
	for _, name := range []string{"/etc/hosts", "/lib/modules/6.1/modules.dep", "/usr/share/note.txt", "/addon"} {
		data, err := os.ReadFile(name)
		fmt.Printf("read %s: %q %v\n", name, data, err)
	}
	syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
}
`
	base := filepath.Join(newRunner(t).must(initrd(sourceTree(t, files), board())), baseInitrd)
	addon := filepath.Join(t.TempDir(), "addon")
	host(t, "sh", "-c", `cd "$(dirname "$1")" && echo more > addon && echo addon | cpio -o -H newc --quiet | xz --check=crc32 > addon.xz && cat "$2" addon.xz > joined`, "sh", addon, base)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, qemu, "-M", "q35", "-m", "512", "-nographic", "-no-reboot", "-nic", "none", "-accel", "tcg",
		"-kernel", vmlinuz, "-initrd", filepath.Join(filepath.Dir(addon), "joined"), "-append", "console=ttyS0 panic=-1 quiet").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{`/etc/hosts: "10.0.0.1 board\n"`, `modules.dep: "kernel/a.ko:\n"`, `note.txt: "note\n"`, `/addon: "more\n"`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
}
