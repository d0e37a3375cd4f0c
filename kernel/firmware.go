package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Firmware is the step that makes firmware.squashfs, the content of lib/firmware: the
// files of the packages that a module of the kernel names, with the links that lead to
// them. Its output is [FirmwareFile] and [FirmwareReport].
type Firmware struct {
	Compression
	// Exclude lists patterns of files below lib/firmware to leave out: path.Match, or
	// "dir/**" for everything below dir.
	Exclude []string
	// Budget limits the size of the uncompressed files, in MiB; 0 is no limit.
	Budget int
	// Epoch is the time of all files.
	Epoch    build.Stamp
	Packages []build.Step `json:"-"` // their outputs have files in FirmwarePaths
	Tree     build.Step   `json:"-"`
}

const (
	// FirmwareFile is the name of the firmware's file system in the BSP.
	FirmwareFile = "firmware.squashfs"
	// FirmwareReport lists the files in it as JSON: path to size in bytes.
	FirmwareReport = "firmware.json"
)

// FirmwarePaths lists the directories that Firmware searches in the output of a step that
// provides firmware.
var FirmwarePaths = []string{"lib/firmware/", "usr/lib/firmware/"}

var (
	_ build.Step      = (*Firmware)(nil)
	_ build.Large     = (*Firmware)(nil)
	_ build.Versioned = (*Firmware)(nil)
)

// Name is "kernel/firmware".
func (f *Firmware) Name() string { return "kernel/firmware" }

// Version of the step's logic.
func (f *Firmware) Version() int { return 2 }

// Memory is that for a squashfs.
func (*Firmware) Memory() int64 { return squashMemory }

// Deps are the kernel's tree and the packages.
func (f *Firmware) Deps() []build.Step {
	return append([]build.Step{f.Tree}, f.Packages...)
}

// Run picks the files and writes the file system.
func (f *Firmware) Run(ctx context.Context, w *build.Work) error {
	x, err := readIndex(w.In(f.Tree))
	if err != nil {
		return err
	}
	p := picker{wanted: x.firmware(), exclude: f.Exclude, to: filepath.Join(w.Tmp, "firmware"), sizes: map[string]int64{}}
	if err := os.MkdirAll(p.to, 0o755); err != nil {
		return fault.Wrap(fault.IO, err, "picking firmware")
	}
	for _, pkg := range f.Packages {
		for _, dir := range FirmwarePaths {
			if err := p.pick(ctx, filepath.Join(w.In(pkg), dir)); err != nil {
				return fault.Wrap(fault.IO, err, "picking firmware of %s", pkg.Name())
			}
		}
	}
	if err := p.checkBudget(int64(f.Budget) << 20); err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(w.Out, FirmwareReport), p.sizes); err != nil {
		return err
	}
	return squash(ctx, p.to, filepath.Join(w.Out, FirmwareFile), f.Compression, f.Epoch)
}

// firmware lists the files that modules name, built in or not, sorted. Some names are patterns.
func (x *Index) firmware() []string {
	out := slices.Clone(x.BuiltinFirmware)
	for _, m := range x.Modules {
		out = append(out, m.Firmware...)
	}
	sort.Strings(out)
	return slices.Compact(out)
}

// picker copies wanted firmware files.
type picker struct {
	wanted  []string
	exclude []string
	to      string
	sizes   map[string]int64
}

// pick takes the wanted files of one lib/firmware, which may not exist.
func (p *picker) pick(ctx context.Context, dir string) error {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer root.Close()
	for _, name := range p.wanted {
		found, err := matches(root.FS(), name)
		if err != nil {
			return err
		}
		for _, file := range found {
			if err := p.take(ctx, root, dir, file, 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// matches returns the files that match a name or pattern of a module; a name that is not
// a valid path matches nothing.
func matches(files fs.FS, name string) ([]string, error) {
	if !fs.ValidPath(name) {
		return nil, nil
	}
	if !strings.ContainsAny(name, "*?[") {
		return []string{name}, nil
	}
	found, err := fs.Glob(files, name)
	if errors.Is(err, path.ErrBadPattern) {
		return nil, nil
	}
	return found, err
}

// maxLinks bounds a chain of symbolic links.
const maxLinks = 8

// take copies a file, or a link and its target.
func (p *picker) take(ctx context.Context, root *os.Root, dir, name string, depth int) error {
	info, err := root.Lstat(name)
	if err != nil || p.excluded(name) || depth > maxLinks {
		// It is normal that a package does not have it; another package may.
		return nil
	}
	if _, done := p.sizes[name]; done {
		return nil
	}
	to := filepath.Join(p.to, name)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	switch {
	case info.Mode().IsRegular():
		p.sizes[name] = info.Size()
		return copyFile(ctx, to, filepath.Join(dir, name))
	case info.Mode()&fs.ModeSymlink != 0:
		return p.takeLink(ctx, root, dir, name, depth)
	}
	return nil
}

// takeLink copies a link if its target is copied too: a dangling link is of no use.
func (p *picker) takeLink(ctx context.Context, root *os.Root, dir, name string, depth int) error {
	target, err := root.Readlink(name)
	if err != nil {
		return err
	}
	file := path.Join(path.Dir(name), target)
	if path.IsAbs(target) || !fs.ValidPath(file) {
		return nil
	}
	if err := p.take(ctx, root, dir, file, depth+1); err != nil {
		return err
	}
	if _, there := p.sizes[file]; !there {
		return nil
	}
	p.sizes[name] = 0
	return os.Symlink(target, filepath.Join(p.to, name))
}

func (p *picker) excluded(name string) bool {
	return slices.ContainsFunc(p.exclude, func(pattern string) bool {
		if dir, ok := strings.CutSuffix(pattern, "/**"); ok {
			return strings.HasPrefix(name, dir+"/")
		}
		ok, err := path.Match(pattern, name)
		return ok && err == nil
	})
}

// checkBudget fails with a list of the largest directories when the files take more
// than budget bytes.
func (p *picker) checkBudget(budget int64) error {
	total := int64(0)
	byDir := map[string]int64{}
	for name, size := range p.sizes {
		total += size
		top, _, _ := strings.Cut(name, "/")
		byDir[top] += size
	}
	if budget == 0 || total <= budget {
		return nil
	}
	return fault.New(fault.NoSpace, "collecting firmware: %s exceed the budget of %s; the largest are %s; "+
		"leave some out (kernel.firmware.exclude) or raise kernel.firmware.budget", mib(total), mib(budget), largest(byDir))
}

// largest lists the few largest, by size.
func largest(sizes map[string]int64) string {
	var names []string
	for name := range sizes {
		names = append(names, name)
	}
	sort.Slice(names, func(i, j int) bool {
		if sizes[names[i]] != sizes[names[j]] {
			return sizes[names[i]] > sizes[names[j]]
		}
		return names[i] < names[j]
	})
	var out []string
	for _, name := range names[:min(len(names), 8)] {
		out = append(out, fmt.Sprintf("%s %s", name, mib(sizes[name])))
	}
	return strings.Join(out, ", ")
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
