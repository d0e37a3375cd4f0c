package ubifs

import (
	"bytes"
	"context"
	"crypto/sha256"
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
	"github.com/pantavisor/pantavisor/formats/ubi"
	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/kernel"
	"github.com/pantavisor/pantavisor/kernel/sources"
)

// chip is the NAND of the kernel's simulator: 256 MiB.
var chip = ubi.Options{Block: 128 << 10, Page: 2048, Volume: "boot"}

// TestKernelReadsAndWrites has Linux mount a file system on a simulated NAND, through the
// code with which the runtime mounts its storage.
func TestKernelReadsAndWrites(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine")
	}
	oracle.Program(t, "qemu-system-x86_64")
	t.Parallel()
	entries := content()
	console := boot(t, flashed(t, entries))
	got := map[string][]string{}
	for _, line := range strings.Split(strings.ReplaceAll(console, "\r", ""), "\n") {
		if pass, rest, ok := strings.Cut(line, " "); ok && (pass == "FIRST" || pass == "SECOND") {
			got[pass] = append(got[pass], rest)
		}
	}
	want := listing(entries)
	if diff := cmp.Diff(want, got["FIRST"]); diff != "" || !strings.Contains(console, "\nEND") || strings.Contains(console, "FAILED") || strings.Contains(console, "UBIFS error") {
		t.Fatalf("-want +got:\n%s\nconsole:\n%s", diff, tail(console))
	}
	if n := len(got["SECOND"]); n != len(want)+1 {
		t.Errorf("after writing there are %d names, want %d:\n%s", n, len(want)+1, strings.Join(got["SECOND"], "\n"))
	}
}

func tail(s string) string { return s[max(0, len(s)-6000):] }

// content is a tree with everything that a storage has, and enough of it for several levels
// of the index.
func content() []tree.Entry {
	big := make([]byte, 9<<20)
	for i, x := 0, uint32(7); i < len(big); i++ {
		x = x*1664525 + 1013904223
		big[i] = byte(x >> 24)
	}
	hole := append(append([]byte("begin"), make([]byte, 1<<20)...), "end"...)
	out := []tree.Entry{
		tree.Dir("boot", 0o755), tree.Bytes("boot/uboot.txt", 0o644, []byte("pv_rev=0\x00\x00")), tree.Bytes("empty", 0o600, nil),
		tree.Bytes("gone.first", 0o644, []byte("x")), tree.Bytes("gone.second", 0o644, []byte("x")), tree.Bytes("hole", 0o640, hole),
		tree.Dir("objects", 0o700), tree.Bytes("objects/big", 0o644, big), tree.Bytes("setuid", 0o755, []byte("#!")),
		tree.Symlink("symlink", "objects/big"), tree.Dir("trails", 0o755),
		{Name: "trails/link", HardLink: "objects/big"}, {Name: "trails/other", HardLink: "objects/big"}, tree.Dir("träume", 0o755),
	}
	for i := range 600 {
		out = append(out, tree.Bytes(fmt.Sprintf("träume/%03d", i), 0o644, bytes.Repeat([]byte{byte(i)}, i*7)))
	}
	return out
}

// listing is what the init program prints of the entries.
func listing(entries []tree.Entry) []string {
	links, dirs, byName := map[string]int{}, map[string]int{"": 2}, map[string]tree.Entry{}
	for _, e := range entries {
		byName[e.Name] = e
		target := e.Name
		if e.HardLink != "" {
			target = e.HardLink
		}
		links[target]++
		if e.Mode.IsDir() {
			dirs[e.Name], dirs[""] = 2, dirs[""]+1
		}
	}
	out := []string{fmt.Sprintf(" drwxr-xr-x %d 0:0 1577836800 ", dirs[""])}
	for _, e := range entries {
		name, f := e.Name, e
		if e.HardLink != "" {
			f = byName[e.HardLink]
		}
		n, what := links[f.Name], f.Link
		switch {
		case f.Mode.IsDir():
			n = dirs[f.Name]
		case f.Mode.IsRegular():
			var b bytes.Buffer
			_ = f.WriteContent(&b)
			what = fmt.Sprintf("%d %x", b.Len(), sha256.Sum256(b.Bytes()))
		}
		out = append(out, fmt.Sprintf("/%s %v %d 0:0 1577836800 %s", name, f.Mode, n, what))
	}
	return out
}

// flashed returns the image of a flash with a file system.
func flashed(t *testing.T, entries []tree.Entry) []byte {
	t.Helper()
	volume, blocks := volume(t, entries)
	o := chip
	o.Reserved, o.Sequence = blocks, 1
	var out bytes.Buffer
	if err := ubi.Write(&out, bytes.NewReader(volume), o); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func volume(t *testing.T, entries []tree.Entry) (data []byte, blocks int) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "volume")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	blocks, err = Write(f, entries, Options{Block: chip.Payload(), Page: chip.Page, MaxBlocks: 4096, Time: time.Unix(1577836800, 0)})
	if err != nil {
		t.Fatal(err)
	}
	data, err = os.ReadFile(name)
	if err != nil || len(data) != blocks*chip.Payload() {
		t.Fatalf("%d bytes in %d blocks, %v", len(data), blocks, err)
	}
	return data, blocks
}

// boot starts a machine with the init program and returns its console.
func boot(t *testing.T, image []byte) string {
	t.Helper()
	parts := partstest.New(t, "x64-uefi", sources.Request)
	dir := parts.Run(&sources.PackageTree{Package: parts.Package(sources.Request, "linux-image-*")})
	vmlinuz, _ := filepath.Glob(filepath.Join(dir, "boot/vmlinuz-*"))
	modules, _ := filepath.Glob(filepath.Join(dir, "lib/modules/*"))
	if len(vmlinuz) != 1 || len(modules) != 1 {
		t.Fatalf("%s has kernels %v and modules %v", dir, vmlinuz, modules)
	}
	initrd := filepath.Join(t.TempDir(), "initrd")
	write(t, initrd, archive(t, modules[0], image))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "qemu-system-x86_64", "-M", "q35", "-m", "512", "-display", "none", "-serial", "stdio", "-monitor", "none",
		"-nic", "none", "-no-reboot", "-kernel", vmlinuz[0], "-initrd", initrd, "-append", "console=ttyS0 panic=-1 rdinit=/init").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, tail(string(out)))
	}
	return string(out)
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// archive is the initrd: the init program, modules, and the image.
func archive(t *testing.T, modules string, image []byte) []byte {
	t.Helper()
	program := filepath.Join(t.TempDir(), "init")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./testdata/init")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	code, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	index, err := kernel.Scan(modules)
	if err != nil {
		t.Fatal(err)
	}
	entries := []tree.Entry{tree.Bytes("init", 0o755, code), tree.Bytes("image", 0o644, image)}
	parameters := map[string]string{
		"nandsim": " first_id_byte=0x20 second_id_byte=0xaa third_id_byte=0x00 fourth_id_byte=0x15", "ubi": " mtd=0,2048",
	}
	seen := map[string]bool{}
	for list, names := range map[string][]string{"flash": {"nandsim"}, "ubi": {"ubi", "lzo", "deflate", "zstd", "ubifs"}} {
		set, _, err := index.Closure(names)
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		for _, m := range set {
			name := filepath.Base(m.Path)
			fmt.Fprintf(&text, "/%s%s\n", name, parameters[m.Name])
			data, err := os.ReadFile(filepath.Join(modules, m.Path))
			if err != nil {
				t.Fatal(err)
			}
			if !seen[name] {
				entries = append(entries, tree.Bytes(name, 0o644, data))
			}
			seen[name] = true
		}
		entries = append(entries, tree.Bytes(list, 0o644, []byte(text.String())))
	}
	var out bytes.Buffer
	if err := cpio.Write(&out, entries, cpio.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := cpio.WriteTrailer(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
