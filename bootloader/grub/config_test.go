package grub

import (
	"os"
	"path/filepath"
	"slices"
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
	}
	config(t, good)
}

// TestPlatforms checks which packages start kernels for which CPU.
func TestPlatforms(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		pkg, arch, want string
		kind            fault.Kind
	}{
		{"grub-pc-bin", "amd64", "i386-pc", 0},
		{"grub-efi-arm64-bin", "arm64", "arm64-efi", 0},
		{"grub-efi-arm64-bin", "amd64", "want grub-efi-amd64-bin or grub-pc-bin", fault.BadInput},
		{"shim-signed", "riscv64", "want grub-efi-riscv64-bin", fault.BadInput},
		{"grub-pc-bin", "mipsle", "GRUB does not run on mipsle", fault.Unsupported},
	} {
		p, err := platformOf(tc.pkg, tc.arch)
		if tc.kind == 0 && (err != nil || p.format != tc.want) || tc.kind != 0 && (fault.Of(err) != tc.kind || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s for %s: %s, %v; want %s", tc.pkg, tc.arch, p.format, err, tc.want)
		}
	}
}

// TestForeignImages checks that files of another layout than GRUB's are not patched.
func TestForeignImages(t *testing.T) {
	t.Parallel()
	if _, err := bootSector(make([]byte, sector), 34); fault.Of(err) != fault.Unsupported {
		t.Errorf("an empty first sector: %v", err)
	}
	if err := placeCore(make([]byte, 4*sector), 34); fault.Of(err) != fault.Unsupported {
		t.Errorf("an empty core image: %v", err)
	}
	if err := placeCore(nil, 34); fault.Of(err) != fault.Unsupported {
		t.Errorf("no core image: %v", err)
	}
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

// TestBuildrootModules: the image of GRUB that the external tree for Buildroot configures has all
// modules that grub.cfg needs.
func TestBuildrootModules(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../integration/buildroot/configs/pantavisor_qemu_x86_64_defconfig")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "BR2_TARGET_GRUB2_BUILTIN_MODULES_EFI=\"")
	line, _, _ := strings.Cut(rest, "\"")
	for _, m := range append([]string{"part_gpt"}, coreModules...) {
		if !slices.Contains(strings.Fields(line), m) {
			t.Errorf("it lacks %s, in %q", m, line)
		}
	}
}
