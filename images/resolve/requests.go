package resolve

import (
	"slices"

	"github.com/pantavisor/pantavisor/bootloader/loaders"
	"github.com/pantavisor/pantavisor/containers"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/internal/layers"
	"github.com/pantavisor/pantavisor/kernel/sources"
	"github.com/pantavisor/pantavisor/targets"
)

// toolsFor lists the Debian packages of the helper programs that the target's boot loader runs.
// Most targets need none.
func toolsFor(t *targets.Target) []string {
	packages := slices.Clone(loaders.ToolPackages(t))
	slices.Sort(packages)
	return slices.Compact(packages)
}

// toolsRequest asks for helper programs for a build architecture.
func toolsRequest(packages []string, hostArch string) debian.Request {
	return debian.Request{Name: debian.ToolsRequest, Suite: debian.ToolSuite, Arch: hostArch, Packages: packages, Closure: true}
}

// targetRequests lists the Debian packages that kernel, boot loader and containers of a target
// need, without the helper programs.
func targetRequests(t *targets.Target, l *layers.Layers) ([]debian.Request, error) {
	out, err := bspRequests(t)
	if err != nil {
		return nil, err
	}
	return append(out, containers.Requests(t, l)...), nil
}

// bspRequests lists the Debian packages that kernel and boot loader of a target need.
func bspRequests(t *targets.Target) ([]debian.Request, error) {
	var out []debian.Request
	if t.Kernel != nil {
		source, err := sources.Of(t)
		if err != nil {
			return nil, err
		}
		out = append(out, source.Requests()...)
	}
	if t.Bootloader != nil {
		loader, err := loaders.For(t)
		if err != nil {
			return nil, err
		}
		out = append(out, loader.Requests()...)
	}
	return out, nil
}

// BuildRequests lists the packages that a build of the target on this machine needs.
func BuildRequests(t *targets.Target, l *layers.Layers) ([]debian.Request, error) {
	return requestsWith(t, l, debian.HostArch())
}

// LockRequests lists the packages for the target's lock. It has helper programs for each
// usual build architecture, so that the file does not depend on the machine that writes
// it, and for this machine's.
func LockRequests(t *targets.Target, l *layers.Layers) ([]debian.Request, error) {
	hosts := []string{"amd64", "arm64"}
	if !slices.Contains(hosts, debian.HostArch()) {
		hosts = append(hosts, debian.HostArch())
	}
	return requestsWith(t, l, hosts...)
}

// requestsWith adds the helper programs for the given build architectures.
func requestsWith(t *targets.Target, l *layers.Layers, hosts ...string) ([]debian.Request, error) {
	out, err := targetRequests(t, l)
	if err != nil {
		return nil, err
	}
	for _, h := range hosts {
		programs, err := hostRequests(t, h)
		if err != nil {
			return nil, err
		}
		out = append(out, programs...)
	}
	return out, nil
}

// hostRequests lists the packages of the programs that run on a build machine.
func hostRequests(t *targets.Target, host string) ([]debian.Request, error) {
	var out []debian.Request
	if tools := toolsFor(t); len(tools) > 0 {
		out = append(out, toolsRequest(tools, host))
	}
	if t.Kernel == nil {
		return out, nil
	}
	source, err := sources.Of(t)
	if err != nil {
		return nil, err
	}
	return append(out, source.HostRequests(host)...), nil
}
