package debian

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/yamlfile"
)

// Request asks for packages of one suite and architecture.
type Request struct {
	// Name identifies the request within a lock: "kernel", "firmware", "tools". It is
	// unique for each architecture.
	Name string `yaml:"name"`
	// Suite is the code name of a Debian release: bookworm, trixie. Its -updates
	// and -security suites belong to it.
	Suite string `yaml:"suite"`
	// Arch is Debian's name for the architecture: amd64, arm64, armhf, ...
	Arch string `yaml:"arch"`
	// Packages lists packages by name. A kernel's meta package (linux-image-amd64) stands
	// for the kernel that it depends on.
	Packages []string `yaml:"packages,flow"`
	// Closure adds all dependencies of the packages, down to the C library: what a
	// program needs to run from a private directory.
	Closure bool `yaml:"closure,omitempty"`
}

// id returns name and architecture as in an entry's "for".
func (r Request) id() string { return r.Name + "/" + r.Arch }

// Equal reports whether two requests ask for the same packages.
func (r Request) Equal(o Request) bool {
	return r.id() == o.id() && r.Suite == o.Suite && r.Closure == o.Closure && slices.Equal(r.Packages, o.Packages)
}

// Entry is one pinned package of the archive.
type Entry struct {
	Package string `yaml:"package" json:"package"`
	Version string `yaml:"version" json:"version"`
	// Arch is the package's own architecture; "all" fits every architecture.
	Arch string `yaml:"arch" json:"arch"`
	// Suite is the suite of the request that found it.
	Suite string `yaml:"suite" json:"suite"`
	// Path is its path below the archive's root: pool/...
	Path string `yaml:"path" json:"path"`
	// SHA256 is the digest of the .deb, in lower-case hex.
	SHA256 string `yaml:"sha256" json:"sha256"`
	// Size is the size of the .deb, in bytes.
	Size int64 `yaml:"size" json:"size" jsonschema:"minimum=1,maximum=4294967296"`
	// For lists the requests that it belongs to, as NAME/ARCH, sorted.
	For []string `yaml:"for,flow" json:"-"`
}

// String names the entry as apt does: package, version and architecture.
func (e Entry) String() string { return e.Package + "=" + e.Version + ":" + e.Arch }

// Reference is a pinned reference device (PVR_MERGE_SRC).
type Reference struct {
	// Source is its URL, as in PVR_MERGE_SRC.
	Source string `yaml:"source"`
	// Step is the URL of the revision that was found there; empty when the server has only
	// the latest one.
	Step string `yaml:"step,omitempty"`
	// SHA256 is the digest of the state in canonical form, which has those of all objects,
	// or of the export.
	SHA256 string `yaml:"sha256"`
}

// Lock is the content of a targets/<target>/parts.lock: the requests and the exact
// packages that satisfy them.
type Lock struct {
	Requests []Request `yaml:"requests"`
	Packages []Entry   `yaml:"packages"`
	// Reference is nil when no reference device is pinned.
	Reference *Reference `yaml:"reference,omitempty"`
}

// maxLockSize bounds a lock file, in bytes.
const maxLockSize = 4 << 20

const lockHeader = `# The Debian packages that this target is made of, by version and SHA-256.
# Written by "mage lock"; check it in. Comments are not kept.
`

// LoadLock reads a lock file. It returns an empty lock for a file that does not exist.
func LoadLock(file string) (*Lock, error) {
	data, err := bounded.ReadRegular(file, maxLockSize)
	if errors.Is(err, fs.ErrNotExist) {
		return &Lock{}, nil
	}
	var l *Lock
	if err == nil {
		l, err = ParseLock(data)
	}
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading lock %s (\"mage lock\" writes it anew)", file)
	}
	return l, nil
}

// ParseLock reads the text of a lock. Unknown fields and paths outside the archive or the cache are
// mistakes. The error lists all mistakes.
func ParseLock(data []byte) (*Lock, error) {
	if len(data) > maxLockSize {
		return nil, fault.New(fault.BadInput, "lock has %d bytes; at most %d are allowed", len(data), maxLockSize)
	}
	l := &Lock{}
	if len(bytes.TrimSpace(data)) == 0 {
		return l, nil
	}
	f, _ := yamlfile.Read("parts.lock", yamlfile.Kind{Name: "a lock", Limit: maxLockSize}, data, l)
	if err := f.Err(); err != nil {
		return nil, err
	}
	return l, l.check()
}

var (
	packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]{0,127}$`)
	versionText = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.+~:-]{0,127}$`)
	word        = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)
	requestName = regexp.MustCompile(`^[a-z0-9][a-z0-9+./-]{0,159}$`)
	hexDigest   = regexp.MustCompile(`^[0-9a-f]{64}$`)
	poolPath    = regexp.MustCompile(`^pool/[A-Za-z0-9+._~:%/-]{1,400}\.deb$`)
)

func (l *Lock) check() error {
	var all []error
	known := map[string]bool{}
	for _, r := range l.Requests {
		all = append(all, r.check())
		if known[r.id()] {
			all = append(all, fmt.Errorf("request %s: listed twice", r.id()))
		}
		known[r.id()] = true
	}
	for _, e := range l.Packages {
		all = append(all, e.check())
		for _, f := range e.For {
			if !known[f] {
				all = append(all, fmt.Errorf("package %s: for unknown request %q", e.Package, f))
			}
		}
	}
	if r := l.Reference; r != nil && (r.Source == "" || !hexDigest.MatchString(r.SHA256)) {
		all = append(all, fmt.Errorf("reference %q: it needs a source and a sha256 of 64 digits", r.Source))
	}
	if err := errors.Join(all...); err != nil {
		return fault.New(fault.BadInput, "checking the lock: %w", err)
	}
	return nil
}

func (r Request) check() error {
	if !requestName.MatchString(r.Name) {
		return fmt.Errorf("request %q: %q is not a name", r.id(), r.Name)
	}
	for _, w := range []string{r.Suite, r.Arch} {
		if !word.MatchString(w) {
			return fmt.Errorf("request %q: %q is not a suite or architecture", r.id(), w)
		}
	}
	if len(r.Packages) == 0 {
		return fmt.Errorf("request %q: no packages", r.id())
	}
	for _, p := range r.Packages {
		if !packageName.MatchString(p) {
			return fmt.Errorf("request %q: %q is not a package name", r.id(), p)
		}
	}
	return nil
}

func (e Entry) check() error {
	bad := func(field, value string) error {
		return fmt.Errorf("package %q: bad %s %q", e.Package, field, value)
	}
	switch {
	case !packageName.MatchString(e.Package):
		return bad("name", e.Package)
	case !versionText.MatchString(e.Version):
		return bad("version", e.Version)
	case !word.MatchString(e.Arch):
		return bad("arch", e.Arch)
	case !word.MatchString(e.Suite):
		return bad("suite", e.Suite)
	case !poolPath.MatchString(e.Path) || path.Clean(e.Path) != e.Path:
		return bad("path", e.Path)
	case !hexDigest.MatchString(e.SHA256):
		return bad("sha256", e.SHA256)
	case e.Size <= 0 || e.Size > maxPackage:
		return bad("size", fmt.Sprint(e.Size))
	}
	return nil
}

// maxPackage bounds a single package file: 4 GiB.
const maxPackage = 4 << 30

// Bytes returns the lock's text: sorted, one field per line, so that a diff shows what
// changed.
func (l *Lock) Bytes() ([]byte, error) {
	l.sort()
	var b bytes.Buffer
	b.WriteString(lockHeader)
	if err := yaml.NewEncoder(&b, yaml.IndentSequence(true)).Encode(l); err != nil {
		return nil, fmt.Errorf("writing the lock: %w", err)
	}
	return b.Bytes(), nil
}

// Save writes the lock file durably.
func (l *Lock) Save(file string) error {
	data, err := l.Bytes()
	if err != nil {
		return err
	}
	return fault.Wrap(fault.IO, atomicfile.Write(file, data, 0o644), "saving lock %s", file)
}

func (l *Lock) sort() {
	slices.SortFunc(l.Requests, func(a, b Request) int { return strings.Compare(a.id(), b.id()) })
	for i := range l.Packages {
		slices.Sort(l.Packages[i].For)
		l.Packages[i].For = slices.Compact(l.Packages[i].For)
	}
	slices.SortFunc(l.Packages, func(a, b Entry) int { return strings.Compare(a.order(), b.order()) })
}

func (e Entry) order() string {
	return strings.Join([]string{e.Arch, e.Suite, e.Package, e.Version}, "\x00")
}

// Entries returns the packages of a request, sorted by name; none when the lock has neither
// this request nor one of its name that asks for more packages: what is no longer asked for
// does not unpin the others.
func (l *Lock) Entries(r Request) []Entry {
	if slices.ContainsFunc(l.Requests, r.Equal) {
		return l.entries(r, nil)
	}
	if pinned, missing := l.pinned(r); len(missing) == 0 {
		return pinned
	}
	return nil
}

// pinned returns the packages of a request that a request of the same name pins, and the
// names of those that it does not. With Closure the lock does not say which package is there
// for which.
func (l *Lock) pinned(r Request) (pinned []Entry, missing []string) {
	other := func(o Request) bool { return o.id() == r.id() && o.Suite == r.Suite && !o.Closure && !r.Closure }
	if slices.ContainsFunc(l.Requests, other) {
		pinned = l.entries(r, r.Packages)
	}
	for _, name := range r.Packages {
		if !slices.ContainsFunc(pinned, func(e Entry) bool { return e.Package == name }) {
			missing = append(missing, name)
		}
	}
	return pinned, missing
}

// entries returns the packages of the request with r's name: those with one of the names, or
// all for nil.
func (l *Lock) entries(r Request, names []string) []Entry {
	var out []Entry
	for _, e := range l.Packages {
		if slices.Contains(e.For, r.id()) && (names == nil || slices.Contains(names, e.Package)) {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b Entry) int { return strings.Compare(a.order(), b.order()) })
	return out
}

// Find returns the one package of a request by its name, or by a prefix that ends in '*'
// ("linux-image-*" is the kernel behind a meta package).
func (l *Lock) Find(r Request, name string) (Entry, error) {
	prefix, glob := strings.CutSuffix(name, "*")
	for _, e := range l.Entries(r) {
		if e.Package == name || glob && strings.HasPrefix(e.Package, prefix) {
			return e, nil
		}
	}
	return Entry{}, fault.New(fault.Missing, "package %s is not among the parts of request %s: move the lock (mage lock)", name, r.id())
}

// severalOf reports whether the lock has an entry's package in several versions, from
// different suites.
func (l *Lock) severalOf(e Entry) bool {
	return slices.ContainsFunc(l.Packages, func(o Entry) bool {
		return o.Package == e.Package && o.Arch == e.Arch && o.order() != e.order()
	})
}

// Moved lists the differences from an earlier lock, sorted, one line for each package and
// architecture: "grub-common:amd64 2.06-13 -> 2.06-14", "... added" or "... removed".
func (l *Lock) Moved(from *Lock) []string {
	before, after := from.versions(), l.versions()
	var out []string
	for name, v := range after {
		switch old, had := before[name]; {
		case !had:
			out = append(out, name+" "+v+" added")
		case old != v:
			out = append(out, name+" "+old+" -> "+v)
		}
	}
	for name, v := range before {
		if _, has := after[name]; !has {
			out = append(out, name+" "+v+" removed")
		}
	}
	slices.Sort(out)
	return out
}

// versions returns the versions of the packages by name and architecture. A package may
// have different versions in two suites.
func (l *Lock) versions() map[string]string {
	out := map[string]string{}
	for _, e := range l.Packages {
		name := e.Package + ":" + e.Arch
		if have := out[name]; have != "" && have != e.Version {
			out[name] = have + ", " + e.Version
			continue
		}
		out[name] = e.Version
	}
	return out
}

// replace makes entries the packages of a request.
func (l *Lock) replace(r Request, entries []Entry) {
	l.Requests = slices.DeleteFunc(l.Requests, func(o Request) bool { return o.id() == r.id() })
	for i := range l.Packages {
		l.Packages[i].For = slices.DeleteFunc(slices.Clone(l.Packages[i].For), func(f string) bool { return f == r.id() })
	}
	l.Packages = slices.DeleteFunc(l.Packages, func(e Entry) bool { return len(e.For) == 0 })
	l.Requests = append(l.Requests, r)
	for _, e := range entries {
		l.add(e, r.id())
	}
	l.sort()
}

func (l *Lock) add(e Entry, id string) {
	for i, have := range l.Packages {
		if have.SHA256 == e.SHA256 && have.order() == e.order() {
			l.Packages[i].For = append(l.Packages[i].For, id)
			return
		}
	}
	e.For = []string{id}
	l.Packages = append(l.Packages, e)
}

// clone returns a copy that can be changed.
func (l *Lock) clone() *Lock {
	return &Lock{Requests: slices.Clone(l.Requests), Packages: slices.Clone(l.Packages), Reference: l.Reference}
}

// Archive is a source of packages; [Apt] implements it.
type Archive interface {
	// Resolve finds the newest packages that satisfy a request.
	Resolve(ctx context.Context, r Request) ([]Entry, error)
	// Download writes the file of an entry to a path. The caller checks its content. An
	// error of kind Missing means that the archive no longer has it.
	Download(ctx context.Context, e Entry, file string) error
}
