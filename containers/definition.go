// Package containers makes the starter containers. Each is a directory containers/NAME
// with a container.yaml; the build makes it from programs of this repository, Debian
// packages and files of the directory (docs/containers.md). A product adds its own in the
// same way.
package containers

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/spelling"
	"github.com/pantavisor/pantavisor/internal/yamlfile"
	"github.com/pantavisor/pantavisor/targets"
)

// definitionFile is the name of a container's definition in its directory.
const definitionFile = "container.yaml"

// Definition is a container.yaml. Description and one of entrypoint and command are
// required.
type Definition struct {
	// Name is the directory's name; it is not in the file.
	Name string `yaml:"-" json:"name"`
	// Description is one line for people.
	Description string `yaml:"description" json:"description"`
	// Group is the container's group in device.json: data, root, platform, app or
	// one of the product's own. Default: the last group of the device.
	Group string `yaml:"group,omitempty" json:"group,omitempty"`
	// Roles are mgmt or nobody. Default: none, the container controls nothing.
	Roles []string `yaml:"roles,omitempty" json:"roles,omitempty" jsonschema:"enum=mgmt,enum=nobody"`
	// Args are further arguments of the template, PV_…, PVR_… or LXC_… (manual: Template args).
	Args map[string]any `yaml:"args,omitempty" json:"args,omitempty"`
	// Root is the content of the root file system.
	Root Root `yaml:"root,omitempty" json:"root"`
	// Persistence maps directories of the container to permanent, revision or boot,
	// optionally with "@disk".
	Persistence map[string]string `yaml:"persistence,omitempty" json:"persistence,omitempty"`
	// Entrypoint is the first part of the command line of the first process, as in an OCI
	// image.
	Entrypoint []string `yaml:"entrypoint,omitempty" json:"entrypoint,omitempty"`
	// Command is the part of the command line after the entrypoint, as in an OCI image.
	Command []string `yaml:"command,omitempty" json:"command,omitempty"`
	// Env are environment variables, NAME=VALUE.
	Env []string `yaml:"env,omitempty" json:"env,omitempty"`
	// WorkingDir is the directory in which the first process starts. Default: /.
	WorkingDir string `yaml:"working_dir,omitempty" json:"working_dir,omitempty"`
	// WithoutDebian has the root and the command line in place of those above for targets
	// without arch.debian, whose CPU Debian has no packages for.
	WithoutDebian *Variant `yaml:"without_debian,omitempty" json:"without_debian,omitempty"`
}

// Variant is another root with its command line. The directory files/ is added to it too.
type Variant struct {
	// Root is the content of the root file system; it has no Debian packages.
	Root Root `yaml:"root,omitempty" json:"root"`
	// Entrypoint is the first part of the command line of the first process.
	Entrypoint []string `yaml:"entrypoint,omitempty" json:"entrypoint,omitempty"`
	// Command is the part of the command line after the entrypoint.
	Command []string `yaml:"command,omitempty" json:"command,omitempty"`
}

// forArch returns the definition for a CPU by Debian's name of it, "" for one without
// packages of Debian.
func (d *Definition) forArch(debian string) *Definition {
	out := *d
	out.WithoutDebian = nil
	if v := d.WithoutDebian; v != nil && debian == "" {
		out.Root, out.Entrypoint, out.Command = v.Root, v.Entrypoint, v.Command
	}
	return &out
}

// Root is the content of a root file system. A path that comes from two sources is an
// error. The directory files/ beside container.yaml is added too; of its modes only the
// executable bit counts.
type Root struct {
	// Programs are main packages of the module that has the container, built for the target.
	Programs []Program `yaml:"programs,omitempty" json:"programs,omitempty"`
	// Debian are files of Debian packages.
	Debian []Package `yaml:"debian,omitempty" json:"debian,omitempty"`
	// Links are symbolic links.
	Links []Links `yaml:"links,omitempty" json:"links,omitempty"`
	// Executables are files of the directory files/ that are executable whatever their modes
	// are: a module from a proxy keeps no modes.
	Executables []string `yaml:"executables,omitempty" json:"executables,omitempty"`
	// Folders are empty directories, mount points for example.
	Folders []string `yaml:"folders,omitempty" json:"folders,omitempty"`
}

// Program installs the program of a main package, "cmd/pv-network", at a path.
type Program struct {
	// Package is the main package's directory in the module that has the container.
	Package string `yaml:"package" json:"package"`
	// Path is where the program goes, without a leading '/'.
	Path string `yaml:"path" json:"path"`
}

// Package takes files out of a Debian package of the target's suite and
// architecture. The lock pins the package.
type Package struct {
	// Package is the Debian package's name.
	Package string `yaml:"package" json:"package"`
	// Files are paths or path prefixes ending in '/' inside the package. Default: the whole
	// package, without its documentation.
	Files []string `yaml:"files,omitempty" json:"files,omitempty"`
	// Dependencies adds, whole, the packages that this one depends on, down to the C
	// library; packages that are only recommended are left out.
	Dependencies bool `yaml:"dependencies,omitempty" json:"dependencies,omitempty"`
}

// whole reports whether there are files whose names the definition does not have.
func (pkg Package) whole() bool { return len(pkg.Files) == 0 || pkg.Dependencies }

// Links makes symbolic links to one target.
type Links struct {
	// Target is what the links hold: a path, relative to each link's directory or with
	// a leading '/'.
	Target string `yaml:"target" json:"target"`
	// At are the links' paths, without a leading '/'.
	At []string `yaml:"at" json:"at"`
}

// load reads the definition in a container's directory and checks it, with the directory
// files/ beside it. The caller may check further, and takes the mistakes from the file. The
// definition is nil if there is nothing to check. shown is the file's name for messages.
func load(dir, shown string) (*Definition, *yamlfile.File, error) {
	d, f, err := loadAlone(dir, shown)
	if d != nil {
		checkers(d, f, func(c checker, d *Definition) { c.fits(d, c.outline(d, dir)) })
	}
	return d, f, err
}

// loadAlone is load without a look at the directory files/.
func loadAlone(dir, shown string) (*Definition, *yamlfile.File, error) {
	name := filepath.Base(dir)
	data, err := yamlfile.Text(os.DirFS(dir), definitionFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, fault.New(fault.Missing, "reading container %q: %w", name, err)
	case err != nil:
		return nil, nil, fault.Wrap(fault.IO, err, "reading container %q", name)
	}
	d, f := read(shown, name, data)
	return d, f, nil
}

// read reads a definition and checks it by itself.
func read(file, name string, data []byte) (*Definition, *yamlfile.File) {
	d := &Definition{Name: name}
	f, ok := yamlfile.Read(file, yamlfile.Kind{Name: "a container"}, data, d)
	if !ok {
		return nil, f
	}
	checker{File: f}.check(d)
	checkers(d, f, func(c checker, d *Definition) {
		c.words(d)
		c.root(&d.Root)
	})
	if v := d.WithoutDebian; v != nil && len(v.Root.Debian) > 0 {
		f.Wrong("without_debian.root.debian", "is for targets that Debian has no packages for")
	}
	return d, f
}

var (
	nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)
	// packageForm is Debian's for names of packages (Debian Policy, 5.6.7).
	packageForm = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)
	envForm     = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=[^\x00\n]*$`)
)

// checker reports the mistakes in a definition, or in a variant of it.
type checker struct {
	*yamlfile.File
	at string // the field that the variant is in, with a '.'; empty for the definition
}

// checkers calls do for the definition and, if there is one, for its variant.
func checkers(d *Definition, f *yamlfile.File, do func(checker, *Definition)) {
	do(checker{File: f}, d)
	if d.WithoutDebian != nil {
		do(checker{f, "without_debian."}, d.forArch(""))
	}
}

// Wrong reports a mistake at a field.
func (c checker) Wrong(path, format string, args ...any) {
	c.File.Wrong(strings.TrimSuffix(c.at+path, "."), format, args...)
}

// Form reports a text that does not have a form.
func (c checker) Form(path, text string, form *regexp.Regexp) { c.File.Form(c.at+path, text, form) }

// Given reports whether the file has a field.
func (c checker) Given(path string) bool { return c.File.Given(c.at + path) }

func (c checker) check(d *Definition) {
	if !nameForm.MatchString(d.Name) {
		c.Wrong("", "%q is not a valid container name: want lower-case letters, digits, '.', '_', '-', at most 63", d.Name)
	}
	if strings.TrimSpace(d.Description) == "" {
		c.Wrong("description", "is empty: say in one line what the container does")
	}
	if d.Group != "" {
		c.Form("group", d.Group, nameForm)
	}
	c.args(d.Args)
	for i, e := range d.Env {
		if !envForm.MatchString(e) {
			c.Wrong(fmt.Sprintf("env[%d]", i), "%q: want NAME=VALUE in one line", e)
		}
	}
	c.persistence(d.Persistence)
}

func (c checker) words(d *Definition) {
	if len(d.Entrypoint)+len(d.Command) == 0 && d.Args["PV_STATUS_GOAL"] != "MOUNTED" {
		c.Wrong("entrypoint, command", "one of them is needed, unless args.PV_STATUS_GOAL is MOUNTED")
	}
	for field, words := range map[string][]string{"entrypoint": d.Entrypoint, "command": d.Command} {
		for i, w := range words {
			if w == "" || strings.Contains(w, `"`) {
				c.Wrong(fmt.Sprintf("%s[%d]", field, i), "word %q must not be empty or hold quotes", w)
			}
		}
	}
}

func (c checker) persistence(all map[string]string) {
	for _, p := range slices.Sorted(maps.Keys(all)) {
		kind, _, _ := strings.Cut(all[p], "@")
		if kind != "permanent" && kind != "revision" && kind != "boot" {
			c.Wrong("persistence."+p, "%q is not possible; want permanent, revision or boot", all[p])
		}
		if p != "lxc-overlay" && (!strings.HasPrefix(p, "/") || !inRoot(p[1:])) {
			c.Wrong("persistence."+p, "%q is not an absolute path", p)
		}
	}
}

// device checks what the definition says against the groups and disks of the device; nil
// is for lists that are not known.
func (c checker) device(d *Definition, groups, disks []string) {
	if d.Group != "" && groups != nil && !slices.Contains(groups, d.Group) {
		c.Wrong("group", "%s", spelling.Impossible(d.Group, groups))
	}
	if level, ok := d.Args["PV_RUNLEVEL"].(string); ok && level != "" && groups != nil && !slices.Contains(groups, level) {
		c.Wrong("args.PV_RUNLEVEL", "%s", spelling.Impossible(level, groups))
	}
	for _, p := range slices.Sorted(maps.Keys(d.Persistence)) {
		_, disk, given := strings.Cut(d.Persistence[p], "@")
		switch {
		case !given || disks == nil || slices.Contains(disks, disk):
		case len(disks) == 0:
			c.Wrong("persistence."+p, "disk %q: the device has no disks; device.json in vendors/PLATFORM/stepskel defines them", disk)
		default:
			c.Wrong("persistence."+p, "disk %s", spelling.Impossible(disk, disks))
		}
	}
}

// packages checks that a target has the packages that a definition names.
func (c checker) packages(d *Definition, t *targets.Target) {
	if len(d.Root.Debian) > 0 && t.Arch.Debian == "" {
		c.Wrong("root.debian", "target %s has no arch.debian: Debian has no packages for its CPU; without_debian has what is there instead", t.Name)
	}
}

func (c checker) root(r *Root) {
	for i, p := range r.Programs {
		at := fmt.Sprintf("root.programs[%d]", i)
		c.inRoot(at+".package", p.Package)
		c.inRoot(at+".path", p.Path)
	}
	for i, p := range r.Debian {
		at := fmt.Sprintf("root.debian[%d]", i)
		if p.Package == "" {
			c.Wrong(at+".package", "is empty: name the package")
		} else {
			c.Form(at+".package", p.Package, packageForm)
		}
		if c.Given(at + ".files") {
			c.paths(at+".files", p.Files, "/")
		}
	}
	for i, l := range r.Links {
		at := fmt.Sprintf("root.links[%d]", i)
		if l.Target == "" {
			c.Wrong(at+".target", "is empty: say where the links point")
		}
		c.paths(at+".at", l.At, "")
	}
	if len(r.Executables) > 0 {
		c.paths("root.executables", r.Executables, "")
	}
	if len(r.Folders) > 0 {
		c.paths("root.folders", r.Folders, "")
	}
}

// paths checks a required list of paths that may end in the suffix.
func (c checker) paths(at string, list []string, suffix string) {
	if len(list) == 0 {
		c.Wrong(at, "is empty: name at least one path")
	}
	for i, p := range list {
		c.inRoot(fmt.Sprintf("%s[%d]", at, i), strings.TrimSuffix(p, suffix))
	}
}

func (c checker) inRoot(at, p string) {
	if !inRoot(p) {
		c.Wrong(at, "%q is not a clean path without a leading '/'", p)
	}
}

// inRoot reports whether p is a clean relative path below the root.
func inRoot(p string) bool {
	return p != "" && p != "." && !strings.HasPrefix(p, "/") && path.Clean(p) == p &&
		p != ".." && !strings.HasPrefix(p, "../") && !strings.ContainsAny(p, "\x00\n")
}
