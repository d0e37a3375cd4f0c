package checks

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/fault"
)

func TestFuzzTargetsAreFound(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for name, text := range map[string]string{
		"a/x_test.go":          "package a\n\nfunc FuzzOne(f *testing.F) {}\n\nfunc FuzzTwo(f *testing.F) {}\n",
		"a/b/y_test.go":        "package b\n\n// func FuzzNot is a comment\nfunc TestX(t *testing.T) {}\n",
		"a/z.go":               "package a\n\nfunc FuzzNoTest() {}\n",
		"out/o_test.go":        "package o\n\nfunc FuzzBuilt(f *testing.F) {}\n",
		".git/g_test.go":       "package g\n\nfunc FuzzHidden(f *testing.F) {}\n",
		"a/testdata/t_test.go": "package t\n\nfunc FuzzData(f *testing.F) {}\n",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := fuzzTargets(root)
	want := []fuzzTarget{{filepath.Join(root, "a"), "FuzzOne"}, {filepath.Join(root, "a"), "FuzzTwo"}}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(fuzzTarget{})); d != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, d)
	}
}

// TestSlowPackagesComeFirst runs in the source tree, whose packages exist, and in a product,
// whose do not.
func TestSlowPackagesComeFirst(t *testing.T) {
	t.Chdir("../..")
	want := append([]string{"test", "-timeout=60m", "-vet=off", "-p=3"}, slow...)
	if d := cmp.Diff(want, testArguments(2)); d != "" {
		t.Error(d)
	}
	t.Chdir(t.TempDir())
	if d := cmp.Diff(want[:4], testArguments(2)); d != "" {
		t.Error(d)
	}
}

func TestTargetsThatNoTestBoots(t *testing.T) {
	t.Parallel()
	if got, err := emulated("rpi64, x64-uefi,x64-uefi-default"); err != nil || got != "rpi64-5.10.y,x64-uefi,x64-uefi" {
		t.Errorf("got %q, %v", got, err)
	}
	for names, kind := range map[string]fault.Kind{
		"qemu-aarch64,rock64": fault.Unsupported, "x64-generic": fault.Unsupported, "x64-uef": fault.BadInput, "": fault.BadInput, "qemu-arm,": fault.BadInput,
	} {
		if got, err := emulated(names); fault.Of(err) != kind {
			t.Errorf("%q: kind %v, %v; got %q", names, fault.Of(err), err, got)
		}
	}
}
