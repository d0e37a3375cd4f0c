package device

import (
	"runtime"
	"slices"

	"github.com/pantavisor/pantavisor/revision/compat"
	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/revision/state"
)

// devicePart is the name of the device itself as a part.
const devicePart = "this device"

// facts are what is known of the device itself.
type facts struct {
	version string // of the runtime
	kernel  string // its release
}

// compatible returns what does not hold of the declarations of a state that is to follow
// the running one, nil when everything does.
func (f facts) compatible(running *revision, st *state.State, sys *manifest.System) compat.Problems {
	parts := sys.Compat()
	device := compat.Part{Name: devicePart}
	if t, ok := otherBoard(running.system(), sys); ok {
		device.Requires = append(device.Requires, t)
	}
	if sameBSP(running.state, st) {
		device.Provides = f.provided(sys.BSP)
	}
	return compat.Check(append(parts, device))
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

// provided is what the device has and its BSP does not declare.
func (f facts) provided(bsp *manifest.BSP) (out []compat.Term) {
	var declared []compat.Term
	if bsp != nil {
		declared = bsp.Compat.Provides
	}
	for _, text := range []string{compat.Arch + ":" + runtime.GOARCH, compat.Kernel + "=" + f.kernel, compat.Runtime + "=" + f.version} {
		t, err := compat.ParseProvided(text)
		if err == nil && !t.DeclaredIn(declared) { // a version such as (devel) cannot be compared
			out = append(out, t)
		}
	}
	return out
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
