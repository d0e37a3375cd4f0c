package sources

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/kernel"
	"github.com/pantavisor/pantavisor/targets"
)

// external is a kernel that another build system has made in kernel.dir; its firmware comes from
// packages.
type external struct {
	kernel *targets.Kernel
	arch   targets.Arch
}

// Requests lists the packages of the firmware.
func (s *external) Requests() []debian.Request { return firmwareRequests(s.kernel, s.arch.Debian) }

// HostRequests lists nothing: no program runs.
func (s *external) HostRequests(string) []debian.Request { return nil }

// Firmware unpacks the packages' firmware files.
func (s *external) Firmware(k Kit) ([]build.Step, error) {
	return firmware(k, s.kernel, s.arch.Debian)
}

// dir finds kernel.dir.
func (s *external) dir(k Kit) (string, error) {
	if filepath.IsAbs(s.kernel.Dir) {
		return s.kernel.Dir, nil
	}
	place, ok := k.Layers.Find(s.kernel.Dir)
	if !ok {
		return "", fault.New(fault.Missing, "kernel.dir: directory %s does not exist", place.Path)
	}
	return place.Path, nil
}

// checkRelease rejects a release, as the other build system tells it, that would not be the name of
// a directory.
func checkRelease(release string) error {
	if !kernel.ReleaseForm.MatchString(release) {
		return fault.New(fault.BadInput, "kernel.dir: %q is not the release of a kernel", release)
	}
	return nil
}

// deposit copies a file or a directory to a name in a tree. Names come from the settings of the other
// build system.
func deposit(ctx context.Context, tree, name, from string) error {
	if !fs.ValidPath(name) {
		return fault.New(fault.BadInput, "%q, for %s, is not a path below the kernel's directory", name, from)
	}
	info, err := os.Stat(from)
	if err != nil {
		return fault.Wrap(fault.IO, err, "copying the kernel")
	}
	to := filepath.Join(tree, filepath.FromSlash(name))
	if info.IsDir() {
		return fault.Wrap(fault.IO, build.CopyTree(ctx, to, from), "copying the kernel")
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return fault.Wrap(fault.IO, err, "copying the kernel")
	}
	return fault.Wrap(fault.IO, build.CopyFile(ctx, to, from), "copying the kernel")
}
