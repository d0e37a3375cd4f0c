package containers

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"path"
	"slices"

	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/layers"
	"github.com/pantavisor/pantavisor/internal/yamlfile"
	"github.com/pantavisor/pantavisor/targets"
)

// Request is the name of the containers' request to Debian.
const Request = "containers"

// directory is where a layer has its containers.
const directory = "containers"

// Names lists the containers that the layers define, sorted.
func Names(l *layers.Layers) ([]string, error) {
	names, err := l.Names(directory, definitionFile)
	return names, fault.Wrap(fault.IO, err, "listing containers")
}

// Requests lists the Debian packages that a target's containers need: one request for those
// that they name, and one for each whose dependencies they want. A definition that
// cannot be read is skipped; [Parts] reports its mistakes.
func Requests(t *targets.Target, l *layers.Layers) []debian.Request {
	var packages []string
	var closures []debian.Request
	for d := range definitions(t, l) {
		for _, p := range d.Root.Debian {
			packages = append(packages, p.Package)
			if r := closure(t, p.Package); p.Dependencies && !slices.ContainsFunc(closures, r.Equal) {
				closures = append(closures, r)
			}
		}
	}
	if len(packages) == 0 || t.Arch.Debian == "" { // then [Parts] reports it
		return nil
	}
	slices.Sort(packages)
	all := debian.Request{Name: Request, Suite: suite(t), Arch: t.Arch.Debian, Packages: slices.Compact(packages)}
	return append([]debian.Request{all}, closures...)
}

// definitions returns the definitions of a target's containers that can be read, with their
// files.
func definitions(t *targets.Target, l *layers.Layers) iter.Seq2[*Definition, *yamlfile.File] {
	return func(yield func(*Definition, *yamlfile.File) bool) {
		for _, name := range t.Containers {
			if !nameForm.MatchString(name) {
				continue
			}
			place, ok := l.Find(path.Join(directory, name))
			if !ok {
				continue
			}
			d, f, err := loadAlone(place.Path, path.Join(place.Name, definitionFile))
			if err == nil && f.Err() == nil && !yield(d.forArch(t.Arch.Debian), f) {
				return
			}
		}
	}
}

// Locate returns the error for packages that Debian does not have, with the places where
// the target's containers name them; nil when none does.
func Locate(t *targets.Target, l *layers.Layers, absent *debian.AbsentError) error {
	var all []error
	for d, f := range definitions(t, l) {
		for i, p := range d.Root.Debian {
			if slices.Contains(absent.Packages, p.Package) {
				f.Wrong(fmt.Sprintf("root.debian[%d].package", i), "%q is not in suite %s", p.Package, absent.Suite)
			}
		}
		all = append(all, f.Err())
	}
	return errors.Join(all...)
}

// closure asks for a package with all that it depends on.
func closure(t *targets.Target, name string) debian.Request {
	return debian.Request{Name: Request + "/" + name, Suite: suite(t), Arch: t.Arch.Debian, Packages: []string{name}, Closure: true}
}

// suite returns the Debian suite of the containers' packages: that of the kernel or of
// the App Engine, or else that of the helper programs.
func suite(t *targets.Target) string {
	var kernel, appEngine string
	if t.Kernel != nil {
		kernel = t.Kernel.Suite
	}
	if t.AppEngine != nil {
		appEngine = t.AppEngine.Suite
	}
	return cmp.Or(appEngine, kernel, debian.ToolSuite)
}
