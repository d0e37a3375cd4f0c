package targets

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// TestMistakesOfKernels: each source has fields of its own.
func TestMistakesOfKernels(t *testing.T) {
	t.Parallel()
	for kernel, want := range map[string]string{
		"{source: debian-source}": "kernel: field suite is missing: name the Debian suite whose source is compiled",
		"{source: debian-source, suite: bookworm, package: linux-image-amd64}":              "kernel.package: is only for source: debian",
		"{source: debian-source, suite: bookworm, dir: linux}":                              "kernel.dir: is only for source: tree",
		"{source: debian, suite: bookworm, package: linux-image-amd64, patches: [a.patch]}": "kernel.patches: is only for source: debian-source, tree",
		"{source: debian-source, suite: bookworm, fragments: [../base]}":                    `kernel.fragments[0]: "../base"`,
		"{source: debian-source, suite: bookworm, patches: [a/b.patch]}":                    `kernel.patches[0]: "a/b.patch"`,
		"{source: debian-source, suite: bookworm, defconfig: ../x}":                         `kernel.defconfig: "../x"`,
		"{source: tree}": "want one of dir, a directory with the kernel's source, and part",
		"{source: tree, dir: linux, part: linux}":                                         "want one of dir, a directory with the kernel's source, and part",
		"{source: tree, dir: ../linux}":                                                   `kernel.dir: "../linux" is neither absolute nor a clean path`,
		"{source: tree, dir: linux, firmware: {packages: [firmware-realtek], budget: 8}}": "field suite is missing: name the Debian suite of the firmware's packages",
		"{source: files, part: kernel, suite: bookworm}":                                  "kernel.suite: is only for source: debian, debian-source, tree",
	} {
		text := "description: d\narch: {go: amd64, debian: amd64}\nkernel: " + kernel + "\n"
		_, err := Load(fstest.MapFS{"b/target.yaml": &fstest.MapFile{Data: []byte(text)}}, "b")
		if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: kind %v: %v; want %q", kernel, fault.Of(err), err, want)
		}
	}
}

// TestKernelOfABuild: the kernel of a build replaces that of the target as a whole.
func TestKernelOfABuild(t *testing.T) {
	t.Parallel()
	lean, err := Load(Builtin(), "x64-uefi-lean")
	if err != nil {
		t.Fatal(err)
	}
	if k := lean.Kernel; k.Source != "debian-source" || k.EarlyModules != nil || k.Package != "" || lean.Bootloader == nil {
		t.Errorf("%+v", k)
	}
}
