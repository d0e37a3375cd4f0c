package uki

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/oracle"
)

// program returns a small program for Windows: it has the format of a stub.
func program(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, "stub"), source)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOOS=windows", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building a program: %v\n%s", err, out)
	}
	data, err := os.ReadFile(filepath.Join(dir, "stub"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// medium is a file in memory.
type medium []byte

func (m *medium) WriteAt(b []byte, at int64) (int, error) {
	if need := int(at) + len(b); need > len(*m) {
		*m = append(*m, make([]byte, need-len(*m))...)
	}
	return copy((*m)[at:], b), nil
}

func section(name, text string) Section {
	return Section{Name: name, Data: strings.NewReader(text), Size: int64(len(text))}
}

func TestWrite(t *testing.T) {
	t.Parallel()
	stub := program(t)
	before, err := pe.NewFile(bytes.NewReader(stub))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{".cmdline": "console=ttyS0", ".initrd": strings.Repeat("i", 70000), ".linux": strings.Repeat("kernel", 1000)}
	var out medium
	if err := Write(&out, stub, []Section{section(".cmdline", want[".cmdline"]), section(".initrd", want[".initrd"]), section(".linux", want[".linux"])}); err != nil {
		t.Fatal(err)
	}
	f, err := pe.NewFile(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	h := f.OptionalHeader.(*pe.OptionalHeader64)
	if len(f.Sections) != len(before.Sections)+3 || len(out)%int(h.FileAlignment) != 0 {
		t.Errorf("%d sections behind %d, %d bytes", len(f.Sections), len(before.Sections), len(out))
	}
	var end uint32
	for i, s := range f.Sections {
		if s.VirtualAddress < end || s.VirtualAddress%h.SectionAlignment != 0 || s.Offset%h.FileAlignment != 0 {
			t.Errorf("section %s is at %#x, %#x in the file; the one before ends at %#x", s.Name, s.VirtualAddress, s.Offset, end)
		}
		end = s.VirtualAddress + max(s.VirtualSize, s.Size)
		data, err := s.Data()
		if err != nil {
			t.Fatal(err)
		}
		if i < len(before.Sections) {
			old, err := before.Sections[i].Data()
			if err != nil || !bytes.Equal(data, old) || s.SectionHeader != before.Sections[i].SectionHeader {
				t.Errorf("section %s of the stub has changed: %v", s.Name, err)
			}
			continue
		}
		if d := cmp.Diff(want[s.Name], string(data[:s.VirtualSize])); d != "" {
			t.Errorf("section %s:\n%s", s.Name, d)
		}
	}
	if h.SizeOfImage < end || h.SizeOfImage%h.SectionAlignment != 0 {
		t.Errorf("the image has %#x bytes, its sections end at %#x", h.SizeOfImage, end)
	}
}

// TestChecksumIsThatOfBinutils compares with objcopy, which writes the sum of what it copies.
func TestChecksumIsThatOfBinutils(t *testing.T) {
	t.Parallel()
	objcopy := oracle.Program(t, "objcopy")
	var out medium
	if err := Write(&out, program(t), []Section{section(".cmdline", "odd"), section(".linux", "kernel")}); err != nil {
		t.Fatal(err)
	}
	from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
	if err := os.WriteFile(from, out, 0o644); err != nil {
		t.Fatal(err)
	}
	if text, err := exec.CommandContext(t.Context(), objcopy, from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	copied, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	at := int(binary.LittleEndian.Uint32(copied[lfanewAt:])) + coffSize + checksumAt
	said := binary.LittleEndian.Uint32(copied[at:])
	clear(copied[at : at+4])
	var again summed
	again.w = &medium{}
	if err := again.write(bytes.NewReader(copied), int64(len(copied)), 2); err != nil {
		t.Fatal(err)
	}
	if got := again.checksum(); got != said {
		t.Errorf("checksum %#x, objcopy writes %#x", got, said)
	}
}

func TestEqualInputGivesEqualBytes(t *testing.T) {
	t.Parallel()
	stub := program(t)
	var out [2]medium
	for i := range out {
		if err := Write(&out[i], stub, []Section{section(".linux", "kernel")}); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(out[0], out[1]) {
		t.Error("two runs differ")
	}
}

func TestWriteRejects(t *testing.T) {
	t.Parallel()
	stub := program(t)
	signed := bytes.Clone(stub)
	at := int(binary.LittleEndian.Uint32(stub[lfanewAt:])) + coffSize + 112 + certificates*8
	binary.LittleEndian.PutUint32(signed[at+4:], 8)
	var plain medium // without symbols, behind which its length would be wrong first
	if err := Write(&plain, stub, nil); err != nil {
		t.Fatal(err)
	}
	var many []Section
	for range 40 {
		many = append(many, section(".x", "x"))
	}
	for want, c := range map[string]struct {
		stub     []byte
		sections []Section
	}{
		"reading the stub":          {[]byte("#!/bin/sh\n"), nil},
		"signed":                    {signed, nil},
		"it ends at byte":           {plain[:len(plain)/2], nil},
		"have room for":             {stub, many},
		"up to 8 characters":        {stub, []Section{section(".toolongname", "x")}},
		"has 0 bytes":               {stub, []Section{section(".linux", "")}},
		"4 GiB":                     {stub, []Section{{".linux", strings.NewReader("x"), 1 << 32}}},
		io.ErrUnexpectedEOF.Error(): {stub, []Section{{".linux", strings.NewReader("x"), 2}}},
	} {
		var out medium
		if err := Write(&out, c.stub, c.sections); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("MZ"))
	f.Fuzz(func(t *testing.T, stub []byte) {
		var out medium
		_ = Write(&out, stub, []Section{section(".linux", "kernel")})
	})
}
