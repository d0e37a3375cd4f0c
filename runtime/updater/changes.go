package updater

import (
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/revision/state"
)

// Transition is what going from one state to another takes.
type Transition struct {
	// Reboot holds the keys because of which the device must restart, in byte order
	// (manual: Updates, reboot transition); empty when it need not.
	Reboot []string
	// System are the containers among them: a transition that was told to do without a
	// restart can replace these, but not the rest of Reboot.
	System []string
	// Containers are those that changed, came or went, in byte order.
	Containers []string
}

// Restartless reports whether the transition can be made without a restart when the
// containers that ask for one are replaced all the same.
func (t Transition) Restartless() bool { return len(t.Reboot) == len(t.systemKeys()) }

func (t Transition) systemKeys() (keys []string) {
	for _, k := range t.Reboot {
		if slices.Contains(t.System, state.PartOf(k)) {
			keys = append(keys, k)
		}
	}
	return keys
}

// Compare compares two states as values: white space and the order of members do not count.
// Signatures do not count either, since what they cover does.
func Compare(from, to *state.State, was, will *manifest.System) Transition {
	var t Transition
	restart := policies(was, will)
	for _, c := range state.Changes(from, to) {
		if c.Key == state.SpecKey || strings.HasPrefix(c.Key, "_sigs/") || bookkeeping(c.Key, was, will) {
			continue
		}
		part, isContainer := owner(c.Key, was, will)
		policy := restart[part]
		if isContainer && !slices.Contains(t.Containers, part) {
			t.Containers = append(t.Containers, part)
		}
		if isContainer && policy == manifest.RestartSystem && !slices.Contains(t.System, part) {
			t.System = append(t.System, part)
		}
		if !isContainer || policy == manifest.RestartSystem {
			t.Reboot = append(t.Reboot, c.Key)
		}
	}
	slices.Sort(t.Containers)
	return t
}

// owner returns the container of either state that a key belongs to.
func owner(key string, systems ...*manifest.System) (part string, ok bool) {
	for _, sys := range systems {
		if sys == nil {
			continue
		}
		if part, ok = sys.Owner(key); ok {
			return part, true
		}
	}
	return "", false
}

// policies returns the stricter restart policy of each container in either state.
func policies(systems ...*manifest.System) map[string]manifest.Restart {
	out := map[string]manifest.Restart{}
	for _, sys := range systems {
		if sys == nil {
			continue
		}
		for i := range sys.Containers {
			c := &sys.Containers[i]
			if out[c.Name] != manifest.RestartSystem {
				out[c.Name] = c.Restart
			}
		}
	}
	return out
}

// bookkeeping reports whether a key says where a part came from, or what it is made of, and nothing
// that runs (manual: Pantavisor State Format, src.json and build.json; bills of materials): a file of
// that name directly in the part, which the manifests of neither state name as one to run.
func bookkeeping(key string, systems ...*manifest.System) bool {
	file, ok := strings.CutPrefix(key, state.PartOf(key)+"/")
	if !ok || !slices.Contains([]string{"src.json", "build.json", state.SBOM}, file) {
		return false
	}
	return !slices.ContainsFunc(systems, func(s *manifest.System) bool { return s != nil && s.Names(key) })
}
