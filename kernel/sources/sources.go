// Package sources has the table of kernel sources by a target's kernel.source. Each
// source provides the tree of a kernel as package kernel describes it.
package sources

import (
	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/layers"
	"github.com/pantavisor/pantavisor/targets"
)

// Source is where a target's kernel comes from. To add a source, write a type that
// implements it in a new file of this package and add an entry to the table sources and a
// value of kernel.source in package targets.
type Source interface {
	// Requests lists the Debian packages that it needs; nil for none.
	Requests() []debian.Request
	// HostRequests lists those of the programs that its steps run on a build machine of an
	// architecture in Debian's terms; nil for none.
	HostRequests(host string) []debian.Request
	// Tree returns the step whose output is a tree as package kernel describes it.
	Tree(k Kit) (build.Step, error)
	// Firmware returns the steps whose outputs hold firmware files in one of
	// [kernel.FirmwarePaths]; nil for a target without firmware.
	Firmware(k Kit) ([]build.Step, error)
}

// Kit is what sources make their steps from.
type Kit struct {
	// Packages makes the steps that fetch Debian packages.
	Packages *debian.Parts
	// Part returns the step with a named part of the target, and the part's path in its
	// output.
	Part func(name string) (step build.Step, file string, err error)
	// Layers have the fragments, the patches and the trees of the user.
	Layers *layers.Layers
}

// sources is the table of kernel.source.
var sources = map[string]func(k *targets.Kernel, arch targets.Arch) Source{
	"buildroot":     func(k *targets.Kernel, arch targets.Arch) Source { return &buildrootSource{external{k, arch}} },
	"debian":        func(k *targets.Kernel, arch targets.Arch) Source { return &debianSource{k, arch.Debian} },
	"debian-source": func(k *targets.Kernel, arch targets.Arch) Source { return &compiled{k, arch} },
	"files":         func(k *targets.Kernel, _ targets.Arch) Source { return &fileSource{k} },
	"yocto":         func(k *targets.Kernel, arch targets.Arch) Source { return &yoctoSource{external{k, arch}} },
	"tree":          func(k *targets.Kernel, arch targets.Arch) Source { return &compiled{k, arch} },
}

// Of returns the source of a target's kernel. t.Kernel must not be nil.
func Of(t *targets.Target) (Source, error) {
	open, ok := sources[t.Kernel.Source]
	if !ok {
		return nil, fault.Wrap(fault.BadInput, targets.NotReady("kernel.source", t.Kernel.Source), "choosing the kernel's source")
	}
	return open(t.Kernel, t.Arch), nil
}
