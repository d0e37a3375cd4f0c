package containers

import (
	"cmp"
	"path"
	"slices"

	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/internal/layers"
	"github.com/pantavisor/pantavisor/targets"
)

// Request is the name of the containers' request to Debian.
const Request = "containers"

// directory is where a layer has its containers.
const directory = "containers"

// Requests lists the Debian packages that a target's containers need. A definition that
// cannot be read is skipped; [Parts] reports its mistakes.
func Requests(t *targets.Target, l *layers.Layers) []debian.Request {
	var packages []string
	for _, name := range t.Containers {
		if !nameForm.MatchString(name) {
			continue
		}
		place, ok := l.Find(path.Join(directory, name))
		if !ok {
			continue
		}
		d, err := load(place.Path)
		if err != nil {
			continue
		}
		for _, p := range d.Root.Debian {
			packages = append(packages, p.Package)
		}
	}
	if len(packages) == 0 {
		return nil
	}
	slices.Sort(packages)
	return []debian.Request{{Name: Request, Suite: suite(t), Arch: t.Arch.Debian, Packages: slices.Compact(packages)}}
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
