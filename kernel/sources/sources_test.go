package sources

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

func TestTableMatchesPackageTargets(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff(slices.Sorted(slices.Values(targets.Ready("kernel.source"))), slices.Sorted(maps.Keys(sources))); diff != "" {
		t.Errorf("package targets and the table differ (-targets +table):\n%s", diff)
	}
	for name, want := range map[string]fault.Kind{"debain": fault.BadInput} {
		_, err := Of(&targets.Target{Kernel: &targets.Kernel{Source: name}})
		if fault.Of(err) != want || !strings.Contains(err.Error(), `"`+name+`"`) {
			t.Errorf("%s: kind %v: %v", name, fault.Of(err), err)
		}
	}
}

// debianKernel returns a source and a lock that satisfies its requests.
func debianKernel(t *testing.T, firmware *targets.Firmware) (Source, *debian.Parts) {
	t.Helper()
	source, err := Of(&targets.Target{
		Arch:   targets.Arch{Go: "arm64", Debian: "arm64"},
		Kernel: &targets.Kernel{Source: "debian", Suite: "trixie", Package: "linux-image-arm64", Firmware: firmware},
	})
	if err != nil {
		t.Fatal(err)
	}
	lock := &debian.Lock{Requests: source.Requests()}
	for name, request := range map[string]string{"linux-image-6.12.1-arm64": "kernel", "fw-a": "firmware", "fw-b": "firmware"} {
		lock.Packages = append(lock.Packages, debian.Entry{Package: name, Version: "1", Arch: "arm64", For: []string{request + "/arm64"}})
	}
	return source, debian.NewParts(debian.Open(t.TempDir(), nil), lock)
}

func TestDebianGivesTreeAndFirmware(t *testing.T) {
	t.Parallel()
	source, parts := debianKernel(t, &targets.Firmware{Packages: []string{"fw-b", "fw-a"}})
	want := []debian.Request{
		{Name: "kernel", Suite: "trixie", Arch: "arm64", Packages: []string{"linux-image-arm64"}},
		{Name: "firmware", Suite: "trixie", Arch: "arm64", Packages: []string{"fw-a", "fw-b"}},
	}
	if diff := cmp.Diff(want, source.Requests()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	tree, err := source.Tree(Kit{Packages: parts})
	if err != nil {
		t.Fatal(err)
	}
	firmware, err := source.Firmware(Kit{Packages: parts})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range append([]build.Step{tree}, firmware...) {
		got = append(got, s.Deps()[0].Name())
	}
	if diff := cmp.Diff([]string{"fetch/linux-image-6.12.1-arm64_arm64", "fetch/fw-a_arm64", "fetch/fw-b_arm64"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDebianWithoutFirmwareAsksForNone(t *testing.T) {
	t.Parallel()
	source, parts := debianKernel(t, nil)
	if got := source.Requests(); len(got) != 1 {
		t.Errorf("it asks for %v", got)
	}
	if got, err := source.Firmware(Kit{Packages: parts}); got != nil || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestDebianSaysWhatTheLockLacks(t *testing.T) {
	t.Parallel()
	source, _ := debianKernel(t, &targets.Firmware{Packages: []string{"fw-a"}})
	empty := debian.NewParts(debian.Open(t.TempDir(), nil), &debian.Lock{})
	if _, err := source.Tree(Kit{Packages: empty}); fault.Of(err) != fault.Missing || !strings.Contains(err.Error(), "mage lock") {
		t.Errorf("tree: kind %v: %v", fault.Of(err), err)
	}
	if _, err := source.Firmware(Kit{Packages: empty}); err == nil || !strings.Contains(err.Error(), "mage lock") {
		t.Errorf("firmware: %v", err)
	}
}

func TestFilesOfAKernelPackage(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"boot/vmlinuz-6.1":                                     "boot/vmlinuz-6.1",
		"lib/modules/6.1/kernel/fs/ext4.ko":                    "lib/modules/6.1/kernel/fs/ext4.ko",
		"usr/lib/modules/6.1/kernel/fs/ext4.ko.xz":             "lib/modules/6.1/kernel/fs/ext4.ko.xz",
		"usr/lib/linux-image-6.1/broadcom/bcm2711-rpi-4-b.dtb": "dtbs/broadcom/bcm2711-rpi-4-b.dtb",
		"lib/modules/6.1/build":                                "",
		"usr/lib/modules/6.1/source":                           "",
		"usr/share/doc/linux-image-6.1/copyright":              "",
		"usr/share/bug/linux-image-6.1/presubj":                "",
	} {
		got := ""
		if isKernelFile(name) {
			got = placed(name)
		}
		if got != want {
			t.Errorf("%s goes to %q, want %q", name, got, want)
		}
	}
}

// kernelTarball is a kernel as "make targz-pkg" writes it.
func kernelTarball(t *testing.T, members map[string]string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kernel.tar.gz")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	zip := gzip.NewWriter(f)
	archive := tar.NewWriter(zip)
	for name, text := range members {
		if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(text)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(archive.Close(), zip.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return file
}

// given is a step whose output is there.
type given struct{ dir string }

func (given) Name() string                           { return "given" }
func (given) Deps() []build.Step                     { return nil }
func (given) Run(context.Context, *build.Work) error { return nil }

func TestKernelFromATarball(t *testing.T) {
	t.Parallel()
	file := kernelTarball(t, map[string]string{
		"./boot/vmlinuz-5.4.1": "kernel", "boot/vmlinux-5.4.1": "with symbols", "boot/System.map-5.4.1": "map", "boot/config-5.4.1": "CONFIG_X=y\n",
		"boot/dtbs/5.4.1/v/a.dtb": "tree", "lib/modules/5.4.1/modules.builtin": "kernel/fs/ext4/ext4.ko\n", "lib/modules/5.4.1/build": "x", "../../etc/passwd": "x", "etc/other": "x",
	})
	source, err := Of(&targets.Target{Kernel: &targets.Kernel{Source: "files", Part: "kernel"}})
	if err != nil {
		t.Fatal(err)
	}
	part := given{filepath.Dir(file)}
	tree, err := source.Tree(Kit{Part: func(name string) (build.Step, string, error) {
		if name != "kernel" {
			t.Errorf("asked for part %s", name)
		}
		return part, filepath.Base(file), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	w := build.NewWork(out, t.TempDir(), func(build.Step) string { return part.dir }, nil)
	if err := tree.Run(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	var got []string
	err = filepath.WalkDir(out, func(p string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && !strings.Contains(p, "/modules.") {
			rel, _ := filepath.Rel(out, p)
			got = append(got, rel)
		}
		return err
	})
	if diff := cmp.Diff([]string{"boot/config-5.4.1", "boot/vmlinuz-5.4.1", "dtbs/v/a.dtb"}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	empty := given{filepath.Dir(kernelTarball(t, map[string]string{"boot/vmlinuz": "x"}))}
	w = build.NewWork(t.TempDir(), t.TempDir(), func(build.Step) string { return empty.dir }, nil)
	if err := (&ArchiveTree{File: "kernel.tar.gz", Part: empty}).Run(t.Context(), w); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "tarxz-pkg") {
		t.Errorf("a tarball without modules: kind %v: %v", fault.Of(err), err)
	}
}
