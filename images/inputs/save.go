package inputs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/kernel"
	"github.com/pantavisor/pantavisor/revision/fragment"
	"github.com/pantavisor/pantavisor/sbom/part"
	"github.com/pantavisor/pantavisor/targets"
)

// ListFile is the name of a list in a directory of inputs, and beside the results of a
// composition.
const ListFile = "inputs.json"

// Needed returns the steps whose outputs [Save] reads.
func Needed(in *images.Inputs) []build.Step {
	out := []build.Step{in.Runtime.Step}
	if k := in.Kernel; k != nil {
		out = append(out, k.Image.Step, k.Tree.Step)
		for _, d := range k.DeviceTrees {
			out = append(out, d.From.Step)
		}
		if k.Firmware != nil {
			for _, t := range k.Firmware.Trees {
				out = append(out, t.Step)
			}
		}
	}
	for _, a := range in.Addons {
		out = append(out, a.From.Step)
	}
	for _, c := range in.Containers {
		out = append(out, c.Step, in.SBOMOf(c.Step))
	}
	if bsp := in.BSP(); bsp != nil {
		out = append(out, in.SBOMOf(bsp))
	}
	for _, v := range in.VEX {
		out = append(out, v.From.Step)
	}
	return append(out, onMedia(in)...)
}

// onMedia returns the steps of what is on media besides the revision.
func onMedia(in *images.Inputs) []build.Step {
	var out []build.Step
	for _, f := range in.Loader.Files {
		out = append(out, f.Tree.Step)
	}
	for _, l := range in.Layouts {
		for _, b := range l.Blobs {
			out = append(out, b.File.Step)
		}
	}
	if in.Loader.State != nil {
		out = append(out, in.Loader.State.Step)
	}
	if i := in.Installer; i != nil {
		out = append(out, i.Program.Step, i.Files.Step)
	}
	if in.Tezi != nil {
		for _, m := range in.Tezi.Modules {
			for _, b := range m.Blobs {
				out = append(out, b.File.Step)
			}
		}
	}
	return out
}

// Save writes all inputs of a firmware into an empty directory, with a list of them, so that
// they can be composed elsewhere: the result is the same, bit by bit. made returns the output
// of a step of [Needed].
func Save(ctx context.Context, in *images.Inputs, arch targets.Arch, made func(build.Step) string, dir string) error {
	s := &saving{ctx: ctx, in: in, made: made, dir: dir, list: &List{
		Spec: Spec, Target: in.Target, Release: in.Release, Epoch: int64(in.Epoch), Arch: arch, Packages: in.Packages, dir: dir,
	}}
	for _, o := range in.Outputs {
		s.list.Outputs = append(s.list.Outputs, string(o))
	}
	if p := Pipeline(in.Pipeline); p != (Pipeline{}) {
		s.list.Pipeline = &p
	}
	if u := targets.Support(in.Support); u != (targets.Support{}) {
		s.list.Support = &u
	}
	for _, step := range []func() error{s.runtime, s.kernel, s.addons, s.containers, s.config, s.media, s.installer, s.tezi, s.statements} {
		if err := step(); err != nil {
			return fault.Wrap(fault.IO, err, "saving the inputs of %s", in.Target)
		}
	}
	if err := s.list.Digest(ctx); err != nil {
		return err
	}
	return s.list.Write(filepath.Join(dir, ListFile))
}

// saving is a directory of inputs in the making.
type saving struct {
	ctx  context.Context //nolint:containedctx // of one call
	in   *images.Inputs
	made func(build.Step) string
	dir  string
	list *List
}

// from returns where an artefact is.
func (s *saving) from(a images.Artefact) string {
	return filepath.Join(s.made(a.Step), filepath.FromSlash(a.File))
}

// file copies a file and returns its path for the list.
func (s *saving) file(to, from string) (File, error) {
	dst := filepath.Join(s.dir, to)
	if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
		return File{}, err
	}
	return File{Path: to}, build.CopyFile(s.ctx, dst, from)
}

// tree copies a directory.
func (s *saving) tree(to, from string) (Directory, error) {
	dst := filepath.Join(s.dir, to)
	if err := os.MkdirAll(dst, 0o755); err != nil {
		return Directory{}, err
	}
	return Directory{Path: to}, build.CopyTree(s.ctx, dst, from)
}

func (s *saving) runtime() error {
	if s.in.Kernel == nil && !slices.Contains(s.in.Outputs, images.OutputAppEngine) {
		return nil
	}
	f, err := s.file("runtime", s.from(s.in.Runtime))
	s.list.Runtime = &f
	return err
}

func (s *saving) statements() error {
	for _, v := range s.in.VEX {
		f, err := s.file("vex/"+v.Name, s.from(v.From))
		if err != nil {
			return err
		}
		s.list.VEX = append(s.list.VEX, Named{Name: v.Name, Path: f.Path})
	}
	return nil
}

func (s *saving) kernel() error {
	k := s.in.Kernel
	if k == nil {
		return nil
	}
	b := s.in.Board
	s.list.Board = &Board{Name: b.Name, Provides: b.Provides, Requires: b.Requires, Conflicts: b.Conflicts}
	tree := s.from(k.Tree)
	image, err := s.file("kernel/image", s.from(k.Image))
	if err != nil {
		return err
	}
	s.list.Kernel = &Kernel{Image: image, EarlyModules: k.EarlyModules}
	made, err := fragment.Read(s.made(s.in.SBOMOf(s.in.BSP())))
	if err != nil {
		return err
	}
	if sum, ok := made.Object(part.Key("bsp")); ok {
		from := filepath.Join(s.made(s.in.SBOMOf(s.in.BSP())), fragment.Objects, sum)
		bill, err := s.file("kernel/sbom.spdx.zst", from)
		if err != nil {
			return err
		}
		s.list.Kernel.SBOM = &bill
	}
	if k.FIT != nil {
		s.list.Kernel.Format = "FIT"
	}
	if err := s.modules(tree); err != nil {
		return err
	}
	for i, d := range k.DeviceTrees {
		f, err := s.file(filepath.Join("kernel/dtbs", filepath.FromSlash(d.Name)), s.from(k.DeviceTrees[i].From))
		if err != nil {
			return err
		}
		s.list.Kernel.DeviceTrees = append(s.list.Kernel.DeviceTrees, Named{Name: d.Name, Path: f.Path})
	}
	return s.firmware()
}

func (s *saving) modules(tree string) error {
	modules, err := s.tree("kernel/modules/lib/modules", filepath.Join(tree, "lib/modules"))
	if err != nil {
		return err
	}
	modules.Path = "kernel/modules"
	s.list.Kernel.Modules = &Tree{Form: "directory", Path: modules.Path}
	release, err := kernel.Release(tree)
	if err != nil {
		return err
	}
	config, err := s.file("kernel/config", filepath.Join(tree, "boot/config-"+release))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	s.list.Kernel.Config = &config
	return err
}

// firmware copies the directories in which firmware is looked up.
func (s *saving) firmware() error {
	f := s.in.Kernel.Firmware
	if f == nil {
		return nil
	}
	out := &Firmware{Budget: f.Budget, Exclude: f.Exclude}
	for i, t := range f.Trees {
		to := fmt.Sprintf("kernel/firmware/%d", i)
		for _, place := range kernel.FirmwarePaths {
			from := filepath.Join(s.from(t), place)
			if _, err := os.Stat(from); err != nil {
				continue
			}
			if _, err := s.tree(filepath.Join(to, place), from); err != nil {
				return err
			}
		}
		out.Trees = append(out.Trees, Tree{Form: "directory", Path: to})
	}
	s.list.Kernel.Firmware = out
	return nil
}

func (s *saving) addons() error {
	for _, a := range s.in.Addons {
		f, err := s.file("addons/"+a.Name, s.from(a.From))
		if err != nil {
			return err
		}
		s.list.Addons = append(s.list.Addons, Addon{Name: images.AddonLabel(a.Name), Archive: &f})
	}
	return nil
}

// containers writes an export of each container.
func (s *saving) containers() error {
	for i, c := range s.in.Containers {
		to := fmt.Sprintf("exports/%d.pvr.tgz", i)
		if err := os.MkdirAll(filepath.Join(s.dir, "exports"), 0o755); err != nil {
			return err
		}
		tmp := filepath.Join(s.dir, "exports", "tmp")
		err := images.ExportPart(s.ctx, filepath.Join(s.dir, to), tmp, s.in.Epoch, s.from(c), s.made(s.in.SBOMOf(c.Step)))
		if err = errors.Join(err, os.RemoveAll(tmp)); err != nil {
			return err
		}
		s.list.Exports = append(s.list.Exports, File{Path: to})
	}
	return nil
}

func (s *saving) config() (err error) {
	c, out := s.in.Config, &s.list.Config
	if out.Runtime, err = s.file("config/pantavisor.config", c.Runtime.Path); err != nil {
		return err
	}
	if out.Hub, err = s.file("config/pantahub.config", c.Hub.Path); err != nil {
		return err
	}
	if c.Image != nil {
		f, err := s.file("config/image.config", c.Image.Path)
		if err != nil {
			return err
		}
		out.Image = &f
	}
	for _, d := range c.Derived {
		out.Settings = append(out.Settings, Setting{Key: d.Key, Value: d.Value})
	}
	for name, d := range map[string]struct {
		from *build.Source
		to   func(*Directory)
	}{
		"defaults": {&c.Defaults, func(d *Directory) { out.Defaults = *d }},
		"skel":     {c.Skel, func(d *Directory) { out.Skel = d }},
		"stepskel": {c.Stepskel, func(d *Directory) { out.Stepskel = d }},
	} {
		if err := s.source("config/"+name, d.from, d.to); err != nil {
			return err
		}
	}
	return s.trust()
}

// source copies the directories that a source consists of, each over those below it.
func (s *saving) source(to string, from *build.Source, set func(*Directory)) error {
	if from == nil {
		return nil
	}
	for _, dir := range from.Dirs() {
		if _, err := s.tree(to, dir); err != nil {
			return err
		}
	}
	set(&Directory{Path: to})
	return nil
}

func (s *saving) trust() error {
	for _, t := range s.in.Config.Trust {
		f, err := s.file("trust/"+t.Name, t.Path)
		if err != nil {
			return err
		}
		s.list.Config.Trust = append(s.list.Config.Trust, Named{Name: t.Name, Path: f.Path})
	}
	if s.in.FactoryToken == "" {
		return nil
	}
	to := "config/factory_token"
	s.list.Config.FactoryToken = &File{Path: to}
	return os.WriteFile(filepath.Join(s.dir, to), []byte(s.in.FactoryToken), 0o600)
}

// media copies what the boot loader has on the media.
func (s *saving) media() error {
	for _, l := range s.in.Layouts {
		s.list.Images = append(s.list.Images, imageOf(l))
	}
	loader := s.in.Loader
	if len(s.in.Layouts) == 0 && loader.State == nil {
		return nil
	}
	out := &Bootloader{}
	s.list.Bootloader = out
	if k := s.in.Kernel; k != nil && k.FIT != nil {
		out.Addresses = &targets.Addresses{Kernel: int64(k.FIT.Kernel)}
	}
	for i, f := range loader.Files {
		d, err := s.tree(fmt.Sprintf("loader/%s-%d", f.Role, i), s.from(f.Tree))
		if err != nil {
			return err
		}
		out.Trees = append(out.Trees, BootTree{Role: f.Role, Path: d.Path})
	}
	if err := s.blobs(out); err != nil {
		return err
	}
	if loader.Slot != nil {
		out.Slot = &Slot{Role: loader.Slot.Role, Key: loader.Slot.Key, File: loader.Slot.File}
	}
	if loader.State == nil {
		return nil
	}
	d, err := s.tree("loader/state", s.from(*loader.State))
	out.State = &d
	return err
}

func (s *saving) blobs(out *Bootloader) error {
	for _, l := range s.in.Layouts {
		for i, b := range l.Blobs {
			f, err := s.file(fmt.Sprintf("loader/blob-%d-%s", i, b.Name), s.from(b.File))
			if err != nil {
				return err
			}
			blob := Blob{
				Name: b.Name, Path: f.Path, Skip: targets.Size(b.Skip), Length: targets.Size(b.Length), Swap: b.Swap,
				Partition: b.Partition, Max: targets.Size(b.Max),
			}
			if b.Partition == "" {
				offset := targets.Size(b.Offset)
				blob.Offset = &offset
			}
			out.Blobs = append(out.Blobs, blob)
		}
	}
	return nil
}

// installer copies what an installation medium has of its own.
func (s *saving) installer() error {
	i := s.in.Installer
	if i == nil || !slices.Contains(s.in.Outputs, images.OutputInstaller) {
		return nil
	}
	if len(i.Blobs) > 0 {
		return fault.New(fault.Unsupported, "a list has no blobs outside of the partition of an installation medium")
	}
	program, err := s.file("installer/program", s.from(i.Program))
	if err != nil {
		return err
	}
	files, err := s.tree("installer/tree", s.from(i.Files))
	s.list.Installer = &Installer{File: i.File, Size: i.Size, Program: program, Tree: files}
	return err
}

// tezi copies the stages of boot loaders for the Easy Installer.
func (s *saving) tezi() error {
	if s.in.Tezi == nil || !slices.Contains(s.in.Outputs, images.OutputTezi) {
		return nil
	}
	s.list.Tezi = &Tezi{Name: s.in.Tezi.Name}
	for _, m := range s.in.Tezi.Modules {
		out := TeziModule{Name: m.Name, Products: m.Products, Volume: m.Volume, Environment: m.Environment}
		if m.NAND {
			out.Flash = "nand"
		}
		for _, b := range m.Blobs {
			f, err := s.file(path.Join("tezi", m.Name, path.Base(b.File.File)), s.from(b.File))
			if err != nil {
				return err
			}
			blob := TeziBlob{Name: b.Name, Path: f.Path, Partition: b.Partition}
			if b.Partition == "" {
				sector := b.Sector
				blob.Sector = &sector
			}
			out.Blobs = append(out.Blobs, blob)
		}
		s.list.Tezi.Modules = append(s.list.Tezi.Modules, out)
	}
	return nil
}

// imageOf describes a layout as a target's file does.
func imageOf(l images.Layout) targets.Image {
	out := targets.Image{
		File: l.File, Size: l.Size, Table: l.Table, Block: targets.Size(l.Block), Page: targets.Size(l.Page), Compress: l.Compress,
	}
	if l.QCOW2 {
		out.Forms = []string{"qcow2"}
	}
	for _, p := range l.Partitions {
		align := targets.MiB
		for p.Start%int64(align) != 0 {
			align /= 2
		}
		out.Partitions = append(out.Partitions, targets.Partition{
			Name: p.Name, Role: p.Role, Format: p.Format, Type: p.Type, Flags: p.Flags, Align: align, Start: targets.Size(p.Start), Size: targets.Size(p.Size),
		})
	}
	return out
}
