package device

import (
	"runtime"
	"slices"

	"github.com/pantavisor/pantavisor/revision/compat"
	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/revision/state"
)

// Names of the device itself and of its kernel as parts.
const (
	devicePart = "this device"
	kernelPart = "the running kernel"
)

// facts are what is known of the device itself.
type facts struct {
	version string // of the runtime
	release string // of the kernel
	kernel  runningKernel
}

// compatible returns what does not hold of the declarations of a state that is to follow
// the running one, nil when everything does. What the BSP does not declare is the running
// device's, as long as what it is of stays.
func (f facts) compatible(running *revision, st *state.State, sys *manifest.System) compat.Problems {
	return compat.Check(f.parts(running, st, sys))
}

// parts are those of a state with what is known of the device.
func (f facts) parts(running *revision, st *state.State, sys *manifest.System) []compat.Part {
	parts := sys.Compat()
	device := compat.Part{Name: devicePart}
	if t, ok := otherBoard(running.system(), sys); ok {
		device.Requires = append(device.Requires, t)
	}
	if sameBSP(running.state, st) {
		device.Provides = undeclared(sys.BSP, compat.Arch+":"+runtime.GOARCH, compat.Runtime+"="+f.version)
	}
	if sameKernel(running, st, sys) {
		parts = append(parts, f.kernelPart(sys.BSP, parts))
	}
	return append(parts, device)
}

// otherBoard returns a board that the running BSP is for, when the next one is for none of
// them: it would not boot here. A BSP that is for two boards leads from one name to the other.
func otherBoard(running, next *manifest.System) (board compat.Term, other bool) {
	if running.BSP == nil || next.BSP == nil {
		return board, false
	}
	for _, t := range slices.Backward(running.BSP.Compat.Provides) {
		if t.Kind != compat.Board {
			continue
		}
		board, other = compat.Term{Kind: t.Kind, Name: t.Name}, true
		if slices.ContainsFunc(next.BSP.Compat.Provides, func(n compat.Term) bool { return n.Kind == t.Kind && n.Name == t.Name }) {
			return board, false
		}
	}
	return board, other
}

// undeclared returns those terms whose subject the BSP does not declare.
func undeclared(bsp *manifest.BSP, terms ...string) (out []compat.Term) {
	var declared []compat.Term
	if bsp != nil {
		declared = bsp.Compat.Provides
	}
	for _, text := range terms {
		t, err := compat.ParseProvided(text)
		if err == nil && !t.DeclaredIn(declared) { // a version such as (devel) cannot be compared
			out = append(out, t)
		}
	}
	return out
}

// kernelPart is the running kernel as a part: its release, unless the BSP declares that, and those
// features and drivers that are asked for. A BSP has a list of its drivers.
func (f facts) kernelPart(bsp *manifest.BSP, asking []compat.Part) compat.Part {
	p := compat.Part{Name: kernelPart}
	p.Provides = undeclared(bsp, compat.Kernel+"="+f.release)
	if names := asked(asking, compat.Feature); len(names) > 0 {
		has, all := f.kernel.features(names)
		p.Provides = append(p.Provides, had(compat.Feature, names, has)...)
		if all {
			p.States = append(p.States, compat.Feature+":")
		} else {
			p.Some = append(p.Some, compat.Feature+":")
		}
	}
	if names := asked(asking, compat.Driver); bsp == nil && len(names) > 0 {
		p.Provides = append(p.Provides, had(compat.Driver, names, f.kernel.drivers(names))...)
		p.Some = append(p.Some, compat.Drivers)
	}
	return p
}

// asked returns the names of a kind that some parts require or conflict with.
func asked(parts []compat.Part, kind string) (names []string) {
	for i := range parts {
		for _, t := range slices.Concat(parts[i].Requires, parts[i].Conflicts) {
			if t.Kind == kind && !slices.Contains(names, t.Name) {
				names = append(names, t.Name)
			}
		}
	}
	return names
}

// had returns the names that are there as terms.
func had(kind string, names []string, has map[string]bool) (out []compat.Term) {
	for _, name := range names {
		if has[name] {
			out = append(out, compat.Term{Kind: kind, Name: name})
		}
	}
	return out
}

// sameKernel reports whether a state has the kernel that runs. One without a BSP runs on
// whatever there is.
func sameKernel(running *revision, st *state.State, sys *manifest.System) bool {
	if sys.BSP == nil {
		return running.system().BSP == nil
	}
	was := running.system().BSP
	if was == nil {
		return false
	}
	for _, name := range [][2]string{{was.Linux, sys.BSP.Linux}, {was.FIT, sys.BSP.FIT}, {was.Slot, sys.BSP.Slot}} {
		before, _ := running.state.Object("bsp/" + name[0])
		after, _ := st.Object("bsp/" + name[1])
		if before != after {
			return false
		}
	}
	return true
}

// sameBSP reports whether two states have the same BSP, so that kernel and runtime stay.
func sameBSP(a, b *state.State) bool {
	if a == nil {
		return false
	}
	for _, c := range state.Changes(a, b) {
		if state.PartOf(c.Key) == "bsp" {
			return false
		}
	}
	return true
}
