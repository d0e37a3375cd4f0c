package boot

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/debian/partstest"
	"github.com/pantavisor/pantavisor/formats/cpio"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/kernel"
	"github.com/pantavisor/pantavisor/kernel/sources"
)

// TestKernelsFlash has the stores in flash memory work on the kernel's memories, in a guest.
func TestKernelsFlash(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine")
	}
	oracle.Need(t, "qemu-system-x86_64")
	t.Parallel()
	parts := partstest.New(t, "x64-uefi", sources.Request)
	dir := parts.Run(&sources.PackageTree{Package: parts.Package(sources.Request, "linux-image-*")})
	vmlinuz, _ := filepath.Glob(filepath.Join(dir, "boot/vmlinuz-*"))
	modules, _ := filepath.Glob(filepath.Join(dir, "lib/modules/*"))
	if len(vmlinuz) != 1 || len(modules) != 1 {
		t.Fatalf("%s has kernels %v and modules %v", dir, vmlinuz, modules)
	}
	initrd := filepath.Join(t.TempDir(), "initrd")
	if err := os.WriteFile(initrd, flashGuest(t, modules[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "qemu-system-x86_64", "-M", "q35", "-m", "768", "-display", "none", "-serial", "stdio", "-monitor", "none", "-nic", "none",
		"-no-reboot", "-kernel", vmlinuz[0], "-initrd", initrd, "-append", "console=ttyS0 panic=-1 quiet rdinit=/init").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var got []string
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if word, _, _ := strings.Cut(line, " "); strings.Contains(" STORE COPIES ERASED SLOT FAILED END ", " "+word+" ") && word != "" {
			got = append(got, line)
		}
	}
	inMemory := []string{"STORE new rev= try=", "STORE commit rev=3 try=", "STORE try rev=3 try=locals/x", "STORE clear rev=3 try=", "COPIES 2"}
	want := append(append([]string{}, inMemory...), inMemory...)
	want = append(want, "STORE marked rev=4 try=", "ERASED true",
		"STORE first rev=0 try=", "STORE slot rev=0 try=1", "STORE kept rev=1 try=", "STORE back rev=1 try=0", "SLOT 0", "SLOT 1", "END")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s\nconsole:\n%s", diff, out)
	}
}

// flashGuest is the initrd: the program and modules with their parameters.
func flashGuest(t *testing.T, modules string) []byte {
	t.Helper()
	program := filepath.Join(t.TempDir(), "init")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./testdata/flash")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	index, err := kernel.Scan(modules)
	if err != nil {
		t.Fatal(err)
	}
	set, _, err := index.Closure([]string{"mtdram", "nandsim"})
	if err != nil {
		t.Fatal(err)
	}
	parameters := map[string]string{
		"mtdram":  " total_size=128 erase_size=64",
		"nandsim": " first_id_byte=0x20 second_id_byte=0xaa third_id_byte=0x00 fourth_id_byte=0x15 parts=4,4,4,16,16",
	}
	file := func(name, from string) tree.Entry {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		return tree.Bytes(name, 0o755, data)
	}
	entries := []tree.Entry{file("init", program)}
	var list strings.Builder
	for _, m := range set {
		name := filepath.Base(m.Path)
		fmt.Fprintf(&list, "/%s%s\n", name, parameters[m.Name])
		entries = append(entries, file(name, filepath.Join(modules, m.Path)))
	}
	entries = append(entries, tree.Bytes("modules", 0o644, []byte(list.String())))
	var out bytes.Buffer
	if err := cpio.Write(&out, entries, cpio.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := cpio.WriteTrailer(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
