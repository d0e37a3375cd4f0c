package debian

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// Resolve finds the newest packages of the request's suite.
func (a *Apt) Resolve(ctx context.Context, req Request) ([]Entry, error) {
	if err := req.check(); err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "resolving packages")
	}
	r, err := a.root(ctx, req.Suite, req.Arch)
	if err != nil {
		return nil, err
	}
	if err := r.update(ctx, a); err != nil {
		return nil, err
	}
	find := r.plain
	if req.Closure {
		find = r.closure
	}
	entries, err := find(ctx, req)
	if errors.As(err, new(*AbsentError)) { // it names its packages, not all of the request
		return nil, fault.New(fault.Missing, "%w", err)
	}
	return entries, fault.Wrap(fault.Missing, err, "resolving %s of %s/%s", strings.Join(req.Packages, ", "), req.Suite, req.Arch)
}

// AbsentError says which packages a suite does not have.
type AbsentError struct {
	Suite, Arch string
	Packages    []string
}

// Error names the packages, the suite and the architecture.
func (e *AbsentError) Error() string {
	noun := "package"
	if len(e.Packages) > 1 {
		noun = "packages"
	}
	return fmt.Sprintf("suite %s has no %s %s for %s", e.Suite, noun, strings.Join(e.Packages, ", "), e.Arch)
}

// plain looks the packages up without their dependencies. Those that are missing are
// named together.
func (r *root) plain(ctx context.Context, req Request) ([]Entry, error) {
	var out []Entry
	absent := &AbsentError{Suite: req.Suite, Arch: req.Arch}
	for _, name := range req.Packages {
		found, err := r.show(ctx, req.Suite, name)
		if fault.Of(err) == fault.Missing && r.hasLists() {
			absent.Packages = append(absent.Packages, name)
			continue
		}
		if err != nil {
			return nil, err
		}
		if real := behindMeta(found[0]); real != "" {
			if found, err = r.show(ctx, req.Suite, real); err != nil {
				return nil, err
			}
		}
		out = append(out, found[0].Entry)
	}
	if len(absent.Packages) > 0 {
		return nil, absent
	}
	return out, nil
}

// kernelDepend matches the dependency of a meta package on the kernel or its source.
var kernelDepend = regexp.MustCompile(`^(linux-(?:image|source)-\d[a-z0-9+.-]*)(?: \(= [^)]+\))?$`)

// behindMeta returns the package behind the meta package of a kernel or of its source, or
// nothing for any other package.
func behindMeta(p stanza) string {
	if !strings.HasPrefix(p.Package, "linux-image-") && p.Package != "linux-source" {
		return ""
	}
	for _, d := range strings.Split(p.depends, ",") {
		if m := kernelDepend.FindStringSubmatch(strings.TrimSpace(d)); m != nil {
			return m[1]
		}
	}
	return ""
}

// stanza is an Entry with further fields that resolution needs.
type stanza struct {
	Entry
	depends string
}

// show asks apt for the candidate version of each package, or for the exact version of
// NAME=VERSION.
func (r *root) show(ctx context.Context, suite string, names ...string) ([]stanza, error) {
	text, err := r.run(ctx, aptCache, append([]string{"show", "--no-all-versions", "--"}, names...)...)
	if err != nil {
		return nil, err
	}
	var out []stanza
	for _, f := range stanzas(text) {
		size, err := strconv.ParseInt(f["size"], 10, 64)
		if err != nil {
			return nil, fault.New(fault.BadInput, "reading the package lists: %s has the size %q", f["package"], f["size"])
		}
		e := Entry{Package: f["package"], Version: f["version"], Arch: f["architecture"], Suite: suite,
			Path: filepath.ToSlash(f["filename"]), SHA256: f["sha256"], Size: size}
		if err := e.check(); err != nil {
			return nil, fault.Wrap(fault.BadInput, err, "reading the package lists")
		}
		out = append(out, stanza{e, f["depends"]})
	}
	if len(out) == 0 {
		return nil, fault.New(fault.Missing, "package %s is not in the archive", strings.Join(names, ", "))
	}
	return out, nil
}

// planned matches a line of apt-get's simulation: Inst NAME (VERSION ARCHIVE [ARCH]).
var planned = regexp.MustCompile(`(?m)^Inst ([a-z0-9][a-z0-9+.-]*)(?::\w+)? \((\S+) `)

// closure has apt's own solver simulate an installation into an empty system.
func (r *root) closure(ctx context.Context, req Request) ([]Entry, error) {
	args := append([]string{"install", "-s", "-q", "--no-install-recommends", "--"}, req.Packages...)
	text, err := r.run(ctx, aptGet, args...)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, m := range planned.FindAllStringSubmatch(text, -1) {
		names = append(names, m[1]+"="+m[2])
	}
	if len(names) == 0 {
		return nil, fault.New(fault.Internal, "reading apt's plan: it installs nothing")
	}
	found, err := r.show(ctx, req.Suite, names...)
	if err != nil {
		return nil, err
	}
	out := make([]Entry, len(found))
	for i, f := range found {
		out[i] = f.Entry
	}
	return out, nil
}

// Download fetches the entry's file with apt's own methods, from the path in the lock or
// else from where the package lists have the same version now.
func (a *Apt) Download(ctx context.Context, e Entry, file string) error {
	arch := e.Arch
	if arch == "all" {
		arch = "amd64"
	}
	r, err := a.root(ctx, e.Suite, arch)
	if err != nil {
		return err
	}
	var worst error
	for _, base := range r.mirrors.bases(e.Path) {
		uri := strings.TrimSuffix(base, "/") + "/" + strings.ReplaceAll(e.Path, "+", "%2b")
		err := a.retry(ctx, func() error {
			_, err := r.run(ctx, helper, "-q", "download-file", uri, file, "SHA256:"+e.SHA256)
			return err
		})
		if k := fault.Of(err); err == nil || k == fault.Cancelled || k == fault.NoSpace {
			return fault.Wrap(k, err, "downloading %s", e)
		}
		// A file is gone only when every mirror says so.
		if worst == nil || fault.Of(worst) == fault.Missing {
			worst = err
		}
	}
	return advise(fault.Wrap(fault.Unreachable, worst, "downloading %s", e))
}

// advise adds to an error of the archive how to fix it.
func advise(err error) error {
	switch fault.Of(err) {
	case fault.Unreachable:
		return fmt.Errorf("%w; check the network, and the mirrors in /etc/apt", err)
	case fault.Digest:
		return fmt.Errorf("%w; the archive's content is not the pinned one: if the lock was not edited, try another mirror", err)
	}
	return err
}
