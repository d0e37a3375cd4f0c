package sources

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/debian/deb"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/kernel"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/targets"
)

// debianSource takes kernel and firmware from Debian packages.
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

// firmwareRequests asks for the packages with a kernel's firmware, if it has any.
func firmwareRequests(k *targets.Kernel, arch string) []debian.Request {
	if k.Firmware == nil {
		return nil
	}
	packages := slices.Sorted(slices.Values(k.Firmware.Packages))
	return []debian.Request{{Name: FirmwareRequest, Suite: k.Suite, Arch: arch, Packages: packages}}
}

// Requests lists the packages of the kernel and of the firmware.
func (s *debianSource) Requests() []debian.Request {
	return append([]debian.Request{s.request()}, firmwareRequests(s.kernel, s.arch)...)
}

// HostRequests lists nothing: no program runs.
func (s *debianSource) HostRequests(string) []debian.Request { return nil }

// Tree unpacks the package that the meta package stands for.
func (s *debianSource) Tree(k Kit) (build.Step, error) {
	pkg, err := k.Packages.Fetch(s.request(), "linux-image-*")
	if err != nil {
		return nil, err
	}
	return &PackageTree{Package: pkg}, nil
}

// Firmware unpacks the packages' firmware files.
func (s *debianSource) Firmware(k Kit) ([]build.Step, error) {
	return firmware(k, s.kernel, s.arch)
}

// firmware returns the steps that unpack the packages with a kernel's firmware.
func firmware(kit Kit, k *targets.Kernel, arch string) ([]build.Step, error) {
	var out []build.Step
	for _, r := range firmwareRequests(k, arch) {
		all, err := kit.Packages.All(r)
		if err != nil {
			return nil, err
		}
		for _, p := range all {
			out = append(out, &debian.Unpack{Keep: kernel.FirmwarePaths, Package: p})
		}
	}
	return out, nil
}

// PackageTree is the step that unpacks a Debian kernel package and indexes its modules.
// Its output is a tree as package kernel describes it; boot/ is unchanged.
type PackageTree struct {
	Package *debian.Fetch `json:"-"`
}

var (
	_ build.Step      = (*PackageTree)(nil)
	_ build.Versioned = (*PackageTree)(nil)
)

// Name is "kernel/tree".
func (t *PackageTree) Name() string { return "kernel/tree" }

// Version of the step's logic.
func (t *PackageTree) Version() int { return 3 }

// Deps is the package.
func (t *PackageTree) Deps() []build.Step { return []build.Step{t.Package} }

// Run unpacks and indexes.
func (t *PackageTree) Run(ctx context.Context, w *build.Work) error {
	keep := func(name string) bool { return isKernelFile(name) || name == t.Package.Licence() }
	if err := t.Package.Extract(ctx, w, deb.Extract{Keep: keep, Place: t.placed}); err != nil {
		return err
	}
	return fault.Wrap(fault.BadInput, kernel.IndexTree(w.Out), "unpacking %s", t.Package.Entry)
}

// Supplies is the package.
func (t *PackageTree) Supplies(in func(build.Step) string) ([]sbom.Supply, error) {
	out, err := t.Package.Supply(in(t.Package), in(t))
	for i := range out {
		asKernel(&out[i].Package)
	}
	return out, err
}

// asKernel says of a package that it is the Linux kernel. Its upstream version is that of the
// package up to the revision of the distribution.
func asKernel(p *sbom.Package) {
	upstream, _, _ := strings.Cut(p.Version, "-")
	upstream, _, _ = strings.Cut(upstream, "+")
	p.Purpose, p.CPE = sbom.OperatingSystem, "cpe:2.3:o:linux:linux_kernel:"+upstream+":*:*:*:*:*:*:*"
}

// placed is placed for all but the licence, which stays where it is.
func (t *PackageTree) placed(name string) string {
	if name == t.Package.Licence() {
		return name
	}
	return placed(name)
}

// isKernelFile reports whether a file of the package is wanted. The links build and
// source point to packages that are not installed.
func isKernelFile(name string) bool {
	name = placed(name)
	base := filepath.Base(name)
	return strings.HasPrefix(name, "boot/") || strings.HasPrefix(name, "dtbs/") ||
		strings.HasPrefix(name, "lib/modules/") && base != "build" && base != "source"
}

// placed returns the output path of a file of the package: the /usr merge is undone, so
// that modules are always below lib/modules, and device trees, which Debian keeps below
// usr/lib/linux-image-RELEASE, go below dtbs.
func placed(name string) string {
	name = strings.TrimPrefix(name, "usr/")
	if rest, ok := strings.CutPrefix(name, "lib/linux-image-"); ok {
		_, file, _ := strings.Cut(rest, "/")
		return "dtbs/" + file
	}
	return name
}
