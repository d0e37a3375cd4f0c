// Package kernel makes the kernel's parts of a BSP: the kernel image, its modules with
// the index files that modprobe reads, the early module set of the initrd, the firmware
// files that modules name, and a check of the kernel's configuration.
//
// All steps read the tree of a kernel, wherever it comes from: the kernel image and its
// configuration in boot/ (vmlinuz-RELEASE or vmlinux-RELEASE, config-RELEASE), device
// trees, if any, in dtbs/, lib/modules/RELEASE, and [indexFile]. Package sources provides
// such trees; a new source goes there.
//
// Debian's packages have no modules.dep, so dependencies are read from the modules
// themselves ([Scan]).
package kernel

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filecopy"
)

// epoch is the time of all files.
var epoch = time.Unix(build.Epoch, 0)

// IndexTree completes the tree of a kernel: to a directory with boot/ and
// lib/modules/RELEASE it adds the files that depmod writes and [indexFile]. The step of a
// source calls it last.
func IndexTree(tree string) error {
	dir, err := releaseDir(tree)
	if err != nil {
		return err
	}
	x, err := Scan(dir)
	if err != nil {
		return err
	}
	if err := x.WriteFiles(dir); err != nil {
		return err
	}
	return writeJSON(filepath.Join(tree, indexFile), x)
}

// ReleaseForm is what a release of a kernel looks like (uname -r): it is the name of a directory.
var ReleaseForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~-]{0,63}$`)

// Release returns the release of the kernel in a tree.
func Release(tree string) (string, error) {
	dir, err := releaseDir(tree)
	return filepath.Base(dir), err
}

// releaseDir returns the only directory in lib/modules.
func releaseDir(tree string) (string, error) {
	found, err := filepath.Glob(filepath.Join(tree, "lib/modules", "*"))
	if err != nil || len(found) != 1 {
		return "", fault.New(fault.BadInput, "looking for the kernel's modules: %d directories in lib/modules, want 1", len(found))
	}
	return found[0], nil
}

func writeJSON(file string, value any) error {
	data, err := json.MarshalIndent(value, "", " ")
	if err != nil {
		return fault.Wrap(fault.Internal, err, "writing %s", filepath.Base(file))
	}
	return fault.Wrap(fault.IO, os.WriteFile(file, append(data, '\n'), 0o644), "writing %s", filepath.Base(file))
}

// Image is the step that picks the kernel image, as packaged. Its output is
// [ImageFile].
type Image struct {
	Tree build.Step `json:"-"`
}

// ImageFile is the kernel's name in the BSP.
const ImageFile = "kernel.img"

var _ build.Step = (*Image)(nil)

// Name is "kernel/image".
func (i *Image) Name() string { return "kernel/image" }

// Deps is the kernel's tree.
func (i *Image) Deps() []build.Step { return []build.Step{i.Tree} }

// Run copies boot/vmlinuz-<release>, or vmlinux on architectures that boot it.
func (i *Image) Run(ctx context.Context, w *build.Work) error {
	from, err := imageOf(w.In(i.Tree))
	if err != nil {
		return err
	}
	return fault.Wrap(fault.IO, copyFile(ctx, filepath.Join(w.Out, ImageFile), from), "copying the kernel image")
}

// imageOf returns the path of the kernel image in a kernel's tree.
func imageOf(tree string) (string, error) {
	for _, pattern := range []string{"boot/vmlinuz-*", "boot/vmlinux-*"} {
		found, err := filepath.Glob(filepath.Join(tree, pattern))
		if err != nil {
			return "", fault.Wrap(fault.Internal, err, "looking for the kernel image")
		}
		if len(found) == 1 {
			return found[0], nil
		}
	}
	return "", fault.New(fault.BadInput, "looking for the kernel image: the package has no boot/vmlinuz-<release>")
}

// copyFile copies a file and sets the copy's time to the epoch.
func copyFile(ctx context.Context, to, from string) error {
	if err := filecopy.File(ctx, to, from, 0o644); err != nil {
		return err
	}
	return os.Chtimes(to, epoch, epoch)
}

// Early is the step that collects the modules that the initrd loads before it can
// reach the storage. Its output is the initrd's lib/modules/<release>: the modules,
// uncompressed, the text index restricted to them, and [earlyFile].
type Early struct {
	// Modules are the wanted names, as for modprobe. All their dependencies are included.
	Modules []string
	// Use says what the modules are for, where that is not the initrd of the BSP.
	Use  string     `json:",omitempty"`
	Tree build.Step `json:"-"`
}

// earlyFile lists the paths of the early modules, relative to its directory, one per line
// in the order of loading.
const earlyFile = "modules.early"

var (
	_ build.Step      = (*Early)(nil)
	_ build.Versioned = (*Early)(nil)
)

// Name is "kernel/early", with a use "kernel/early/USE".
func (e *Early) Name() string { return path.Join("kernel/early", e.Use) }

// Version of the step's logic.
func (e *Early) Version() int { return 1 }

// Deps is the kernel's tree.
func (e *Early) Deps() []build.Step { return []build.Step{e.Tree} }

// Run copies the modules and writes the index.
func (e *Early) Run(ctx context.Context, w *build.Work) error {
	x, err := readIndex(w.In(e.Tree))
	if err != nil {
		return err
	}
	set, _, err := x.Closure(e.Modules)
	if err != nil {
		return err
	}
	if e.Use == "" {
		for _, text := range x.missing(set) {
			w.Warn(text)
		}
	}
	from := filepath.Join(w.In(e.Tree), "lib/modules", x.Release)
	to := filepath.Join(w.Out, "lib/modules", x.Release)
	early := &Index{Release: x.Release, Builtin: x.Builtin}
	var order bytes.Buffer
	for _, m := range set {
		plain := *m
		plain.Path = strings.TrimSuffix(strings.TrimSuffix(m.Path, ".xz"), ".zst")
		if err := copyModule(ctx, filepath.Join(from, m.Path), filepath.Join(to, plain.Path)); err != nil {
			return fault.Wrap(fault.IO, err, "copying module %s", m.Name)
		}
		order.WriteString(plain.Path + "\n")
		early.Modules = append(early.Modules, plain)
	}
	return early.writeEarly(to, order.Bytes())
}

// mountModules are what the initrd mounts a revision's modules with: others are in there. One
// of each is enough.
var mountModules = [][]string{{"ext4", "ubifs"}, {"loop"}, {"squashfs"}}

// missing says which of mountModules are neither built in nor in a set of early modules. What
// the kernel does not have at all is told by [ConfigCheck].
func (x *Index) missing(set []*Module) []string {
	var out []string
	for _, names := range mountModules {
		there := func(name string) bool {
			return x.IsBuiltin(name) || slices.ContainsFunc(set, func(m *Module) bool { return m.Name == name })
		}
		if x.Module(names[0]) != nil && !slices.ContainsFunc(names, there) {
			out = append(out, fmt.Sprintf("the initrd has no module %s, and the kernel has it not built in: the device cannot mount its storage or what is in it; "+
				"add it to kernel.early_modules", strings.Join(names, " or ")))
		}
	}
	return out
}

// writeEarly writes the files that the module loader of the initrd reads; nothing there
// reads the large .bin files.
func (x *Index) writeEarly(dir string, order []byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fault.Wrap(fault.IO, err, "writing the early modules")
	}
	dep, _ := x.dependencies()
	alias, _ := x.aliases()
	files := map[string][]byte{
		earlyFile: order, "modules.dep": dep, "modules.alias": alias, "modules.softdep": x.softdeps(),
		"modules.builtin": []byte(strings.Join(x.Builtin, "\n") + "\n"),
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return fault.Wrap(fault.IO, err, "writing the early modules")
		}
	}
	return nil
}

// copyModule writes the decompressed module.
func copyModule(ctx context.Context, from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if strings.HasSuffix(from, ".ko") {
		return copyFile(ctx, to, from)
	}
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := unpackModule(from, f)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o644)
}

// Modules is the step that makes modules.squashfs: the content of lib/modules with the
// release's directory. Its output is [ModulesFile].
type Modules struct {
	Compression
	// Epoch is the time of all files.
	Epoch build.Stamp
	Tree  build.Step `json:"-"`
}

// ModulesFile is the name of the modules' file system in the BSP.
const ModulesFile = "modules.squashfs"

var (
	_ build.Step      = (*Modules)(nil)
	_ build.Large     = (*Modules)(nil)
	_ build.Versioned = (*Modules)(nil)
)

// Name is "kernel/modules".
func (m *Modules) Name() string { return "kernel/modules" }

// Version of the step's logic.
func (m *Modules) Version() int { return 2 }

// Memory is that for a squashfs.
func (*Modules) Memory() int64 { return squashMemory }

// Deps is the kernel's tree.
func (m *Modules) Deps() []build.Step { return []build.Step{m.Tree} }

// Run writes the file system.
func (m *Modules) Run(ctx context.Context, w *build.Work) error {
	from := filepath.Join(w.In(m.Tree), "lib/modules")
	return squash(ctx, from, filepath.Join(w.Out, ModulesFile), m.Compression, m.Epoch)
}
