package sources

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

// TestReleaseOfAnotherBuild: what another build system says of its kernel's release becomes the name of
// files, and must be one.
func TestReleaseOfAnotherBuild(t *testing.T) {
	t.Parallel()
	const hostile = "6.1/../../../x"
	buildroot := builtOutput(builtConfig)
	buildroot["br/output/build/linux-6.1/include/config/kernel.release"] = hostile
	delete(buildroot, "br/output/target/lib/modules/6.1.9/modules.builtin")
	delete(buildroot, "br/output/target/lib/modules/6.1.9/build")
	yocto := deployed(t)
	delete(yocto, "deploy/modules-b.tgz")
	yocto["deploy/core-b.rootfs.manifest"] = "kernel-" + hostile + " b 6.1\n"
	for name, c := range map[string]struct {
		files  map[string]string
		kernel targets.Kernel
	}{
		"buildroot": {buildroot, targets.Kernel{Source: "buildroot", Dir: "br/output"}},
		"yocto":     {yocto, targets.Kernel{Source: "yocto", Dir: "deploy", Image: "core", Machine: "b"}},
	} {
		source, err := Of(&targets.Target{Arch: targets.Arch{Go: "arm64"}, Kernel: &c.kernel})
		if err != nil {
			t.Fatal(err)
		}
		_, err = source.Tree(Kit{Layers: product(t, c.files)})
		if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), hostile+`" is not the release of a kernel`) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDepositStaysInside: no name leads out of the tree.
func TestDepositStaysInside(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	from, tree := filepath.Join(dir, "from"), filepath.Join(dir, "tree")
	if err := os.WriteFile(from, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"../out", "dtbs/../../out", "/out", ""} {
		if err := deposit(t.Context(), tree, name, from); fault.Of(err) != fault.BadInput {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "out")); err == nil {
		t.Error("a file was written outside of the tree")
	}
	if err := deposit(t.Context(), tree, "dtbs/vendor/in", from); err != nil {
		t.Error(err)
	}
}
