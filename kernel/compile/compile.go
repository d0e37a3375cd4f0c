// Package compile compiles kernels: a step that takes the source of Linux, fragments of its
// configuration and patches, and runs the kernel's own build in a build root.
package compile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/internal/command"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filecopy"
	"github.com/pantavisor/pantavisor/kernel/kconfig"
)

// Machine is what the kernel's build calls an architecture.
type Machine struct {
	// Arch is make's ARCH, Directory that below arch/.
	Arch, Directory string
	// Triplet is CROSS_COMPILE without its last '-'.
	Triplet string
	// Goal is what make is asked for, Image is its path below the tree.
	Goal, Image string
	// ELF means that the machine is started with the ELF file, whose symbols are removed.
	ELF bool
	// Trees means that its boards have device trees.
	Trees bool
}

// Step compiles a kernel in a build root. Time, user and directory are the same on every
// machine, so that the same source gives the same bits. Its output is boot/ with the image and
// the configuration, dtbs/ and lib/modules/RELEASE without the indices of modules.
type Step struct {
	Machine Machine
	// Defconfig is the configuration of the tree that the fragments change, for example
	// multi_v7_defconfig. Without one, what no fragment asks for is off.
	Defconfig string `json:",omitempty"`
	// Fragments are in the order in which they apply.
	Fragments []Fragment
	// Patches are applied with patch -p1, in this order.
	Patches []build.Source `json:"-"`
	// Source is where the tree comes from.
	Source Origin            `json:"-"`
	Root   *debian.BuildRoot `json:"-"`
}

// Fragment is a part of the configuration.
type Fragment struct {
	// Since is the first version of Linux that it applies to, for example 6.8; empty for all.
	Since  string       `json:",omitempty"`
	Source build.Source `json:"-"`
}

// Order compares fragments by the versions that they are for.
func (f Fragment) Order(o Fragment) int { return parseVersion(f.Since).compare(parseVersion(o.Since)) }

// Origin is where the source of a kernel comes from.
type Origin interface {
	// Deps are the steps that it reads, Sources the files of the user.
	Deps() []build.Step
	Sources() ([]build.Source, error)
	// Unpack makes the tree in the directory linux of dir, which is [Step]'s /build.
	Unpack(ctx context.Context, c *Step, w *build.Work, dir string) error
}

var (
	_ build.Step       = (*Step)(nil)
	_ build.Sourced    = (*Step)(nil)
	_ build.Delegating = (*Step)(nil)
)

// Name is "kernel/compile".
func (c *Step) Name() string { return "kernel/compile" }

// Packages are those whose code decides how a kernel is compiled.
func (c *Step) Packages() []string { return []string{"kernel/compile", "kernel/kconfig"} }

// Deps are the build root and the source.
func (c *Step) Deps() []build.Step { return append([]build.Step{c.Root}, c.Source.Deps()...) }

// Sources are fragments, patches and, of a tree of the user, its files.
func (c *Step) Sources() ([]build.Source, error) {
	out, err := c.Source.Sources()
	for _, f := range c.Fragments {
		out = append(out, f.Source)
	}
	return append(out, c.Patches...), err
}

// epoch is the time of all files.
var epoch = time.Unix(build.Epoch, 0)

// Directories of the build: below /build in the build root.
const (
	treeDir = "linux"
	outDir  = "out"
	allFile = "all.config"
	// configFile is the configuration in the tree.
	configFile = treeDir + "/.config"
)

// Run compiles the kernel.
func (c *Step) Run(ctx context.Context, w *build.Work) error {
	dir := filepath.Join(w.Tmp, "build")
	if err := os.MkdirAll(filepath.Join(dir, treeDir), 0o755); err != nil {
		return fault.Wrap(fault.IO, err, "compiling the kernel")
	}
	if err := c.Source.Unpack(ctx, c, w, dir); err != nil {
		return err
	}
	if err := c.patch(ctx, w, dir); err != nil {
		return err
	}
	if err := c.configure(ctx, w, dir); err != nil {
		return err
	}
	goals := []string{c.Machine.Goal, "modules"}
	if c.Machine.Trees {
		goals = append(goals, "dtbs")
	}
	if err := c.make(ctx, w, dir, goals...); err != nil {
		return fault.Wrap(fault.BadInput, err, "compiling the kernel")
	}
	return c.install(ctx, w, dir)
}

// patch applies the patches.
func (c *Step) patch(ctx context.Context, w *build.Work, dir string) error {
	for i, p := range c.Patches {
		name := fmt.Sprintf("%d.patch", i)
		if err := filecopy.File(ctx, filepath.Join(dir, name), p.Path, 0o644); err != nil {
			return fault.Wrap(fault.IO, err, "copying %s", p.Name)
		}
		args := []string{"patch", "-p1", "--forward", "--no-backup-if-mismatch", "-d", treeDir, "-i", "/build/" + name}
		if err := c.run(ctx, w, dir, nil, args...); err != nil {
			return fault.Wrap(fault.BadInput, err, "applying %s", p.Name)
		}
	}
	return nil
}

// configure makes the .config and checks that it is what the fragments ask for.
func (c *Step) configure(ctx context.Context, w *build.Work, dir string) error {
	// What ran in the build root may have left links that lead out of it.
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fault.Wrap(fault.IO, err, "configuring the kernel")
	}
	defer root.Close()
	want, err := c.options(root)
	if err != nil {
		return err
	}
	if err := root.WriteFile(allFile, kconfig.Text(want), 0o644); err != nil {
		return fault.Wrap(fault.IO, err, "configuring the kernel")
	}
	if err := c.base(ctx, w, root, want); err != nil {
		return fault.Wrap(fault.BadInput, err, "configuring the kernel")
	}
	if err := c.make(ctx, w, dir, "olddefconfig"); err != nil {
		return fault.Wrap(fault.BadInput, err, "configuring the kernel")
	}
	config, err := root.ReadFile(configFile)
	if err != nil {
		return fault.Wrap(fault.IO, err, "configuring the kernel")
	}
	return c.compare(root, want, string(config))
}

// base makes the .config that olddefconfig completes.
func (c *Step) base(ctx context.Context, w *build.Work, root *os.Root, want []kconfig.Option) error {
	if c.Defconfig == "" {
		return c.make(ctx, w, root.Name(), "KCONFIG_ALLCONFIG=/build/"+allFile, "allnoconfig")
	}
	if err := c.make(ctx, w, root.Name(), c.Defconfig); err != nil {
		return err
	}
	f, err := root.OpenFile(configFile, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(kconfig.Text(want))
	return errors.Join(err, f.Close())
}

// options returns what the fragments for the tree's version ask for.
func (c *Step) options(root *os.Root) ([]kconfig.Option, error) {
	v, err := treeVersion(root)
	if err != nil {
		return nil, err
	}
	var all []kconfig.Option
	for _, f := range c.Fragments {
		if v.compare(parseVersion(f.Since)) < 0 {
			continue
		}
		text, err := os.ReadFile(f.Source.Path)
		if err != nil {
			return nil, fault.Wrap(fault.IO, err, "reading %s", f.Source.Name)
		}
		options, err := kconfig.Parse(f.Source.Name, string(text))
		if err != nil {
			return nil, err
		}
		all = append(all, options...)
	}
	return kconfig.Merge(all), nil
}

// compare fails when an option fell out.
func (c *Step) compare(root *os.Root, want []kconfig.Option, config string) error {
	lost, err := kconfig.Lost(want, config)
	if err != nil || len(lost) == 0 {
		return err
	}
	tree, err := fs.Sub(root.FS(), treeDir)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "reading the kernel's Kconfig files")
	}
	why, err := kconfig.Explain(tree, c.Machine.Directory, lost)
	if err != nil {
		return fault.Wrap(fault.IO, err, "reading the kernel's Kconfig files")
	}
	return fault.New(fault.BadInput, "configuring the kernel: %d options are not as the fragments ask for; add what they depend on, or take them out:\n%s", len(lost), why)
}

// environment is what makes the kernel the same on every machine (Linux:
// Documentation/kbuild/reproducible-builds.rst).
func environment() []string {
	at := epoch.UTC().Format("Mon Jan _2 15:04:05 UTC 2006")
	return []string{
		"KBUILD_BUILD_TIMESTAMP=" + at, "KBUILD_BUILD_USER=pantavisor", "KBUILD_BUILD_HOST=build", "KBUILD_BUILD_VERSION=1",
		"LOCALVERSION=",
	}
}

// make runs make in the tree.
func (c *Step) make(ctx context.Context, w *build.Work, dir string, args ...string) error {
	m := c.Machine
	all := []string{
		"make", "-C", treeDir, fmt.Sprintf("-j%d", runtime.GOMAXPROCS(0)),
		"ARCH=" + m.Arch, "CROSS_COMPILE=" + m.Triplet + "-", "INSTALL_MOD_STRIP=1", "DEPMOD=true",
		"INSTALL_MOD_PATH=/build/" + outDir, "INSTALL_DTBS_PATH=/build/" + outDir + "/dtbs",
	}
	return c.run(ctx, w, dir, &objects{work: w}, append(all, args...)...)
}

// run runs a program in the build root; said gets its standard output unless it is nil.
func (c *Step) run(ctx context.Context, w *build.Work, dir string, said *objects, argv ...string) error {
	// The program ends with the thread that starts it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd, err := c.Root.Command(ctx, w, dir, argv...)
	if err != nil {
		return err
	}
	cmd.Env = append(cmd.Env, environment()...)
	if said != nil {
		cmd.Stdout = said
	}
	err = debian.Started(command.Run(ctx, cmd, argv[0]))
	if fault.Of(err) == fault.IO { // it fails because of what it was given
		return fault.New(fault.BadInput, "%w", err)
	}
	return err
}

// objects counts the lines that make says of what it has made.
type objects struct {
	work *build.Work
	n    int64
}

// Write implements io.Writer.
func (o *objects) Write(p []byte) (int, error) {
	if n := bytes.Count(p, []byte("\n")); n > 0 {
		o.n += int64(n)
		o.work.Progress(o.n, 0, "files")
	}
	return len(p), nil
}

// install takes kernel, configuration, modules and device trees into the output.
func (c *Step) install(ctx context.Context, w *build.Work, dir string) error {
	goals := []string{"modules_install"}
	if c.Machine.Trees {
		goals = append(goals, "dtbs_install")
	}
	if err := c.make(ctx, w, dir, goals...); err != nil {
		return fault.Wrap(fault.BadInput, err, "installing the kernel")
	}
	image := path.Join(treeDir, c.Machine.Image)
	if c.Machine.ELF {
		if err := c.run(ctx, w, dir, nil, c.Machine.Triplet+"-strip", "-s", image); err != nil {
			return fault.Wrap(fault.BadInput, err, "installing the kernel")
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fault.Wrap(fault.IO, err, "installing the kernel")
	}
	defer root.Close()
	if err = c.boot(ctx, w.Out, root, image); err == nil {
		err = take(w.Out, root)
	}
	return fault.Wrap(fault.IO, err, "installing the kernel")
}

// boot makes boot/ of the output.
func (c *Step) boot(ctx context.Context, out string, root *os.Root, image string) error {
	found, err := fs.Glob(root.FS(), outDir+"/lib/modules/*")
	if err != nil || len(found) != 1 {
		return fault.New(fault.BadInput, "the kernel has no modules (CONFIG_MODULES): the runtime and containers need them")
	}
	release, name := path.Base(found[0]), "vmlinuz-"
	if c.Machine.ELF {
		name = "vmlinux-"
	}
	to := filepath.Join(out, "boot")
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	return errors.Join(
		copyFrom(ctx, filepath.Join(to, name+release), root, image),
		copyFrom(ctx, filepath.Join(to, "config-"+release), root, configFile))
}

// copyFrom copies a file below a root.
func copyFrom(ctx context.Context, to string, root *os.Root, name string) error {
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return filecopy.To(ctx, to, f, 0o644)
}

// take moves what was installed to the output, without links, and sets the times and modes.
func take(out string, root *os.Root) error {
	// A link in its place would lead the move elsewhere.
	info, err := root.Lstat(outDir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fault.New(fault.BadInput, "the kernel's build has put something in the place of its directory %s", outDir)
	}
	for _, name := range []string{"dtbs", "lib"} {
		err := os.Rename(filepath.Join(root.Name(), outDir, name), filepath.Join(out, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return filepath.WalkDir(out, func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil || e.IsDir():
			return err
		case !e.Type().IsRegular():
			return os.Remove(name)
		}
		return errors.Join(os.Chmod(name, 0o644), os.Chtimes(name, epoch, epoch))
	})
}

// version is that of a kernel's tree: VERSION and PATCHLEVEL.
type version [2]int

// treeVersion reads the version from a tree's Makefile.
func treeVersion(root *os.Root) (version, error) {
	text, err := root.ReadFile(treeDir + "/Makefile")
	if err != nil {
		return version{}, fault.Wrap(fault.BadInput, err, "reading the kernel's version")
	}
	var v version
	found := 0
	for line := range strings.Lines(string(text)) {
		for i, key := range []string{"VERSION = %d", "PATCHLEVEL = %d"} {
			if n, _ := fmt.Sscanf(line, key, &v[i]); n == 1 {
				found++
			}
		}
	}
	if found < len(v) {
		return version{}, fault.New(fault.BadInput, "reading the kernel's version: its Makefile has no VERSION and PATCHLEVEL: it is not the source of Linux")
	}
	return v, nil
}

// parseVersion reads a version such as 6.8; an empty text is the first of all.
func parseVersion(text string) version {
	var v version
	_, _ = fmt.Sscanf(text, "%d.%d", &v[0], &v[1])
	return v
}

// compare orders versions as [cmp.Compare] does.
func (v version) compare(o version) int { return slices.Compare(v[:], o[:]) }
