package kernel

import (
	"slices"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

// Source is where a target's kernel comes from. A new one is a file of this package
// with a type that implements it, an entry in the table of [SourceOf], and its value of
// kernel.source in package targets. What the other steps of this package need is the
// tree alone; they know no source.
type Source interface {
	// Requests lists what it takes from Debian; nil when it takes nothing.
	Requests() []debian.Request
	// Tree returns the step whose output has the kernel image and its configuration in
	// boot/ (vmlinuz-RELEASE or vmlinux-RELEASE, config-RELEASE), device trees in dtbs/
	// where there are some, lib/modules/RELEASE with the files that depmod writes, and
	// [IndexFile].
	Tree(parts *debian.Parts) (build.Step, error)
	// Firmware returns the steps whose outputs hold firmware files in one of
	// [FirmwarePaths]; nil when the target takes none.
	Firmware(parts *debian.Parts) ([]build.Step, error)
}

// sources is the table of kernel.source.
var sources = map[string]func(k *targets.Kernel, arch targets.Arch) Source{
	"debian": func(k *targets.Kernel, arch targets.Arch) Source { return &debianSource{k, arch.Debian} },
}

// SourceOf returns the source of a target's kernel, which must not be nil.
func SourceOf(t *targets.Target) (Source, error) {
	open, ok := sources[t.Kernel.Source]
	if !ok {
		return nil, fault.Wrap(fault.BadInput, targets.NotReady("kernel.source", t.Kernel.Source), "choosing the kernel's source")
	}
	return open(t.Kernel, t.Arch), nil
}

// debianSource takes kernel and firmware from packages of Debian.
type debianSource struct {
	kernel *targets.Kernel
	arch   string // Debian's name
}

var _ Source = (*debianSource)(nil)

// The names of the requests to Debian.
const (
	Request         = "kernel"
	FirmwareRequest = "firmware"
)

func (s *debianSource) request() debian.Request {
	return debian.Request{Name: Request, Suite: s.kernel.Suite, Arch: s.arch, Packages: []string{s.kernel.Package}}
}

func (s *debianSource) firmwareRequest() debian.Request {
	packages := slices.Sorted(slices.Values(s.kernel.Firmware.Packages))
	return debian.Request{Name: FirmwareRequest, Suite: s.kernel.Suite, Arch: s.arch, Packages: packages}
}

// Requests are the kernel's package and those of the firmware.
func (s *debianSource) Requests() []debian.Request {
	out := []debian.Request{s.request()}
	if s.kernel.Firmware != nil {
		out = append(out, s.firmwareRequest())
	}
	return out
}

// Tree unpacks the package that the meta package stands for.
func (s *debianSource) Tree(parts *debian.Parts) (build.Step, error) {
	pkg, err := parts.Fetch(s.request(), "linux-image-*")
	if err != nil {
		return nil, err
	}
	return &PackageTree{Package: pkg}, nil
}

// Firmware unpacks the packages' firmware files.
func (s *debianSource) Firmware(parts *debian.Parts) ([]build.Step, error) {
	if s.kernel.Firmware == nil {
		return nil, nil
	}
	all, err := parts.All(s.firmwareRequest())
	if err != nil {
		return nil, err
	}
	var out []build.Step
	for _, p := range all {
		out = append(out, &debian.Unpack{Keep: FirmwarePaths, Package: p})
	}
	return out, nil
}
