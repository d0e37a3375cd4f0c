package containers

import (
	"cmp"
	"path/filepath"
	"slices"

	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/targets"
)

// Request is the name of the containers' request to Debian.
const Request = "containers"

// Requests lists the Debian packages that a target's containers, defined below dir, need.
// A definition that cannot be read is skipped; [Parts] reports its mistakes.
func Requests(t *targets.Target, dir string) []debian.Request {
	var packages []string
	for _, name := range t.Containers {
		d, err := load(filepath.Join(dir, name))
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
