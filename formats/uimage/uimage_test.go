package uimage

import (
	"bytes"
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
