// Package containers makes the starter containers: folders containers/NAME with a
// container.yaml, put together by the build from this repository's own programs,
// Debian packages and files of the folder (docs/containers.md). A product adds
// its own in the same way.
package containers

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// File is the name of a container's definition in its folder.
const File = "container.yaml"

// Definition is a container.yaml. Description, root and one of entrypoint and
// command are required.
type Definition struct {
	// Name is the folder's name; it is not in the file.
	Name string `yaml:"-" json:"name"`
	// Description is one line for people.
	Description string `yaml:"description" json:"description"`
	// Group is the container's group in device.json: data, root, platform, app or
	// one of the product's own. Default: the last group of the device.
	Group string `yaml:"group,omitempty" json:"group,omitempty"`
	// Roles are mgmt or nobody. Default: none, the container controls nothing.
	Roles []string `yaml:"roles,omitempty" json:"roles,omitempty"`
	// Args are further template arguments, PV_… or LXC_… (manual: Template args).
	Args map[string]any `yaml:"args,omitempty" json:"args,omitempty"`
	// Root says what is in the root file system.
	Root Root `yaml:"root" json:"root"`
	// Persistence maps folders of the container to permanent, revision or boot,
	// optionally with "@disk".
	Persistence map[string]string `yaml:"persistence,omitempty" json:"persistence,omitempty"`
	// Entrypoint and Command are the words of the first process, as in an OCI image.
	Entrypoint []string `yaml:"entrypoint,omitempty" json:"entrypoint,omitempty"`
	Command    []string `yaml:"command,omitempty" json:"command,omitempty"`
	// Env are NAME=VALUE.
	Env []string `yaml:"env,omitempty" json:"env,omitempty"`
	// WorkingDir is where it starts. Default: /.
	WorkingDir string `yaml:"working_dir,omitempty" json:"working_dir,omitempty"`
}

// Root says what a root file system is made of. Later sources may not overwrite
// earlier ones: a path that comes twice is an error. The folder files/ beside
// container.yaml is added as it is, with its modes.
type Root struct {
	// Programs are main packages of this module, built for the target.
	Programs []Program `yaml:"programs,omitempty" json:"programs,omitempty"`
	// Debian are files of Debian packages.
	Debian []Package `yaml:"debian,omitempty" json:"debian,omitempty"`
	// Links are symbolic links.
	Links []Links `yaml:"links,omitempty" json:"links,omitempty"`
	// Folders are empty folders, mount points for example.
	Folders []string `yaml:"folders,omitempty" json:"folders,omitempty"`
}

// Program puts the program of a package, "cmd/pv-network", at a path.
type Program struct {
	Package string `yaml:"package" json:"package"`
	Path    string `yaml:"path" json:"path"`
}

// Package takes files out of a Debian package of the target's suite and
// architecture. It must be among the packages that the lock knows.
type Package struct {
	Package string `yaml:"package" json:"package"`
	// Files are paths or path prefixes ending in '/' inside the package.
	Files []string `yaml:"files" json:"files"`
}

// Links makes symbolic links of one target.
type Links struct {
	Target string   `yaml:"target" json:"target"`
	At     []string `yaml:"at" json:"at"`
}

const maxDefinition = 1 << 20 // bytes

// Load reads and checks the definition in a container's folder.
func Load(dir string) (*Definition, error) {
	file := filepath.Join(dir, File)
	st, err := os.Stat(file)
	if err != nil {
		return nil, fault.New(fault.Missing, "reading container %q: %w", filepath.Base(dir), err)
	}
	if st.Size() > maxDefinition {
		return nil, fault.New(fault.BadInput, "%s: larger than %d bytes", file, maxDefinition)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "reading container %q", filepath.Base(dir))
	}
	d, err := Parse(filepath.Base(dir), data)
	return d, fault.Wrap(fault.BadInput, err, "%s", file)
}

// Parse reads and checks a definition. Unknown members and everything else that
// is wrong are reported together.
func Parse(name string, data []byte) (*Definition, error) {
	d := &Definition{Name: name}
	if err := yaml.UnmarshalWithOptions(data, d, yaml.DisallowUnknownField()); err != nil {
		return nil, fault.New(fault.BadInput, "%s", strings.TrimSpace(yaml.FormatError(err, false, true)))
	}
	if err := errors.Join(d.problems()...); err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "container %q", name)
	}
	return d, nil
}

var (
	nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)
	argForm  = regexp.MustCompile(`^(PV|PVR|LXC)_[A-Z0-9_]+$`)
	envForm  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=[^\x00\n]*$`)
)

// ownArgs are arguments that have a member of their own.
var ownArgs = map[string]string{"PV_GROUP": "group", "PV_ROLES": "roles"}

func (d *Definition) problems() (out []error) {
	bad := func(format string, a ...any) { out = append(out, fmt.Errorf(format, a...)) }
	if !nameForm.MatchString(d.Name) {
		bad("name: want lower-case letters, digits, '.', '_', '-', at most 63")
	}
	if d.Description == "" || strings.Contains(d.Description, "\n") {
		bad("description: want one line")
	}
	if d.Group != "" && !nameForm.MatchString(d.Group) {
		bad("group %q: not the name of a group", d.Group)
	}
	out = append(append(out, d.roleProblems()...), d.argProblems()...)
	for _, e := range d.Env {
		if !envForm.MatchString(e) {
			bad("env %q: want NAME=VALUE in one line", e)
		}
	}
	return slices.Concat(out, d.wordProblems(), d.persistenceProblems(), d.Root.problems())
}

func (d *Definition) roleProblems() (out []error) {
	for _, r := range d.Roles {
		if r != "mgmt" && r != "nobody" {
			out = append(out, fmt.Errorf("roles: %q is neither mgmt nor nobody", r))
		}
	}
	return out
}

func (d *Definition) argProblems() (out []error) {
	for _, k := range slices.Sorted(maps.Keys(d.Args)) {
		if own := ownArgs[k]; own != "" {
			out = append(out, fmt.Errorf("args.%s: use the member %s", k, own))
		} else if !argForm.MatchString(k) {
			out = append(out, fmt.Errorf("args.%s: want PV_…, PVR_… or LXC_…", k))
		}
	}
	return out
}

func (d *Definition) wordProblems() (out []error) {
	if len(d.Entrypoint)+len(d.Command) == 0 && d.Args["PV_STATUS_GOAL"] != "MOUNTED" {
		out = append(out, errors.New("entrypoint, command: one of them is needed, unless args.PV_STATUS_GOAL is MOUNTED"))
	}
	for _, w := range slices.Concat(d.Entrypoint, d.Command) {
		if w == "" || strings.ContainsAny(w, "\"\n\x00") {
			out = append(out, fmt.Errorf("entrypoint, command: word %q must not be empty or hold quotes or line ends", w))
		}
	}
	return out
}

func (d *Definition) persistenceProblems() (out []error) {
	for p, policy := range d.Persistence {
		kind, _, _ := strings.Cut(policy, "@")
		if kind != "permanent" && kind != "revision" && kind != "boot" {
			out = append(out, fmt.Errorf("persistence %s: %q is none of permanent, revision, boot", p, policy))
		}
		if p != "lxc-overlay" && (!strings.HasPrefix(p, "/") || !inRoot(p[1:])) {
			out = append(out, fmt.Errorf("persistence %q: want an absolute path", p))
		}
	}
	return out
}

func (r *Root) problems() (out []error) {
	at := func(what, p string) {
		if !inRoot(p) {
			out = append(out, fmt.Errorf("root.%s %q: want a clean path without leading '/'", what, p))
		}
	}
	for _, p := range r.Programs {
		at("programs", p.Path)
		at("programs", p.Package)
	}
	for _, p := range r.Debian {
		if p.Package == "" || len(p.Files) == 0 {
			out = append(out, fmt.Errorf("root.debian: package and files are needed"))
		}
		for _, f := range p.Files {
			at("debian", strings.TrimSuffix(f, "/"))
		}
	}
	for _, l := range r.Links {
		if l.Target == "" || len(l.At) == 0 {
			out = append(out, fmt.Errorf("root.links: target and at are needed"))
		}
		for _, p := range l.At {
			at("links", p)
		}
	}
	for _, p := range r.Folders {
		at("folders", p)
	}
	return out
}

// inRoot accepts a relative, clean path that stays inside.
func inRoot(p string) bool {
	return p != "" && p != "." && !strings.HasPrefix(p, "/") && path.Clean(p) == p &&
		p != ".." && !strings.HasPrefix(p, "../") && !strings.ContainsAny(p, "\x00\n")
}

// Names lists the containers that a folder defines, sorted.
func Names(dir string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*", File))
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "listing containers")
	}
	var out []string
	for _, f := range files {
		out = append(out, filepath.Base(filepath.Dir(f)))
	}
	slices.Sort(out)
	return out, nil
}
