package sources

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

// deployed is the deploy directory of a build with Yocto, as a product has it.
func deployed(t *testing.T) map[string]string {
	t.Helper()
	var modules bytes.Buffer
	z := gzip.NewWriter(&modules)
	w := tar.NewWriter(z)
	for name, text := range map[string]string{"lib/modules/6.6.23-yocto/modules.builtin": "", "lib/modules/6.6.23-yocto/build": "x"} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"deploy/core-b.rootfs.testdata.json": `{"PN": "core", "MACHINE": "b", "IMAGE_LINK_NAME": "core-b.rootfs", "KERNEL_IMAGETYPE": "Image", "KERNEL_DEVICETREE": "vendor/board.dtb"}`,
		"deploy/core-b.rootfs.manifest":      "kernel-6.6.23-yocto b 6.6.23\n",
		"deploy/Image-b.bin":                 "kernel", "deploy/board.dtb": "tree", "deploy/modules-b.tgz": modules.String(),
	}
}

func TestYoctoGivesATree(t *testing.T) {
	t.Parallel()
	for _, with := range []bool{true, false} {
		files := deployed(t)
		want := map[string]string{"boot/vmlinuz-6.6.23-yocto": "kernel", "dtbs/vendor/board.dtb": "tree"}
		if with {
			want["lib/modules/6.6.23-yocto/modules.builtin"] = ""
		} else {
			delete(files, "deploy/modules-b.tgz")
		}
		source, err := Of(&targets.Target{Arch: targets.Arch{Go: "arm64"}, Kernel: &targets.Kernel{Source: "yocto", Dir: "deploy", Image: "core", Machine: "b"}})
		if err != nil {
			t.Fatal(err)
		}
		step, err := source.Tree(Kit{Layers: product(t, files)})
		if err != nil {
			t.Fatal(err)
		}
		w := &build.Work{Out: t.TempDir()}
		if err := step.Run(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		for name, want := range want {
			if got, err := os.ReadFile(filepath.Join(w.Out, name)); err != nil || string(got) != want {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		}
		if _, err := os.Stat(filepath.Join(w.Out, "lib/modules/6.6.23-yocto/build")); err == nil {
			t.Error("the tree has the link to the kernel's build")
		}
	}
}

func TestYoctoThatDoesNotFit(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]struct {
		kind   fault.Kind
		kernel targets.Kernel
		drop   []string
	}{
		"kernel.dir: directory":                {fault.Missing, targets.Kernel{Dir: "none", Image: "core", Machine: "b"}, nil},
		"no image minimal for the machine b":   {fault.BadInput, targets.Kernel{Dir: "deploy", Image: "minimal", Machine: "b"}, nil},
		"has no kernel":                        {fault.BadInput, targets.Kernel{Dir: "deploy", Image: "core", Machine: "b"}, []string{"deploy/Image-b.bin"}},
		"reading the manifest of image core-b": {fault.IO, targets.Kernel{Dir: "deploy", Image: "core", Machine: "b"}, []string{"deploy/modules-b.tgz", "deploy/core-b.rootfs.manifest"}},
	} {
		files := deployed(t)
		for _, name := range c.drop {
			delete(files, name)
		}
		l := product(t, files)
		c.kernel.Source = "yocto"
		source, err := Of(&targets.Target{Arch: targets.Arch{Go: "arm64"}, Kernel: &c.kernel})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := source.Tree(Kit{Layers: l}); fault.Of(err) != c.kind || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got kind %v: %v", want, fault.Of(err), err)
		}
	}
}
