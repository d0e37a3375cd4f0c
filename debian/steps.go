package debian

import (
	"context"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian/deb"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filecopy"
	"github.com/pantavisor/pantavisor/sbom"
)

// Parts makes the steps for the packages of a lock. Each package has one step, however
// many other steps read it.
type Parts struct {
	store   *Store
	lock    *Lock
	fetches map[string]*Fetch
}

// NewParts returns the Parts of a lock that [Store.Refresh] returned.
func NewParts(store *Store, lock *Lock) *Parts {
	return &Parts{store: store, lock: lock, fetches: map[string]*Fetch{}}
}

// Fetch returns the step that fetches one package of a request, found by name as by
// [Lock.Find].
func (p *Parts) Fetch(r Request, name string) (*Fetch, error) {
	e, err := p.lock.Find(r, name)
	if err != nil {
		return nil, err
	}
	return p.fetch(e), nil
}

// Unpacker returns a function that makes the steps for the content of a request's packages, of
// each what keep names (see [Unpack]).
func (p *Parts) Unpacker(r Request) func(name string, keep ...string) (build.Step, error) {
	return func(name string, keep ...string) (build.Step, error) {
		pkg, err := p.Fetch(r, name)
		if err != nil {
			return nil, err
		}
		return &Unpack{Keep: keep, Package: pkg}, nil
	}
}

// All returns the fetch steps of all packages of a request, sorted by name.
func (p *Parts) All(r Request) ([]*Fetch, error) {
	entries := p.lock.Entries(r)
	if len(entries) == 0 {
		return nil, lockedError(r, nil, Options{})
	}
	var out []*Fetch
	for _, e := range entries {
		out = append(out, p.fetch(e))
	}
	return out, nil
}

// Names lists the packages of the requests in the form of [Entry.String], sorted, without
// duplicates.
func (p *Parts) Names(requests []Request) []string {
	var out []string
	for _, r := range requests {
		for _, e := range p.lock.Entries(r) {
			out = append(out, e.String())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (p *Parts) fetch(e Entry) *Fetch {
	if f := p.fetches[e.order()]; f != nil {
		return f
	}
	f := &Fetch{Entry: e, Store: p.store, label: e.Package + "_" + e.Arch}
	if p.lock.severalOf(e) {
		f.label += "/" + e.Suite
	}
	p.fetches[e.order()] = f
	return f
}

// Fetch is the step that gets one pinned package from the download cache or the archive.
// Its output is one file, [packageFile].
type Fetch struct {
	Entry Entry
	Store *Store `json:"-"`

	label string // its package, in names of steps
}

// packageFile is the name of the package in a Fetch step's output.
const packageFile = "package.deb"

var _ build.Step = (*Fetch)(nil)

// Name is "fetch/PACKAGE_ARCH", followed by the suite when the lock has the package from
// several.
func (f *Fetch) Name() string { return "fetch/" + f.label }

// Deps is empty.
func (f *Fetch) Deps() []build.Step { return nil }

// Run links the verified file into the output, or copies it when the output is on another
// file system.
func (f *Fetch) Run(ctx context.Context, w *build.Work) error {
	w.Progress(0, f.Entry.Size, "bytes")
	file, err := f.Store.Get(ctx, f.Entry)
	if err != nil {
		return err
	}
	w.Progress(f.Entry.Size, f.Entry.Size, "bytes")
	return fault.Wrap(fault.IO, filecopy.Link(ctx, filepath.Join(w.Out, packageFile), file), "copying %s", f.Entry)
}

// Unpack is the step that unpacks a package or a part of it.
type Unpack struct {
	// Keep lists path prefixes of the package, without a leading slash, that are
	// written ("boot/"); empty keeps all. The text of the licence is always kept.
	Keep    []string
	Package *Fetch `json:"-"`
}

var (
	_ build.Step      = (*Unpack)(nil)
	_ build.Versioned = (*Unpack)(nil)
)

// Name is "unpack/PACKAGE_ARCH", followed by the prefixes in Keep.
func (u *Unpack) Name() string {
	name := "unpack/" + u.Package.label
	for _, k := range u.Keep {
		name += "/" + strings.ToLower(strings.ReplaceAll(strings.Trim(k, "/"), "/", "-"))
	}
	return name
}

// Version of the step's logic.
func (u *Unpack) Version() int { return 2 }

// Deps is the package.
func (u *Unpack) Deps() []build.Step { return []build.Step{u.Package} }

// Run unpacks into the output.
func (u *Unpack) Run(ctx context.Context, w *build.Work) error {
	licence := u.Package.Licence()
	keep := func(name string) bool { return len(u.Keep) == 0 || hasPrefix(name, u.Keep) || name == licence }
	return u.Package.Extract(ctx, w, deb.Extract{Keep: keep})
}

// Supplies is the package.
func (u *Unpack) Supplies(in func(build.Step) string) ([]sbom.Supply, error) {
	return u.Package.Supply(in(u.Package), in(u))
}

func hasPrefix(name string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// Extract writes files of the fetched package to the output of another step, which must
// depend on f. Their time is [build.Epoch].
func (f *Fetch) Extract(ctx context.Context, w *build.Work, x deb.Extract) error {
	return f.ExtractTo(ctx, w, w.Out, x)
}

// ExtractTo is Extract into another directory of the step that runs.
func (f *Fetch) ExtractTo(ctx context.Context, w *build.Work, dir string, x deb.Extract) error {
	file, err := os.Open(filepath.Join(w.In(f), packageFile))
	if err != nil {
		return fault.Wrap(fault.IO, err, "unpacking %s", f.Entry)
	}
	defer file.Close()
	x.Time = time.Unix(build.Epoch, 0)
	r := &progressReader{ctx: ctx, r: file, work: w, total: f.Entry.Size}
	if err := x.To(dir, r); err != nil {
		k := fault.IO
		if errors.Is(err, deb.ErrFormat) {
			k = fault.BadInput
		}
		return fault.Wrap(k, err, "unpacking %s", f.Entry)
	}
	return nil
}

// progressReader reports how much of a package has been read and stops when the build is
// cancelled.
type progressReader struct {
	ctx         context.Context
	r           io.Reader
	work        *build.Work
	done, total int64
	told        int64
}

func (p *progressReader) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, fault.Wrap(fault.Cancelled, err, "reading a package")
	}
	n, err := p.r.Read(b)
	p.done += int64(n)
	if p.done-p.told >= 1<<20 {
		p.told = p.done
		p.work.Progress(p.done, p.total, "bytes")
	}
	return n, err
}

// merged maps the old top-level directories to their place in a merged /usr, so that a
// toolbox looks the same for every Debian release.
func merged(name string) string {
	top, rest, _ := strings.Cut(name, "/")
	switch top {
	case "bin", "sbin", "lib", "lib32", "lib64", "libx32":
		return path.Join("usr", top, rest)
	}
	return name
}
