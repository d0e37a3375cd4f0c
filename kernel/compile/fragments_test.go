package compile_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/pantavisor/pantavisor/debian/partstest"
	"github.com/pantavisor/pantavisor/internal/layers"
	"github.com/pantavisor/pantavisor/kernel/compile"
	"github.com/pantavisor/pantavisor/kernel/sources"
	"github.com/pantavisor/pantavisor/targets"
)

// families are the fragments of boards by a target whose lock has source and compiler.
var families = map[string][][]string{
	"x64-uefi-lean":     {{}},
	"qemu-aarch64-lean": {{"virtio", "virt-arm"}, {"board", "mediatek", "mt7622"}, {"board", "rockchip"}, {"board", "sunxi", "sun50i"}, {"board", "bcm283x"}, {"board", "meson"}},
	"qemu-arm-lean":     {{"virtio", "virt-arm"}, {"board", "mediatek", "mt7623"}, {"board", "sunxi", "sun8i"}, {"board", "bcm283x"}, {"board", "imx", "caam", "dcp"}, {"board", "omap"}},
	"qemu-riscv64-lean": {{"virtio"}},
	"malta-qemu-be":     {{"virtio", "malta"}},
}

// TestEveryFragmentIsTaken configures Debian's source for each family of processors: no option
// falls out. It unpacks the source for each architecture, which takes minutes.
func TestEveryFragmentIsTaken(t *testing.T) {
	if os.Getenv("PV_TEST_KERNELS") == "" {
		t.Skip("unpacks the source of Linux five times; PV_TEST_KERNELS=1 runs it")
	}
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	l := layers.New(layers.Layer{Label: layers.Workspace, Dir: dir})
	for name, sets := range families {
		t.Run(name, func(t *testing.T) {
			target, err := targets.Load(targets.Builtin(), name)
			if err != nil {
				t.Fatal(err)
			}
			b := partstest.New(t, target.Definition, sources.ToolchainRequest, "kernel-source")
			compilation := func(set []string) *compile.Step {
				target.Kernel.Fragments = set
				source, err := sources.Of(target)
				if err != nil {
					t.Fatal(err)
				}
				tree, err := source.Tree(sources.Kit{Packages: b.Parts, Layers: l})
				if err != nil {
					t.Fatal(err)
				}
				return tree.Deps()[0].(*compile.Step) //nolint:forcetypeassert // the test fails otherwise
			}
			first, work := compilation(nil), t.TempDir()
			for _, d := range first.Deps() {
				b.Run(d)
			}
			if err := first.Unpack(t.Context(), b.Work(first), work); err != nil {
				t.Fatal(err)
			}
			for _, set := range sets {
				if err := compilation(set).Configure(t.Context(), b.Work(first), work); err != nil {
					t.Errorf("%v: %v", set, err)
				}
			}
		})
	}
}

// TestFamiliesHaveAllFragments: a new fragment needs a place in the table above.
func TestFamiliesHaveAllFragments(t *testing.T) {
	t.Parallel()
	var named []string
	for _, sets := range families {
		named = append(named, slices.Concat(sets...)...)
	}
	files, err := filepath.Glob("../fragments/*.config")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	for _, file := range files {
		name := filepath.Base(file[:len(file)-len(".config")])
		if !slices.Contains(named, name) && !slices.Contains(always, name) && !slices.ContainsFunc([]byte(name), func(c byte) bool { return c == '.' }) {
			t.Errorf("no family has fragment %s", name)
		}
	}
}

// always are the fragments that no target names: those of every kernel and of architectures.
var always = []string{"base", "netfilter", "dm", "crypto-user", "vpn", "x86_64", "aarch64", "armv7", "riscv64", "mips", "mipsle"}
