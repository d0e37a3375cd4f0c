package inspect_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/formats/fit"
	"github.com/pantavisor/pantavisor/formats/fitslot"
	"github.com/pantavisor/pantavisor/formats/uimage"
	"github.com/pantavisor/pantavisor/formats/uki"
)

// written writes a file and returns its name.
func written(t testing.TB, name string, data []byte) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// slot is a FIT with its header, as a partition has it.
func slot(t testing.TB, revision, kernel string) []byte {
	t.Helper()
	head, err := fitslot.Encode(revision)
	if err != nil {
		t.Fatal(err)
	}
	out := bytes.NewBuffer(head)
	image := func(name, kind, text string) fit.Image {
		i := fit.Image{Name: name, Description: name, Type: kind, Arch: "arm64", Compression: "none", Size: int64(len(text)), Open: func() (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(text)), nil
		}}
		if kind != "flat_dt" {
			i.OS = "linux"
		}
		return i
	}
	err = fit.Write(t.Context(), out, fit.File{
		Description: "a device", Time: 1, Hash: "sha256",
		Images:         []fit.Image{image("kernel-1", "kernel", kernel), image("ramdisk-1", "ramdisk", sample().archive(t))},
		Configurations: []fit.Configuration{{Name: fit.PlainConfiguration, Description: "plain", Kernel: "kernel-1", Ramdisk: "ramdisk-1"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestSlotsWithFITs(t *testing.T) {
	t.Parallel()
	a := written(t, "slot", slot(t, "3", noise(1, 5000)))
	for name, c := range map[string]struct{ b, want string }{
		"revision":    {written(t, "slot", slot(t, "4", noise(1, 5000))), "revision 3 → 4"},
		"kernel":      {written(t, "slot", slot(t, "3", noise(2, 5000))), "changed FIT: images/kernel-1: "},
		"description": {copied(t, a, int64(bytes.Index(slot(t, "3", ""), []byte("a device"))), 1), "description a device → "},
		"size":        {copied(t, a, 4096+4, 1), "device tree: header"},
		"token":       {copied(t, a, 4096+56+3, 0x20), "the second cannot be read: "},
	} {
		if first := compare(t, a, c.b).First(); first == nil || !strings.Contains(first.String(), c.want) {
			t.Errorf("%s: %q is not in %v", name, c.want, first)
		}
	}
}

// TestNamesOfDamagedTrees: a name without an end, and nodes in too many others.
func TestNamesOfDamagedTrees(t *testing.T) {
	t.Parallel()
	tree := func(tokens string) []byte {
		head := make([]byte, 40)
		binary.BigEndian.PutUint32(head, 0xd00dfeed)
		binary.BigEndian.PutUint32(head[8:], 40)
		return append(head, tokens...)
	}
	const begin = "\x00\x00\x00\x01"
	sound := written(t, "x.dtb", tree(begin+"\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x09"))
	for tokens, want := range map[string]string{
		begin + strings.Repeat("a", 300):              "the second cannot be read: reading device tree: the name of the node at 44 has no end: its structure is damaged",
		strings.Repeat(begin+"\x00\x00\x00\x00", 100): "the second cannot be read: reading device tree: the node at 556 is in more than 64 others: its structure is damaged",
	} {
		if first := compare(t, sound, written(t, "x.dtb", tree(tokens))).First(); first == nil || first.Problem != want {
			t.Errorf("%v instead of %q", first, want)
		}
	}
}

func TestLegacyImages(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "initrd")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := uimage.Write(f, uimage.Ramdisk, uimage.Header{Name: "initrd", Arch: uimage.ARM}, strings.NewReader(sample().archive(t))); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for at, want := range map[int64]string{33: "image name initrd → ", 4: "uImage: header", 64 + 2000: "xz block 0"} {
		if first := compare(t, name, copied(t, name, at, 1)).First(); first == nil || !strings.Contains(first.String(), want) {
			t.Errorf("%q is not in %v", want, first)
		}
	}
}

func TestUnifiedKernels(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	source := written(t, "main.go", []byte("package main\n\nfunc main() {}\n"))
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, "stub"), source)
	cmd.Env = append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	stub, err := os.ReadFile(filepath.Join(dir, "stub"))
	if err != nil {
		t.Fatal(err)
	}
	write := func(options string) string {
		name := filepath.Join(t.TempDir(), "pv.efi")
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		section := func(name, text string) uki.Section {
			return uki.Section{Name: name, Data: strings.NewReader(text), Size: int64(len(text))}
		}
		if err := uki.Write(f, stub, []uki.Section{section(".cmdline", options), section(".linux", noise(1, 9000))}); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		return name
	}
	first := compare(t, write("quiet"), write("debug")).First()
	if first == nil || first.Name() != "section .cmdline" {
		t.Errorf("%v", first)
	}
}
