package compile_test

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/debian/partstest"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/kernel/compile"
)

// makefile has the goals of Linux's that a compilation uses. Its configuration tool drops the
// option LOST, as Linux's drops one whose dependencies are off. Linux itself takes a quarter of
// an hour; "mage boards" compiles and boots it.
const makefile = `VERSION = 6
PATCHLEVEL = 9
SUBLEVEL = 0
allnoconfig:
	cp $(KCONFIG_ALLCONFIG) .config
board_defconfig:
	echo CONFIG_DEFAULT=y > .config
olddefconfig:
	grep -v LOST .config > new; mv new .config
Image:
	$(CROSS_COMPILE)gcc -c -o main.o main.c
	test ! -e left
	echo "$(ARCH) $$KBUILD_BUILD_TIMESTAMP $$KBUILD_BUILD_USER@$$KBUILD_BUILD_HOST $(CURDIR)" > image
	od -A n -t x1 -j 5 -N 1 main.o >> image
modules dtbs:
modules_install:
	mkdir -p $(INSTALL_MOD_PATH)/lib/modules/6.9.0-pv
	touch $(INSTALL_MOD_PATH)/lib/modules/6.9.0-pv/modules.order
	ln -s /build $(INSTALL_MOD_PATH)/lib/modules/6.9.0-pv/build
dtbs_install:
	mkdir -p $(INSTALL_DTBS_PATH)
	echo tree > $(INSTALL_DTBS_PATH)/board.dtb
mrproper:
	rm -f left
`

const patch = "--- a/main.c\n+++ b/main.c\n@@ -1 +1 @@\n-int main(void) { return broken; }\n+int main(void) { return 0; }\n"

// tree writes the source.
func tree(t *testing.T) map[string]string {
	t.Helper()
	return map[string]string{
		"Makefile": makefile, "main.c": "int main(void) { return broken; }\n", "left": "", ".git/HEAD": "",
		"drivers/Kconfig": "config LOST\n\tbool \"lost\"\n\tdepends on NOTHING\n",
	}
}

func write(t *testing.T, dir string, files map[string]string) string {
	t.Helper()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestCompile runs compilations in the build root of a target.
func TestCompile(t *testing.T) {
	b := partstest.New(t, "malta-qemu-be", "toolchain")
	root, err := b.BuildRoot(b.Request("toolchain"), map[string]string{"usr/bin/awk": "mawk"})
	if err != nil {
		t.Fatal(err)
	}
	b.Run(root)
	dir := write(t, t.TempDir(), map[string]string{
		"base.config": "CONFIG_BASE=y\n# CONFIG_OFF is not set\nCONFIG_TWICE=\"a\"\n", "base-6.8.config": "CONFIG_NEW=y\n",
		"base-6.12.config": "CONFIG_NEWER=y\n", "mine.config": "CONFIG_TWICE=\"b c\"\n", "lost.config": "\nCONFIG_LOST=y\n", "a.patch": patch,
	})
	source := func(name string) build.Source { return build.Source{Name: name, Path: filepath.Join(dir, name)} }
	step := func(origin compile.Origin) *compile.Step {
		return &compile.Step{
			Machine: compile.Machine{Arch: "mips", Directory: "mips", Triplet: "mips-linux-gnu", Goal: "Image", Image: "image", Trees: true},
			Fragments: []compile.Fragment{
				{Source: source("base.config")}, {Since: "6.8", Source: source("base-6.8.config")},
				{Since: "6.12", Source: source("base-6.12.config")}, {Source: source("mine.config")},
			},
			Patches: []build.Source{source("a.patch")}, Source: origin, Root: root,
		}
	}
	own := compile.Tree{Name: "kernel.dir", Path: write(t, t.TempDir(), tree(t))}
	t.Run("tree", func(t *testing.T) { compiles(t, work(t, b.Work(root), nil, ""), step(own)) })
	t.Run("archive", func(t *testing.T) {
		part, files := &debian.Unpack{}, tree(t)
		delete(files, "left")
		compiles(t, work(t, b.Work(root), part, pack(t, files)), step(compile.Archive{Step: part, File: "linux.tar"}))
	})
	t.Run("defconfig", func(t *testing.T) {
		s := step(own)
		s.Defconfig = "board_defconfig"
		if got := config(t, b.Work(root), s); !strings.HasPrefix(got, "CONFIG_DEFAULT=y\nCONFIG_BASE=y\n") {
			t.Errorf("got %s", got)
		}
	})
	t.Run("links", func(t *testing.T) { links(t, b.Work(root), step) })
	t.Run("mistakes", func(t *testing.T) { mistakes(t, b.Work(root), step, own, source) })
}

// work returns a Work for a run of a compilation whose source is in a directory.
func work(t *testing.T, w *build.Work, part build.Step, dir string) *build.Work {
	t.Helper()
	return build.NewWork(t.TempDir(), t.TempDir(), func(s build.Step) string {
		if s == part {
			return dir
		}
		return w.In(s)
	}, nil)
}

func pack(t *testing.T, files map[string]string) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: "linux-6.9/" + name, Size: int64(len(text)), Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return write(t, t.TempDir(), map[string]string{"linux.tar": b.String()})
}

func config(t *testing.T, w *build.Work, s *compile.Step) string {
	t.Helper()
	w = work(t, w, nil, "")
	if err := s.Run(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(w.Out, "boot/config-6.9.0-pv"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// compiles: the result has the kernel, its configuration, its device trees and no link to the
// source; the compiler is that of the big-endian machine, and time, user and directory are fixed.
func compiles(t *testing.T, w *build.Work, s *compile.Step) {
	t.Helper()
	if err := s.Run(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	err := filepath.WalkDir(w.Out, func(name string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(w.Out, name)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(name)
		got[rel] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"boot/vmlinuz-6.9.0-pv":              "mips Wed Jan  1 00:00:00 UTC 2020 pantavisor@build /build/linux\n 02\n",
		"boot/config-6.9.0-pv":               "CONFIG_BASE=y\n# CONFIG_OFF is not set\nCONFIG_TWICE=\"b c\"\nCONFIG_NEW=y\n",
		"dtbs/board.dtb":                     "tree\n",
		"lib/modules/6.9.0-pv/modules.order": "",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// mistakes: each ends the compilation with what is wrong.
func mistakes(t *testing.T, w *build.Work, step func(compile.Origin) *compile.Step, own compile.Tree, source func(string) build.Source) {
	t.Helper()
	for name, c := range map[string]struct {
		change func(s *compile.Step)
		kind   fault.Kind
		want   string
	}{
		"an option that falls out": {
			func(s *compile.Step) {
				s.Fragments = append(s.Fragments, compile.Fragment{Source: source("lost.config")})
			},
			fault.BadInput, "CONFIG_LOST=y (lost.config:2): drivers/Kconfig:1 depends on NOTHING",
		},
		"a patch that does not apply": {
			func(s *compile.Step) { s.Patches = append(s.Patches, source("a.patch")) }, fault.BadInput, "applying a.patch",
		},
		"an error of the compiler": {func(s *compile.Step) { s.Patches = nil }, fault.BadInput, "main.c:1"},
		"not a kernel": {
			func(s *compile.Step) {
				s.Source = compile.Tree{Path: write(t, t.TempDir(), map[string]string{"Makefile": "mrproper:\n"})}
			},
			fault.BadInput, "it is not the source of Linux",
		},
		"a fragment with a mistake": {
			func(s *compile.Step) { s.Fragments[0].Source = source("a.patch") }, fault.BadInput, "a.patch:1",
		},
	} {
		s := step(own)
		if name == "not a kernel" {
			s.Patches = nil
		}
		c.change(s)
		err := s.Run(t.Context(), work(t, w, nil, ""))
		if fault.Of(err) != c.kind || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: kind %v: %v", name, fault.Of(err), err)
		}
	}
}

// links: what a build leaves in the place of our files and directories leads nowhere outside.
func links(t *testing.T, w *build.Work, step func(compile.Origin) *compile.Step) {
	t.Helper()
	outside := write(t, t.TempDir(), map[string]string{"config": "CONFIG_MINE=y\n", "lib/modules/mine/file": "mine"})
	for goal, do := range map[string]string{
		"board_defconfig": "ln -sf " + outside + "/config .config",
		"mrproper":        "ln -s " + outside + "/config /build/all.config",
		"modules_install": "rm -rf $(INSTALL_MOD_PATH); ln -s " + outside + " $(INSTALL_MOD_PATH)",
	} {
		files := tree(t)
		files["Makefile"] += goal + "::\n\t" + do + "\n"
		files["Makefile"] = strings.Replace(files["Makefile"], "\n"+goal+":\n", "\n"+goal+"::\n", 1)
		s := step(compile.Tree{Name: "kernel.dir", Path: write(t, t.TempDir(), files)})
		s.Defconfig, s.Machine.Trees = "board_defconfig", false
		if err := s.Run(t.Context(), work(t, w, nil, "")); err == nil || strings.Contains(err.Error(), "running make") {
			t.Errorf("%s: it went through a link, or did not come so far: %v", goal, err)
		}
	}
	for name, want := range map[string]string{"config": "CONFIG_MINE=y\n", "lib/modules/mine/file": "mine"} {
		if got, err := os.ReadFile(filepath.Join(outside, name)); err != nil || string(got) != want {
			t.Errorf("%s is now %q, %v", name, got, err)
		}
	}
}
