package sources

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/layers"
	"github.com/pantavisor/pantavisor/kernel"
	"github.com/pantavisor/pantavisor/kernel/compile"
	"github.com/pantavisor/pantavisor/kernel/kconfig"
	"github.com/pantavisor/pantavisor/targets"
)

// shipped is the layer of this module.
func shipped(t *testing.T) layers.Layer {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return layers.Layer{Label: "module", Dir: dir}
}

// product returns the layers of a product with files.
func product(t *testing.T, files map[string]string) *layers.Layers {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return layers.New(layers.Layer{Label: layers.Workspace, Dir: dir}, shipped(t))
}

// TestFragmentsOfAProduct: a product's file replaces that of the same name, its own come beside
// ours, and those for later kernels follow in the order of their versions.
func TestFragmentsOfAProduct(t *testing.T) {
	t.Parallel()
	l := product(t, map[string]string{
		"kernel/fragments/camera.config": "", "kernel/fragments/camera-6.12.config": "", "kernel/fragments/camera-6.8.config": "",
		"kernel/fragments/vpn.config": "", "kernel/fragments/wrong.config": "\nCONFIG_A=yes\n", "kernel/patches/0001-fix.patch": "",
	})
	found, err := fragments(l, "camera")
	if err != nil {
		t.Fatal(err)
	}
	var since []string
	for _, f := range found {
		since = append(since, f.Since)
	}
	if diff := cmp.Diff([]string{"", "6.8", "6.12"}, since); diff != "" {
		t.Error(diff)
	}
	if found, err = fragments(l, "vpn"); err != nil || !strings.HasPrefix(found[0].Source.Path, l.Top().Dir) {
		t.Errorf("%+v, %v", found, err)
	}
	if _, err := fragments(l, "wrong"); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "kernel/fragments/wrong.config:2: ") {
		t.Errorf("kind %v: %v", fault.Of(err), err)
	}
	for _, name := range []string{"camrea", "camera-6.8", "none"} {
		if _, err := fragments(l, name); fault.Of(err) != fault.BadInput {
			t.Errorf("%s: kind %v: %v", name, fault.Of(err), err)
		}
	}
	if got, err := patches(l, []string{"0001-fix.patch"}); err != nil || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := patches(l, []string{"0002.patch"}); fault.Of(err) != fault.Missing {
		t.Errorf("kind %v: %v", fault.Of(err), err)
	}
}

// TestShippedFragments: every fragment can be read and says in its first line what it is for,
// and those of every kernel ask for what the runtime needs.
func TestShippedFragments(t *testing.T) {
	t.Parallel()
	l := layers.New(shipped(t))
	var all []kconfig.Option
	for _, name := range fragmentNames(l) {
		text, err := os.ReadFile(fragmentSource(l, name).Path)
		if err != nil {
			t.Fatal(err)
		}
		options, err := kconfig.Parse(name, string(text))
		if err != nil || !strings.HasPrefix(string(text), "# ") || len(options) == 0 {
			t.Errorf("%s: %v", name, err)
		}
		if slices.Contains(common, name) {
			all = append(all, options...)
		}
	}
	file := filepath.Join(t.TempDir(), ".config")
	if err := os.WriteFile(file, kconfig.Text(kconfig.Merge(all)), 0o644); err != nil {
		t.Fatal(err)
	}
	config, err := kernel.ReadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, lack := range config.Check() {
		if !implied[lack.Option] {
			t.Errorf("no fragment for every kernel has %s", lack.Option)
		}
	}
}

// implied are options without a question: others turn them on.
var implied = map[string]bool{"SECCOMP_FILTER": true, "COMPAT_32BIT_TIME": true}

// TestFragmentsOfEachArchitecture: what [machineOf] names is there, for each board that is
// compiled.
func TestFragmentsOfEachArchitecture(t *testing.T) {
	t.Parallel()
	l := layers.New(shipped(t))
	for key, m := range machines {
		if key == "arm5" || key == "arm6" {
			continue // a board's own fragment has the processor
		}
		for _, name := range m.fragments {
			if _, err := fragments(l, name); err != nil {
				t.Errorf("%s: %v", key, err)
			}
		}
	}
	if _, err := machineOf(targets.Arch{Go: "s390x"}); fault.Of(err) != fault.Unsupported {
		t.Errorf("kind %v: %v", fault.Of(err), err)
	}
}

// TestTreesOfTheUser: a directory is found in the product or by its absolute path, and version
// control does not change the kernel.
func TestTreesOfTheUser(t *testing.T) {
	t.Parallel()
	l := product(t, map[string]string{"linux/Makefile": "", "linux/.git/HEAD": "", "linux/.gitignore": "", "linux/init/main.c": ""})
	for _, dir := range []string{"linux", filepath.Join(l.Top().Dir, "linux")} {
		s := &compiled{kernel: &targets.Kernel{Source: "tree", Dir: dir}}
		o, err := s.origin(Kit{Layers: l})
		if err != nil {
			t.Fatal(err)
		}
		files, err := o.Sources()
		if err != nil || len(files) != 2 || filepath.Base(files[0].Name) != "Makefile" {
			t.Errorf("%s: %v, %v", dir, files, err)
		}
	}
	s := &compiled{kernel: &targets.Kernel{Source: "tree", Dir: "nowhere"}}
	if _, err := s.origin(Kit{Layers: l}); fault.Of(err) != fault.Missing {
		t.Errorf("kind %v: %v", fault.Of(err), err)
	}
	if _, err := (compile.Tree{Path: filepath.Join(l.Top().Dir, "nowhere")}).Sources(); fault.Of(err) != fault.Missing {
		t.Errorf("kind %v: %v", fault.Of(err), err)
	}
}

// TestBuildrootFragments: the defconfigs of the external tree for Buildroot give a kernel the
// fragments that a target would, in the same order. Their kernel is later than any fragment.
func TestBuildrootFragments(t *testing.T) {
	t.Parallel()
	l := layers.New(shipped(t))
	for defconfig, board := range map[string]struct {
		arch      string
		fragments []string
	}{
		"qemu_x86_64": {"amd64", nil}, "qemu_aarch64": {"arm64", []string{"virtio", "virt-arm"}}, "qemu_riscv64": {"riscv64", []string{"virtio"}},
		"qemu_malta": {"mips", []string{"virtio", "malta"}}, "rpi3_64": {"arm64", []string{"board", "bcm283x"}}, "rpi4_64": {"arm64", []string{"board", "bcm283x"}},
		"rpi5": {"", nil}, // over a configuration of its own
	} {
		text, err := os.ReadFile("../../integration/buildroot/configs/pantavisor_" + defconfig + "_defconfig")
		if err != nil {
			t.Fatal(err)
		}
		var got, want []string
		for _, line := range strings.Split(string(text), "\n") {
			name, value, _ := strings.Cut(line, "=")
			if name == "BR2_LINUX_KERNEL_CUSTOM_CONFIG_FILE" || name == "BR2_LINUX_KERNEL_CONFIG_FRAGMENT_FILES" {
				got = append(got, strings.Fields(strings.Trim(value, `"`))...)
			}
		}
		for _, name := range slices.Concat(common, machines[board.arch].fragments, board.fragments) {
			found, err := fragments(l, name)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range found {
				want = append(want, "$(BR2_EXTERNAL_PANTAVISOR_PATH)/fragments/"+filepath.Base(f.Source.Path))
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", defconfig, diff)
		}
	}
}
