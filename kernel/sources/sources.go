// Package sources is the table of kernel sources: the choice by kernel.source of a
// target. Each brings the tree of a kernel as package kernel describes it.
package sources

import (
	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

// Source is where a target's kernel comes from. A new one is a file of this package
// with a type that implements it, an entry in the table of [Of], and its value of
// kernel.source in package targets.
type Source interface {
	// Requests lists what it takes from Debian; nil when it takes nothing.
	Requests() []debian.Request
	// Tree returns the step whose output is a tree as package kernel describes it.
	Tree(parts *debian.Parts) (build.Step, error)
	// Firmware returns the steps whose outputs hold firmware files in one of
	// [kernel.FirmwarePaths]; nil when the target takes none.
	Firmware(parts *debian.Parts) ([]build.Step, error)
}

// sources is the table of kernel.source.
var sources = map[string]func(k *targets.Kernel, arch targets.Arch) Source{
	"debian": func(k *targets.Kernel, arch targets.Arch) Source { return &debianSource{k, arch.Debian} },
}

// Of returns the source of a target's kernel, which must not be nil.
func Of(t *targets.Target) (Source, error) {
	open, ok := sources[t.Kernel.Source]
	if !ok {
		return nil, fault.Wrap(fault.BadInput, targets.NotReady("kernel.source", t.Kernel.Source), "choosing the kernel's source")
	}
	return open(t.Kernel, t.Arch), nil
}
