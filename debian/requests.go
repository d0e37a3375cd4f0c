package debian

import (
	"slices"

	"github.com/pantavisor/pantavisor/targets"
)

// The names of the requests that a target makes.
const (
	KernelRequest     = "kernel"
	FirmwareRequest   = "firmware"
	BootloaderRequest = "bootloader"
	ContainersRequest = "containers"
	ToolsRequest      = "tools"
)

// ToolSuite is the release that helper programs come from on every machine that
// builds, so that two machines compose with the same programs.
const ToolSuite = "bookworm"

// tools are the packages of the helper programs: mke2fs, grub-mkimage and xz.
var tools = []string{"e2fsprogs", "grub-common", "xz-utils"}

// containerPackages are what the starter containers take from Debian: static
// programs only.
var containerPackages = []string{"busybox-static"}

// Tools is the request for the helper programs of a machine that builds.
func Tools(hostArch string) Request {
	return Request{Name: ToolsRequest, Suite: ToolSuite, Arch: hostArch, Packages: tools, Closure: true}
}

// Requests lists what a target takes from Debian, without the helper programs.
func Requests(t *targets.Target) []Request {
	var out []Request
	add := func(name, suite string, packages []string) {
		if len(packages) > 0 && suite != "" {
			out = append(out, Request{Name: name, Suite: suite, Arch: t.Arch.Debian, Packages: slices.Sorted(slices.Values(packages))})
		}
	}
	suite := ToolSuite
	if k := t.Kernel; k != nil && k.Source == "debian" {
		suite = k.Suite
		add(KernelRequest, k.Suite, []string{k.Package})
		if k.Firmware != nil {
			add(FirmwareRequest, k.Suite, k.Firmware.Packages)
		}
	}
	if a := t.AppEngine; a != nil {
		suite = a.Suite
	}
	if b := t.Bootloader; b != nil {
		add(BootloaderRequest, b.Suite, b.Packages)
	}
	if len(t.Containers) > 0 {
		add(ContainersRequest, suite, containerPackages)
	}
	return out
}

// NamedRequest returns the request of that name among a target's.
func NamedRequest(t *targets.Target, name string) (Request, bool) {
	for _, r := range Requests(t) {
		if r.Name == name {
			return r, true
		}
	}
	return Request{}, false
}

// BuildRequests lists what a build of the target on this machine needs.
func BuildRequests(t *targets.Target) []Request {
	if t.AppEngine != nil { // composed without helper programs
		return Requests(t)
	}
	return append(Requests(t), Tools(HostArch()))
}

// LockRequests lists what the target's lock holds: helper programs for each
// architecture that people build on, so that the file is the same whoever moves
// it, and for this machine's.
func LockRequests(t *targets.Target) []Request {
	hosts := []string{"amd64", "arm64"}
	if !slices.Contains(hosts, HostArch()) {
		hosts = append(hosts, HostArch())
	}
	out := Requests(t)
	if t.AppEngine != nil {
		return out
	}
	for _, h := range hosts {
		out = append(out, Tools(h))
	}
	return out
}
