package sources

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

// builtOutput is the output directory of a build with Buildroot, as a product has it.
func builtOutput(config string) map[string]string {
	return map[string]string{
		"br/output/.config": config, "br/output/images/Image": "kernel", "br/output/images/board.dtb": "tree",
		"br/output/build/linux-6.1/.config": "CONFIG_X=y\n", "br/output/build/linux-6.1/include/config/kernel.release": "6.1.9\n",
		"br/output/target/lib/modules/6.1.9/modules.builtin": "", "br/output/target/lib/modules/6.1.9/build": "",
	}
}

const builtConfig = `BR2_aarch64=y
BR2_LINUX_KERNEL=y
BR2_LINUX_KERNEL_VERSION="6.1"
BR2_LINUX_KERNEL_IMAGE=y
BR2_LINUX_KERNEL_DTS_SUPPORT=y
BR2_LINUX_KERNEL_INTREE_DTS_NAME="vendor/board"
`

func TestBuildrootGivesATree(t *testing.T) {
	t.Parallel()
	l := product(t, builtOutput(builtConfig))
	source, err := Of(&targets.Target{Arch: targets.Arch{Go: "arm64"}, Kernel: &targets.Kernel{Source: "buildroot", Dir: "br/output"}})
	if err != nil {
		t.Fatal(err)
	}
	step, err := source.Tree(Kit{Layers: l})
	if err != nil {
		t.Fatal(err)
	}
	w := &build.Work{Out: t.TempDir()}
	if err := step.Run(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"boot/vmlinuz-6.1.9": "kernel", "boot/config-6.1.9": "CONFIG_X=y\n", "dtbs/vendor/board.dtb": "tree", "lib/modules/6.1.9/modules.builtin": "",
	} {
		if got, err := os.ReadFile(filepath.Join(w.Out, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := os.Stat(filepath.Join(w.Out, "lib/modules/6.1.9/build")); err == nil {
		t.Error("the tree has the link to the kernel's build")
	}
}

func TestBuildrootThatDoesNotFit(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]struct {
		kind   fault.Kind
		dir    string
		config string
	}{
		"br/output/.config is for amd64, and the target for arm64": {fault.BadInput, "br/output", strings.Replace(builtConfig, "aarch64", "x86_64", 1)},
		"kernel.dir: directory": {fault.Missing, "br/none", builtConfig},
		"is not an output directory of Buildroot: it has no .config": {fault.Missing, "br", builtConfig},
		"images/zImage does not exist, and BR2_LINUX_KERNEL_ZIMAGE":  {fault.Missing, "br/output", strings.Replace(builtConfig, "KERNEL_IMAGE", "KERNEL_ZIMAGE", 1)},
	} {
		l := product(t, builtOutput(c.config))
		source, err := Of(&targets.Target{Arch: targets.Arch{Go: "arm64"}, Kernel: &targets.Kernel{Source: "buildroot", Dir: c.dir}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := source.Tree(Kit{Layers: l}); fault.Of(err) != c.kind || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got kind %v: %v", want, fault.Of(err), err)
		}
	}
}
