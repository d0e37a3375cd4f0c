package fit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/oracle"
)

// content is an image's content in memory.
func content(data string) (int64, func() (io.ReadCloser, error)) {
	return int64(len(data)), func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(data)), nil }
}

// Contents of all lengths modulo 4.
const (
	kernel = "the kernel's content."
	initrd = "initrd!\n"
	dtb    = "tree no 1.."
)

func example() File {
	f := File{
		Description: "an example", Time: 1577836800, Hash: "sha256",
		Images: []Image{
			{Name: "kernel-1", Description: "Linux", Type: "kernel", Arch: "arm64", OS: "linux", Compression: "none", Load: 0x40400000},
			{Name: "ramdisk-1", Description: "initrd", Type: "ramdisk", Arch: "arm64", OS: "linux", Compression: "none"},
			{Name: "fdt-a_b.dtb", Description: "a/b.dtb", Type: "flat_dt", Arch: "arm64", Compression: "none", Load: 0x140000000},
		},
		Configurations: []Configuration{
			{Name: "conf-a_b.dtb", Description: "a/b.dtb", Kernel: "kernel-1", Ramdisk: "ramdisk-1", Trees: []string{"fdt-a_b.dtb"}},
			{Name: "conf-plain", Kernel: "kernel-1"},
			{Name: "conf-overlay", Kernel: "kernel-1", Trees: []string{"fdt-a_b.dtb", "fdt-a_b.dtb"}},
		},
	}
	for i, data := range []string{kernel, initrd, dtb} {
		f.Images[i].Size, f.Images[i].Open = content(data)
	}
	return f
}

func encode(t *testing.T, f File) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(t.Context(), &b, f); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// TestToolsAgree lets U-Boot's tools read the image and dtc the tree.
func TestToolsAgree(t *testing.T) {
	t.Parallel()
	oracle.Need(t, "dumpimage", "dtc")
	dir := t.TempDir()
	file := filepath.Join(dir, "a.fit")
	if err := os.WriteFile(file, encode(t, example()), 0o600); err != nil {
		t.Fatal(err)
	}
	list := run(t, "dumpimage", "-l", file)
	for _, want := range []string{
		"FIT description: an example", "Created:         Wed Jan  1 00:00:00 2020", " Image 0 (kernel-1)", "Load Address: 0x40400000", "Entry Point:  0x40400000",
		" Image 1 (ramdisk-1)", " Image 2 (fdt-a_b.dtb)", "Load Address: 0x140000000", "Default Configuration: 'conf-a_b.dtb'", " Configuration 1 (conf-plain)",
		fmt.Sprintf("Hash value:   %x", sha256.Sum256([]byte(kernel))),
	} {
		if !strings.Contains(list, want) {
			t.Errorf("no %q in\n%s", want, list)
		}
	}
	for i, want := range []string{kernel, initrd, dtb} {
		out := filepath.Join(dir, fmt.Sprint(i))
		run(t, "dumpimage", "-T", "flat_dt", "-p", fmt.Sprint(i), "-o", out, file)
		got, err := os.ReadFile(out)
		if err != nil || string(got) != want {
			t.Errorf("image %d: %q, %v; want %q", i, got, err, want)
		}
	}
	if text := run(t, "dtc", "-q", "-I", "dtb", "-O", "dts", file); !strings.Contains(text, `algo = "sha256"`) {
		t.Errorf("dtc reads\n%s", text)
	}
}

// TestSameTreeAsCompiler compares with what dtc makes of its own text of the image: sizes and
// offsets follow one rule.
func TestSameTreeAsCompiler(t *testing.T) {
	t.Parallel()
	oracle.Need(t, "dtc")
	dir := t.TempDir()
	ours := filepath.Join(dir, "a.fit")
	if err := os.WriteFile(ours, encode(t, example()), 0o600); err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(dir, "a.dts")
	run(t, "dtc", "-q", "-I", "dtb", "-O", "dts", "-o", text, ours)
	theirs := filepath.Join(dir, "b.fit")
	run(t, "dtc", "-q", "-I", "dts", "-O", "dtb", "-o", theirs, text)
	a, b := encode(t, example()), []byte(nil)
	b, err := os.ReadFile(theirs)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b, a); diff != "" {
		t.Errorf("(-dtc +ours):\n%s", diff)
	}
}

func TestChecksum(t *testing.T) {
	t.Parallel()
	f := example()
	f.Hash = "crc32"
	sum := crc32.ChecksumIEEE([]byte(initrd))
	if !bytes.Contains(encode(t, f), []byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)}) {
		t.Error("the initrd's CRC32 is not in the image")
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*File){
		"want crc32 or sha256":       func(f *File) { f.Hash = "md4" },
		"no description":             func(f *File) { f.Description = "" },
		"no configuration":           func(f *File) { f.Configurations = nil },
		`image "a/b"`:                func(f *File) { f.Images[2].Name = "a/b" },
		`image ""`:                   func(f *File) { f.Images[0].Name = "" },
		`image "ramdisk-1"`:          func(f *File) { f.Images[2].Name = "ramdisk-1" },
		`configuration "conf plain"`: func(f *File) { f.Configurations[1].Name = "conf plain" },
		"there is no image fdt-2":    func(f *File) { f.Configurations[1].Trees = []string{"fdt-2"} },
		"21 bytes, expected 20":      func(f *File) { f.Images[0].Size = 20 },
		"21 bytes, expected 22":      func(f *File) { f.Images[0].Size = 22 },
		"more than a device tree":    func(f *File) { f.Images[0].Size = 1 << 31 },
	} {
		f := example()
		change(&f)
		if err := Write(t.Context(), io.Discard, f); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v; want %s", err, name)
		}
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Write(ctx, io.Discard, example()); err == nil {
		t.Error("written although the context has ended")
	}
}
