package kernel

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/spelling"
)

// Module is one module of a tree.
type Module struct {
	// Name is its name in the kernel, with '_' for '-'.
	Name string `json:"name"`
	// Path is its file relative to lib/modules/<release>.
	Path string `json:"path"`
	Info
}

// Index describes the modules of one kernel.
type Index struct {
	// Release is the kernel's `uname -r`, the name of the directory in lib/modules.
	Release string `json:"release"`
	// Modules are in the order of modules.order; modules that are not in it follow,
	// sorted by path.
	Modules []Module `json:"modules"`
	// Builtin lists the names of modules that are built into the kernel.
	Builtin []string `json:"builtin"`
	// BuiltinFirmware are the files below lib/firmware that those may ask for, sorted.
	BuiltinFirmware []string `json:"builtin_firmware,omitempty"`

	byName map[string]*Module
}

// Scan reads the metadata of all modules below dir, a directory lib/modules/<release>.
func Scan(dir string) (*Index, error) {
	x := &Index{Release: filepath.Base(dir)}
	files, err := moduleFiles(dir)
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "scanning modules")
	}
	x.Modules = make([]Module, len(files))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, file := range files {
		g.Go(func() error {
			info, err := readModuleFile(filepath.Join(dir, file))
			x.Modules[i] = Module{Name: moduleName(path.Base(file)), Path: file, Info: info}
			return fault.Wrap(fault.BadInput, err, "reading module %s", file)
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if x.Builtin, err = readBuiltin(dir); err != nil {
		return nil, err
	}
	if x.BuiltinFirmware, err = readBuiltinFirmware(dir); err != nil {
		return nil, err
	}
	return x, x.order(dir)
}

// readBuiltinFirmware reads modules.builtin.modinfo: the fields of all built-in modules, each
// as MODULE.FIELD=VALUE with a zero byte behind it (Linux: Documentation/kbuild/kbuild.rst).
func readBuiltinFirmware(dir string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(dir, "modules.builtin.modinfo"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "reading what built-in modules say")
	}
	var out []string
	for field := range bytes.SplitSeq(data, []byte{0}) {
		if name, file, ok := strings.Cut(string(field), ".firmware="); ok && !strings.Contains(name, "=") {
			out = append(out, file)
		}
	}
	sort.Strings(out)
	return slices.Compact(out), nil
}

func moduleFiles(dir string) ([]string, error) {
	var out []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || moduleName(d.Name()) == "" {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		out = append(out, filepath.ToSlash(rel))
		return err
	})
	return out, err
}

// readBuiltin reads modules.builtin: one path per line.
func readBuiltin(dir string) ([]string, error) {
	lines, err := readLines(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "reading the list of built-in modules")
	}
	var out []string
	for _, l := range lines {
		if name := moduleName(path.Base(l)); name != "" {
			out = append(out, name)
		}
	}
	sort.Strings(out)
	return slices.Compact(out), nil
}

// readLines returns the lines of a file, none when it does not exist.
func readLines(file string) ([]string, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []string
	s := bufio.NewScanner(f)
	for s.Scan() {
		out = append(out, s.Text())
	}
	return out, s.Err()
}

// order sorts the modules as in modules.order: link order, which decides between modules
// with the same alias.
func (x *Index) order(dir string) error {
	lines, err := readLines(filepath.Join(dir, "modules.order"))
	if err != nil {
		return fault.Wrap(fault.IO, err, "reading the order of modules")
	}
	rank := map[string]int{}
	for i, l := range lines {
		if _, twice := rank[plainPath(l)]; !twice {
			rank[plainPath(l)] = i - len(lines)
		}
	}
	sort.SliceStable(x.Modules, func(i, j int) bool {
		a, b := x.Modules[i], x.Modules[j]
		if ra, rb := rank[plainPath(a.Path)], rank[plainPath(b.Path)]; ra != rb {
			return ra < rb
		}
		return a.Path < b.Path
	})
	return nil
}

// plainPath returns a module's path without suffixes: modules.order has no compression
// suffix; older versions have .ko, newer ones .o.
func plainPath(p string) string {
	p = strings.TrimSuffix(strings.TrimSuffix(p, ".xz"), ".zst")
	return strings.TrimSuffix(strings.TrimSuffix(p, ".ko"), ".o")
}

// Module returns the module with that name, or nil.
func (x *Index) Module(name string) *Module {
	if x.byName == nil {
		x.byName = make(map[string]*Module, len(x.Modules))
		for i := range x.Modules {
			x.byName[x.Modules[i].Name] = &x.Modules[i]
		}
	}
	return x.byName[canonicalName(name)]
}

// IsBuiltin reports whether the named module is built into the kernel.
func (x *Index) IsBuiltin(name string) bool {
	_, found := slices.BinarySearch(x.Builtin, canonicalName(name))
	return found
}

// find resolves a name as modprobe does: to the module with that name, or else to all
// modules with a matching alias.
func (x *Index) find(name string) []*Module {
	if m := x.Module(name); m != nil {
		return []*Module{m}
	}
	var out []*Module
	for i, m := range x.Modules {
		if slices.ContainsFunc(m.Aliases, func(a string) bool { return aliasFits(a, name) }) {
			out = append(out, &x.Modules[i])
		}
	}
	return out
}

func aliasFits(alias, name string) bool {
	if alias == name || canonicalName(alias) == canonicalName(name) {
		return true
	}
	ok, err := path.Match(alias, name)
	return ok && err == nil
}

// Closure returns the modules of the wanted names with all their dependencies, in the
// order in which they can be loaded: the hard and soft dependencies of a module come
// before it. Built-in names are skipped and returned in builtin. The error lists all
// unknown names, each with the nearest known one.
func (x *Index) Closure(wanted []string) (set []*Module, builtin []string, err error) {
	c := closure{index: x, state: map[string]int{}}
	var unknown []error
	for _, name := range wanted {
		found := x.find(name)
		switch {
		case len(found) > 0:
			for _, m := range found {
				c.visit(m)
			}
		case x.IsBuiltin(name):
			builtin = append(builtin, canonicalName(name))
		default:
			unknown = append(unknown, x.unknown(name))
		}
	}
	unknown = append(unknown, c.broken...)
	if err := errors.Join(unknown...); err != nil {
		return nil, nil, fault.Wrap(fault.BadInput, err, "collecting modules of kernel %s", x.Release)
	}
	return c.out, builtin, nil
}

func (x *Index) unknown(name string) error {
	known := slices.Clone(x.Builtin)
	for _, m := range x.Modules {
		known = append(known, m.Name)
	}
	if near := spelling.Nearest(canonicalName(name), known); len(near) > 0 {
		return fmt.Errorf("module %q of early_modules: the kernel has none of that name; the nearest is %q", name, near[0])
	}
	return fmt.Errorf("module %q of early_modules: the kernel has none of that name", name)
}

// closure is a depth-first walk.
type closure struct {
	index  *Index
	state  map[string]int // 1: being visited, 2: done
	out    []*Module
	broken []error
}

func (c *closure) visit(m *Module) {
	if c.state[m.Name] != 0 {
		// A cycle of soft dependencies is legal; any order will do.
		return
	}
	c.state[m.Name] = 1
	for _, d := range m.Depends {
		c.need(m, d)
	}
	c.soft(m.Pre)
	c.state[m.Name] = 2
	c.out = append(c.out, m)
	c.soft(m.Post)
}

func (c *closure) need(m *Module, name string) {
	dep := c.index.Module(name)
	switch {
	case dep != nil:
		c.visit(dep)
	case !c.index.IsBuiltin(name):
		c.broken = append(c.broken, fmt.Errorf("module %q depends on %q, which does not exist", m.Name, name))
	}
}

// soft visits dependencies that may be missing.
func (c *closure) soft(list []string) {
	for _, name := range list {
		for _, m := range c.index.find(name) {
			c.visit(m)
		}
	}
}

// indexFile is the name of the index in a kernel's tree.
const indexFile = "modules.json"

// readIndex reads the index from a kernel's tree.
func readIndex(tree string) (*Index, error) {
	data, err := os.ReadFile(filepath.Join(tree, indexFile))
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "reading the index of modules")
	}
	x := &Index{}
	if err := json.Unmarshal(data, x); err != nil {
		return nil, fault.New(fault.Internal, "reading the index of modules: %w", err)
	}
	return x, nil
}

// Paths returns the modules of the kernel in a tree and those that are built into it, as paths below
// lib/modules/RELEASE, sorted.
func Paths(tree string) ([]string, error) {
	x, err := readIndex(tree)
	if err != nil {
		return nil, err
	}
	out, err := readLines(filepath.Join(tree, "lib/modules", x.Release, "modules.builtin"))
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "reading the list of built-in modules")
	}
	for _, m := range x.Modules {
		out = append(out, m.Path)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// FirmwareIn returns the files of a firmware file system, the output of a [Firmware], that are in the
// output of a step that provides firmware: paths below lib/firmware, sorted.
func FirmwareIn(made, tree string) ([]string, error) {
	var sizes map[string]int64
	text, err := bounded.ReadRegular(filepath.Join(made, FirmwareReport), maxReport)
	if err == nil {
		err = json.Unmarshal(text, &sizes)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "reading the list of firmware")
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(sizes)) {
		for _, dir := range FirmwarePaths {
			if _, err := os.Lstat(filepath.Join(tree, dir, filepath.FromSlash(name))); err == nil {
				out = append(out, name)
				break
			}
		}
	}
	return out, nil
}

// maxReport bounds the list of firmware, in bytes.
const maxReport = 16 << 20
