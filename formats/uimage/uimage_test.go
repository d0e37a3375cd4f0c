package uimage

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/oracle"
)

// TestScriptAsMkimageMakesIt compares with U-Boot's own program.
func TestScriptAsMkimageMakesIt(t *testing.T) {
	t.Parallel()
	oracle.Need(t, "mkimage")
	dir := t.TempDir()
	text, want := []byte("echo hello\n"), filepath.Join(dir, "boot.scr")
	source := filepath.Join(dir, "boot.cmd")
	if err := os.WriteFile(source, text, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "mkimage", "-A", "arm64", "-O", "linux", "-T", "script", "-C", "none", "-n", "a name", "-d", source, want)
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mkimage: %v\n%s", err, out)
	}
	theirs, err := os.ReadFile(want)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := EncodeScript(Header{Name: "a name", Arch: ARM64, Time: 1700000000}, text)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(ours, theirs) {
		t.Errorf("ours\n%x\ntheirs\n%x", ours, theirs)
	}
}

func TestNameThatDoesNotFit(t *testing.T) {
	t.Parallel()
	if _, err := EncodeScript(Header{Name: strings.Repeat("n", 33)}, nil); err == nil {
		t.Error("a name of 33 bytes was taken")
	}
}

// TestKernelAsMkimageMakesIt compares kernels and initrds with U-Boot's own program.
func TestKernelAsMkimageMakesIt(t *testing.T) {
	t.Parallel()
	oracle.Need(t, "mkimage")
	for _, tc := range []struct {
		name string
		kind Type
		h    Header
		args []string
	}{
		{"kernel", Kernel, Header{Name: "Linux", Arch: MIPS, Time: 1700000000, Load: 0x80100000, Entry: 0x80104000, Gzip: true},
			[]string{"-A", "mips", "-T", "kernel", "-C", "gzip", "-a", "80100000", "-e", "80104000", "-n", "Linux"}},
		{"initrd", Ramdisk, Header{Arch: ARM, Time: 1700000000}, []string{"-A", "arm", "-T", "ramdisk", "-C", "none"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			source, want, got := filepath.Join(dir, "data"), filepath.Join(dir, "theirs"), filepath.Join(dir, "ours")
			data := bytes.Repeat([]byte("kernel"), 1000)
			if err := os.WriteFile(source, data, 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "mkimage", append(tc.args, "-O", "linux", "-d", source, want)...)
			cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("mkimage: %v\n%s", err, out)
			}
			f, err := os.Create(got)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := Write(f, tc.kind, tc.h, bytes.NewReader(data)); err != nil {
				t.Fatal(err)
			}
			if end, err := f.Seek(0, io.SeekCurrent); err != nil || end != int64(HeaderSize+len(data)) {
				t.Errorf("the file is left at %d, %v", end, err)
			}
			ours, err := os.ReadFile(got)
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := os.ReadFile(want)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(ours, theirs) {
				t.Errorf("ours\n%x\ntheirs\n%x", ours[:HeaderSize], theirs[:HeaderSize])
			}
		})
	}
}
