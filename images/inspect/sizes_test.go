package inspect_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/formats/squashfs"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/images/inspect"
)

// sizesOf measures a file.
func sizesOf(t *testing.T, name string) *inspect.Sized {
	t.Helper()
	var r inspect.Reader
	t.Cleanup(func() { _ = r.Close() })
	n, err := r.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := r.Sizes(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	sums(t, "", s)
	return s
}

// sums checks that the parts of everything have its size together.
func sums(t *testing.T, path string, s *inspect.Sized) {
	t.Helper()
	sum := int64(0)
	for i, p := range s.Parts {
		sum += p.Bytes
		if p.Bytes < 0 || i > 0 && p.Bytes > s.Parts[i-1].Bytes {
			t.Errorf("%s/%s has %d bytes", path, p.Name, p.Bytes)
		}
		sums(t, path+"/"+p.Name, p)
	}
	if len(s.Parts) > 0 && sum != s.Bytes {
		t.Errorf("%s has %d bytes, its parts %d", path, s.Bytes, sum)
	}
}

// part returns what is at a path of names.
func part(t *testing.T, s *inspect.Sized, names ...string) *inspect.Sized {
	t.Helper()
	for _, name := range names {
		var next *inspect.Sized
		for _, p := range s.Parts {
			if p.Name == name {
				next = p
			}
		}
		if next == nil {
			t.Fatalf("%s has no %s", s.Name, name)
		}
		s = next
	}
	return s
}

func TestSizesOfAnImage(t *testing.T) {
	image := sample().image(t)
	s := sizesOf(t, image)
	if s.Sort != inspect.SortDisk || s.Bytes >= s.Unpacked {
		t.Errorf("%d bytes of a medium of %d are in use", s.Bytes, s.Unpacked)
	}
	// The same content in a file without holes has the same sizes.
	text, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	full := filepath.Join(t.TempDir(), "full.img")
	if err := os.WriteFile(full, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if again := sizesOf(t, full); again.Bytes != s.Bytes {
		t.Errorf("without holes %d bytes are in use, with them %d", again.Bytes, s.Bytes)
	}
	used := int64(0)
	for at := 0; at < len(text); at += 4096 {
		if block := text[at:min(at+4096, len(text))]; !bytes.Equal(block, make([]byte, len(block))) {
			used += int64(len(block))
		}
	}
	if s.Bytes != used {
		t.Errorf("%d bytes are in use, of which %d are found", used, s.Bytes)
	}
}

// TestSizesInSquashfs: what does not compress takes its size, what compresses less, and a file with
// two names counts once.
func TestSizesInSquashfs(t *testing.T) {
	name := filepath.Join(t.TempDir(), "root.squashfs")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	link := file("twin", "")
	link.HardLink = "noise"
	link.Size = 0
	list := []tree.Entry{
		dir("lib"), dir("lib/apk"), dir("lib/apk/db"), file("lib/apk/db/installed", "P:tool\nF:\nR:noise\n"),
		file("noise", noise(1, 300_000)), link, dir("var"), dir("var/lib"), dir("var/lib/dpkg"), dir("var/lib/dpkg/info"),
		file("var/lib/dpkg/info/words:amd64.list", "/.\n/words\n"), file("words", strings.Repeat("word ", 60_000)),
	}
	sortEntries(list)
	err = squashfs.Write(t.Context(), f, squashfs.Options{Workers: 1}, func(add func(tree.Entry) error) error {
		for _, e := range list {
			if err := add(e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	s := sizesOf(t, name)
	noisy, words := part(t, s, "noise"), part(t, s, "words")
	if noisy.Bytes < 300_000 || noisy.Bytes > 301_000 || words.Bytes > 10_000 || words.Unpacked != 300_000 {
		t.Errorf("noise takes %d bytes, words %d", noisy.Bytes, words.Bytes)
	}
	if noisy.Package != "tool" || words.Package != "words" {
		t.Errorf("the packages are %q and %q", noisy.Package, words.Package)
	}
	for _, p := range s.Parts {
		if p.Name == "twin" {
			t.Errorf("a file counts twice")
		}
	}
}

// TestSizesOfAGoProgram: the program of this test has the packages that it is linked from.
func TestSizesOfAGoProgram(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := sizesOf(t, program)
	if s.Sort != inspect.SortProgram {
		t.Fatalf("a program is a %s", s.Sort)
	}
	for _, name := range []string{"runtime", "github.com/pantavisor/pantavisor/formats/squashfs", "section .rodata"} {
		if p := part(t, s, name); p.Bytes < 1000 || p.Sort != inspect.SortCode {
			t.Errorf("%s takes %d bytes", name, p.Bytes)
		}
	}
}

// TestSizesOfSections: a section counts as it is in the file, also one that is compressed or that
// says more of itself.
func TestSizesOfSections(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "program")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", name, written(t, "main.go", []byte("package main\n\nfunc main() {}\n")))
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	check := func(name string) {
		s := sizesOf(t, name)
		sum := int64(0)
		for _, p := range s.Parts {
			sum += p.Unpacked
		}
		if debug := part(t, s, "section .debug_info"); debug.Bytes < 1000 || sum > s.Bytes {
			t.Errorf("the parts of a program of %d bytes have %d", s.Bytes, sum)
		}
	}
	check(name)
	f, err := elf.NewFile(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table := binary.LittleEndian.Uint64(text[0x28:]) // e_shoff; sh_size is at 32 of 64 bytes (elf(5))
	last := slices.IndexFunc(f.Sections, func(s *elf.Section) bool { return s.Name == ".noptrdata" })
	binary.LittleEndian.PutUint64(text[table+uint64(last)*64+32:], 1<<62)
	if code := part(t, sizesOf(t, written(t, "damaged", text)), "runtime"); code.Bytes < 1000 {
		t.Errorf("with a section that is larger than the file, the runtime has %d bytes", code.Bytes)
	}
}

// TestSizesOfWhatIsDamaged: what cannot be looked into has a size all the same, and says why.
func TestSizesOfWhatIsDamaged(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "root.squashfs"), []byte(squashfs.Magic+noise(1, 9000)), 0o644); err != nil {
		t.Fatal(err)
	}
	s := part(t, sizesOf(t, dir), "root.squashfs")
	if s.Bytes != 9004 || s.Problem == "" {
		t.Errorf("%+v", s)
	}
	var r inspect.Reader
	defer r.Close()
	n, err := r.Open(t.Context(), filepath.Join(dir, "root.squashfs"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Sizes(t.Context(), n); err == nil || !strings.Contains(err.Error(), "root.squashfs") {
		t.Errorf("%v", err)
	}
}
