// Package extlinux makes loaders boot Pantavisor that read extlinux.conf and run no script
// of ours: NVIDIA's CBoot, and builds of U-Boot with that alone. The file is on the storage
// and is the store of the boot handshake; package trail has its form.
//
// Such a loader marks nothing. The runtime makes the last good revision the default again as
// soon as it runs for a test, so a revision that does not get so far is started again and
// again, until someone chooses the entry pv_rev at the loader's prompt.
package extlinux

import (
	"context"
	"regexp"
	"strings"

	"github.com/pantavisor/pantavisor/bootloader"
	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/trail"
	"github.com/pantavisor/pantavisor/targets"
)

// Loader is such a loader for one target.
type Loader struct{ target *targets.Target }

var _ bootloader.Loader = (*Loader)(nil)

// New returns the loader for a target with a boot loader.
func New(t *targets.Target) bootloader.Loader { return &Loader{t} }

// Requests lists the packages with blobs of the target.
func (l *Loader) Requests() []debian.Request { return bootloader.Packages(l.target) }

// Files returns nothing: the loader reads the storage alone.
func (l *Loader) Files(string, bootloader.Kit) (build.Step, error) { return nil, nil }

var argumentForm = regexp.MustCompile(`^[!-~]+$`)

// Raw returns nothing. It is an error if there are arguments or addons that the loader
// cannot take.
func (l *Loader) Raw(k bootloader.Kit) ([]bootloader.Blob, error) {
	if k.BSP != nil && len(k.BSP.Initrd) > 1 {
		return nil, fault.New(fault.Unsupported, "bootloader.type: extlinux loads one initrd, and there are addons (addons in target.yaml, PANTAVISOR_DEBUG)")
	}
	for _, a := range l.arguments() {
		if !argumentForm.MatchString(a) || strings.HasPrefix(a, "pv_rev=") || strings.HasPrefix(a, "pv_try=") || strings.HasPrefix(a, "rdinit=") {
			return nil, fault.New(fault.BadInput, "kernel.arguments: %q: want printable ASCII without blanks, and none of pv_rev=, pv_try=, rdinit=", a)
		}
	}
	return nil, nil
}

func (l *Loader) arguments() []string {
	if l.target.Kernel == nil {
		return nil
	}
	return l.target.Kernel.Arguments
}

// State returns the step with the files of the storage. A revision has a device tree when
// the target names just one.
func (l *Loader) State() build.Step {
	k := l.target.Kernel
	return &State{Arguments: strings.Join(l.arguments(), " "), DeviceTree: k != nil && len(k.DeviceTrees) == 1}
}

// State is the step with the first state of the boot handshake: revision 0 is good, no
// revision is to be tried.
type State struct {
	// Arguments are the kernel's.
	Arguments string
	// DeviceTree is set when the revision has one of its own.
	DeviceTree bool
}

var _ build.Step = (*State)(nil)

// Name is "extlinux/state".
func (*State) Name() string { return "extlinux/state" }

// Deps is empty.
func (*State) Deps() []build.Step { return nil }

// Run writes extlinux.conf.
func (s *State) Run(_ context.Context, w *build.Work) error {
	state := trail.Extlinux{Good: trail.First, Arguments: s.Arguments, DeviceTree: func(string) bool { return s.DeviceTree }}
	text, err := state.Encode()
	if err != nil {
		return fault.Wrap(fault.BadInput, err, "making extlinux.conf")
	}
	return bootloader.WriteTree(w.Out, map[string][]byte{trail.ExtlinuxFile: text})
}
