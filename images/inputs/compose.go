package inputs

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pantavisor/pantavisor/bootloader"
	"github.com/pantavisor/pantavisor/bootloader/loaders"
	"github.com/pantavisor/pantavisor/bootloader/uboot"
	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/images/layouts"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/kernel"
	"github.com/pantavisor/pantavisor/targets"
)

// maxToken bounds the file with a factory token, in bytes.
const maxToken = 64 << 10

// Inputs returns the inputs that package images composes. The list must have been read with all
// digests ([List.Digest]).
func (l *List) Inputs() (*images.Inputs, error) {
	in := &images.Inputs{
		Target: l.Target, Release: l.Release, Epoch: build.Stamp(l.Epoch), Packages: l.Packages,
		X86: l.Arch.Go == "amd64", Distinct: true,
		Board: l.board(), Support: l.Support.SBOM(),
	}
	if l.Runtime != nil {
		in.Runtime = l.program("runtime", *l.Runtime)
	}
	if l.Pipeline != nil {
		in.Pipeline = images.Pipeline(*l.Pipeline)
	}
	for _, o := range l.Outputs {
		if o != outputContainers {
			in.Outputs = append(in.Outputs, images.Output(o))
		}
	}
	l.kernel(in)
	if err := l.parts(in); err != nil {
		return nil, err
	}
	if err := l.config(in); err != nil {
		return nil, err
	}
	if err := l.mountable(&in.Config); err != nil {
		return nil, err
	}
	for i, d := range l.SBOM {
		in.Received = append(in.Received, images.Received{Name: d.Name, From: l.file(indexed("sbom", i), File{d.Path, d.SHA256})})
	}
	for i, d := range l.VEX {
		in.VEX = append(in.VEX, images.Received{Name: d.Name, From: l.file(indexed("vex", i), File{d.Path, d.SHA256})})
	}
	in.Signer = l.signer()
	l.install(in)
	return in, l.media(in)
}

// mountable checks that the runtime of this firmware mounts the containers with a hash tree: it
// has no handler for them, and without one starts them only when it is told to.
func (l *List) mountable(c *images.Config) error {
	i := slices.IndexFunc(l.Containers, func(c Container) bool { return c.Verity })
	if i < 0 || l.Runtime == nil {
		return nil
	}
	const key = "PV_SECUREBOOT_HANDLERS"
	value, err := c.Value(key)
	if err != nil || value == "0" {
		return err
	}
	return fault.New(fault.Unsupported, "%s.verity: the runtime has no handler for dm-verity, and would not start %s: set %s=0 in config.runtime, "+
		"so that it mounts the root file system itself", indexed("containers", i), l.Containers[i].Name, key)
}

func (l *List) board() images.Board {
	if l.Kernel == nil {
		return images.Board{}
	}
	b := images.Board{Name: l.Target, Arch: l.Arch.Go}
	if l.Board != nil {
		b.Name, b.Provides, b.Requires, b.Conflicts = cmp.Or(l.Board.Name, l.Target), l.Board.Provides, l.Board.Requires, l.Board.Conflicts
	}
	return b
}

// kernel adds the kernel and the addons of its initrd.
func (l *List) kernel(in *images.Inputs) {
	k := l.Kernel
	if k == nil {
		return
	}
	tree := &kernelTree{Release: k.Release, Image: l.file("kernel.image", k.Image)}
	if k.Config != nil {
		config := l.file("kernel.config", *k.Config)
		tree.Config = &config
	}
	if k.Modules != nil {
		tree.Modules = l.tree("kernel.modules", *k.Modules)
	}
	picked := &kernel.DeviceTrees{Tree: tree}
	add := func(at string, list []Named, names *[]string) {
		for i, d := range list {
			file := l.file(indexed(at, i), File{d.Path, d.SHA256})
			tree.Trees, *names = append(tree.Trees, images.DeviceTree{Name: d.Name, From: file}), append(*names, d.Name)
		}
	}
	add("kernel.device_trees", k.DeviceTrees, &picked.Files)
	add("kernel.overlays", k.Overlays, &picked.Overlays)
	in.Kernel = &images.Kernel{
		Image: images.Artefact{Step: &kernel.Image{Tree: tree}, File: kernel.ImageFile}, Tree: images.Artefact{Step: tree},
		EarlyModules: k.EarlyModules, Firmware: l.firmware(),
	}
	for _, name := range picked.Files {
		in.Kernel.DeviceTrees = append(in.Kernel.DeviceTrees, images.DeviceTree{Name: name, From: images.Artefact{Step: picked, File: name}})
	}
	if l.fit() {
		in.Kernel.FIT = &images.FITForm{Arch: uboot.FITArch(l.Arch.Go), Kernel: uint64(l.Bootloader.Addresses.Kernel)}
	}
	if k.SBOM != nil {
		given := l.file("kernel.sbom", *k.SBOM)
		in.BSPSBOM = &given
	}
	l.addons(in)
}

func (l *List) firmware() *images.Firmware {
	f := l.Kernel.Firmware
	if f == nil {
		return nil
	}
	out := &images.Firmware{Exclude: f.Exclude, Budget: f.Budget}
	for i, t := range f.Trees {
		out.Trees = append(out.Trees, images.Artefact{Step: l.tree(indexed("kernel.firmware.trees", i), t)})
	}
	return out
}

func (l *List) addons(in *images.Inputs) {
	for i, a := range l.Addons {
		name := images.AddonFile(a.Name)
		from := images.Artefact{File: name}
		if a.Directory != nil {
			source := &build.Source{Name: "addons/" + a.Name, Path: l.place(a.Directory.Path)}
			from.Step = &images.FilesAddon{Label: a.Name, X86: in.X86, Epoch: in.Epoch, Directory: source}
		} else {
			from = l.file(indexed("addons", i)+".archive", *a.Archive)
		}
		in.Addons = append(in.Addons, images.Addon{From: from, Name: name})
	}
}

// parts adds exports and containers.
func (l *List) parts(in *images.Inputs) error {
	for i, e := range l.Exports {
		step := &exportStep{Input: indexed("exports", i), SHA256: e.SHA256, path: l.place(e.Path)}
		in.Containers = append(in.Containers, images.Artefact{Step: step})
	}
	for i, c := range l.Containers {
		step := &containerStep{Input: indexed("containers", i) + ".root", Container: c, Arch: l.Arch, Epoch: in.Epoch, path: l.place(c.Root.Path)}
		step.Container.Root.Path = ""
		if err := l.besides(step); err != nil {
			return fault.Wrap(fault.BadInput, err, "reading %s", indexed("containers", i))
		}
		in.Containers = append(in.Containers, images.Artefact{Step: step})
	}
	return nil
}

// config adds the files of configuration.
func (l *List) config(in *images.Inputs) error {
	c := l.Config
	in.Config = images.Config{
		Runtime: *l.source("pantavisor.config", &Directory{Path: c.Runtime.Path}), Hub: *l.source("pantahub.config", &Directory{Path: c.Hub.Path}),
		Defaults: *l.source("defaults", &c.Defaults), Skel: l.source("skel", c.Skel), Stepskel: l.source("stepskel", c.Stepskel),
	}
	if c.Image != nil {
		in.Config.Image = l.source("image.config", &Directory{Path: c.Image.Path})
	}
	for _, s := range c.Settings {
		in.Config.Derived = append(in.Config.Derived, images.Setting{Key: s.Key, Value: s.Value})
	}
	for _, t := range c.Trust {
		in.Config.Trust = append(in.Config.Trust, build.Source{Name: t.Name, Path: l.place(t.Path)})
	}
	if c.FactoryToken == nil {
		return nil
	}
	text, err := bounded.ReadRegular(l.place(c.FactoryToken.Path), maxToken)
	token := strings.TrimSpace(string(text))
	if err == nil && strings.ContainsFunc(token, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }) {
		err = errors.New("it has more than one line, or characters that cannot be printed")
	}
	in.FactoryToken = images.Secret(token)
	return origin{"config.factory_token", c.FactoryToken.Path, "a file with one line, the token"}.wrong(err)
}

// source is a file or directory that a step reads where it is.
func (l *List) source(name string, d *Directory) *build.Source {
	if d == nil {
		return nil
	}
	return &build.Source{Name: name, Path: l.place(d.Path)}
}

// media adds layouts and boot loader.
func (l *List) media(in *images.Inputs) error {
	t := l.target()
	for _, im := range t.Images {
		in.Layouts = append(in.Layouts, layouts.Of(im))
	}
	b := l.Bootloader
	if b == nil {
		return nil
	}
	if b.Type != "" {
		in.Config.Derived = append(in.Config.Derived, layouts.Settings(t, false)...) // which are in the initrd, of which some loaders make files
		loader, err := loaders.For(t)
		if err == nil {
			in.Loader, err = layouts.Loader(loader, in.Layouts, l.kit(t, in))
		}
		if err != nil {
			return err
		}
	}
	l.loaderFiles(in)
	return nil
}

// loaderFiles adds what the list has for the media.
func (l *List) loaderFiles(in *images.Inputs) {
	b := l.Bootloader
	for i, t := range b.Trees {
		step := l.directory(indexed("bootloader.trees", i), t.Path, t.SHA256)
		in.Loader.Files = append(in.Loader.Files, images.RoleFiles{Role: t.Role, Tree: images.Artefact{Step: step}})
	}
	for i, f := range b.Files {
		file := l.file(indexed("bootloader.files", i), File{f.Path, f.SHA256})
		step := bootloader.NewCopy(f.To, bootloader.File{Step: file.Step, Path: file.File})
		in.Loader.Files = append(in.Loader.Files, images.RoleFiles{Role: cmp.Or(f.Role, "boot"), Tree: images.Artefact{Step: step}})
	}
	t := l.target()
	for i, o := range b.Blobs {
		if len(in.Layouts) == 0 {
			break
		}
		m := layouts.With(in.Layouts, o.Partition)
		given := t.Bootloader.Blobs[i]
		m.Blobs = append(m.Blobs, images.Blob{
			Name: o.Name, File: l.file(indexed("bootloader.blobs", i), File{o.Path, o.SHA256}), Skip: int64(o.Skip), Length: int64(o.Length), Swap: o.Swap,
			Partition: o.Partition, Offset: int64(given.Where()), Max: int64(t.BlobMax(given)),
		})
	}
	if b.State != nil {
		in.Loader.State = &images.Artefact{Step: l.directory("bootloader.state", b.State.Path, b.State.SHA256)}
	}
	if b.Slot != nil {
		in.Loader.Slot = &images.Slot{Role: b.Slot.Role, Key: b.Slot.Key, File: b.Slot.File}
	}
}

// kit returns what a boot loader makes its steps from.
func (l *List) kit(t *targets.Target, in *images.Inputs) bootloader.Kit {
	kit := bootloader.Kit{Epoch: in.Epoch, Files: t.Bootloader.Files, Package: l.content}
	if in.Kernel == nil {
		return kit
	}
	file := func(a images.Artefact) bootloader.File { return bootloader.File{Step: a.Step, Path: a.File} }
	kit.BSP = &bootloader.BSP{Kernel: file(in.Kernel.Image), Tree: in.Kernel.Tree.Step}
	for _, archive := range in.Initrd() {
		kit.BSP.Initrd = append(kit.BSP.Initrd, file(archive))
	}
	if fit := in.FIT(); fit != nil {
		one := file(*fit)
		kit.BSP.FIT = &one
	}
	return kit
}

// content returns the step with the content of a package that a loader needs.
func (l *List) content(name string, keep ...string) (build.Step, error) {
	for i, p := range l.Bootloader.Packages {
		if p.Name == name {
			if err := l.has(indexed("bootloader.packages", i), p, keep); err != nil {
				return nil, err
			}
			step := l.directory(indexed("bootloader.packages", i), p.Path, p.SHA256)
			step.Place = p.Place
			return step, nil
		}
	}
	return nil, fault.New(fault.Missing, "bootloader.packages: the loader %s needs the content of the package %s, of it %s: name a directory with it",
		l.Bootloader.Type, name, strings.Join(keep, ", "))
}

// has checks that the content of a package has the paths that a loader takes files from.
func (l *List) has(field string, p Package, paths []string) error {
	for _, name := range paths {
		if _, err := os.Stat(filepath.Join(l.place(p.Path), filepath.FromSlash(name))); err != nil {
			return origin{field, p.Path, wants(field, "directory")}.wrong(err)
		}
	}
	return nil
}

// target describes board, media and boot loader as a target, for the packages that know
// targets.
func (l *List) target() *targets.Target {
	t := &targets.Target{Name: l.Target, Definition: l.Target, Description: l.Target, Arch: l.Arch, Images: l.Images, Parts: map[string]targets.Part{}}
	if k := l.Kernel; k != nil {
		t.Kernel = &targets.Kernel{Source: "files", Arguments: k.Arguments, Format: k.Format}
		for _, d := range k.DeviceTrees {
			t.Kernel.DeviceTrees = append(t.Kernel.DeviceTrees, d.Name)
		}
	}
	b := l.Bootloader
	if b == nil {
		return t
	}
	t.Bootloader = &targets.Bootloader{Type: b.Type, Addresses: b.Addresses, Timeout: b.Timeout}
	t.Parts[given] = targets.Part{}
	for _, f := range b.Files {
		t.Bootloader.Files = append(t.Bootloader.Files, targets.File{To: f.To, Part: given, Role: f.Role})
	}
	for _, o := range b.Blobs {
		t.Bootloader.Blobs = append(t.Bootloader.Blobs, targets.Blob{
			Name: o.Name, Part: given, Skip: o.Skip, Length: o.Length, Swap: o.Swap, Sector: o.Sector, Offset: o.Offset, Partition: o.Partition, Max: o.Max,
		})
	}
	if l.Tezi != nil {
		t.Tezi = &targets.Tezi{}
		for _, m := range l.Tezi.Modules {
			t.Tezi.Modules = append(t.Tezi.Modules, m.target())
		}
	}
	return t
}
