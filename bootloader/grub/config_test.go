package grub

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian/partstest"
	"github.com/pantavisor/pantavisor/formats/grubenv"
	"github.com/pantavisor/pantavisor/internal/fault"
)

func config(t *testing.T, s Settings) string {
	t.Helper()
	text, err := s.Config()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestConfigFollowsSettings(t *testing.T) {
	plain := config(t, Settings{RootLabel: "pvroot"})
	for _, absent := range []string{"serial", "interruptible", "ESC"} {
		if strings.Contains(plain, absent) {
			t.Errorf("without serial line and timeout, %q is in grub.cfg", absent)
		}
	}
	full := config(t, Settings{RootLabel: "data", Timeout: 3, Arguments: []string{"console=tty0", "console=ttyS1,57600n8", "quiet"}})
	for _, want := range []string{
		"serial --unit=1 --speed=57600", "sleep --interruptible 3", "--label data ",
		"'console=tty0' 'console=ttyS1,57600n8' 'quiet' 'rdinit=/init'", "for n in 0 1 2 ", " 31; do",
	} {
		if !strings.Contains(full, want) {
			t.Errorf("no %q in grub.cfg", want)
		}
	}
}

func TestConfigRejects(t *testing.T) {
	good := Settings{RootLabel: "pvroot"}
	for name, s := range map[string]Settings{
		"no label":          {},
		"label with quote":  {RootLabel: `a"b`},
		"label too long":    {RootLabel: strings.Repeat("x", 17)},
		"negative timeout":  {RootLabel: "r", Timeout: -1},
		"argument ends it":  {RootLabel: "r", Arguments: []string{"a; reboot"}},
		"argument of ours":  {RootLabel: "r", Arguments: []string{"pv_rev=9"}},
		"quoted argument":   {RootLabel: "r", Arguments: []string{"a='b'"}},
		"expanded variable": {RootLabel: "r", Arguments: []string{"$root"}},
	} {
		if _, err := s.Config(); fault.Of(err) != fault.BadInput {
			t.Errorf("%s: %v, want bad input", name, err)
		}
		if _, err := newBoot(efi, s, nil, nil); err == nil {
			t.Errorf("%s: New accepts it", name)
		}
	}
	config(t, good)
}

// TestScriptSyntax checks the generated configuration with GRUB's own parser.
func TestScriptSyntax(t *testing.T) {
	check := partstest.Program(t, "grub-common", "grub-script-check")
	for _, s := range []Settings{{RootLabel: "pvroot"}, {RootLabel: "r", Timeout: 5, Arguments: []string{"console=ttyS0"}}} {
		file := filepath.Join(t.TempDir(), "grub.cfg")
		if err := os.WriteFile(file, []byte(config(t, s)), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := check(file).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
}

func TestRootState(t *testing.T) {
	out := t.TempDir()
	root := &Root{}
	if err := root.Run(t.Context(), build.NewWork(out, t.TempDir(), nil, nil)); err != nil {
		t.Fatal(err)
	}
	block, err := os.ReadFile(filepath.Join(out, StateFile))
	if err != nil || len(block) != grubenv.Size {
		t.Fatalf("%d bytes, %v", len(block), err)
	}
	got, err := grubenv.Parse(block)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(grubenv.Env{"pv_rev": "0"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
