package device

import (
	"errors"
	"fmt"

	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/logs"
)

// loaded is a state without the parts that cannot be used.
type loaded struct {
	state *state.State
	sys   *manifest.System
	// lost are the parts that cannot be used, with the reason.
	lost map[string]string
}

// lostContainers returns the lost parts that are containers, with the reason.
func (l *loaded) lostContainers() map[string]string {
	out := map[string]string{}
	for part, reason := range l.lost {
		if _, ok := l.state.Get(part + "/run.json"); ok {
			out[part] = reason
		}
	}
	return out
}

// load reads a state. A part that violates the format is left out, so
// that one bad container does not keep the others from running.
func load(st *state.State, opt manifest.Options, log logs.Logger) (*loaded, error) {
	l := &loaded{state: st, lost: map[string]string{}}
	for {
		sys, err := manifest.Parse(st, opt)
		if err == nil {
			l.sys = sys
			return l, nil
		}
		bad := problemParts(err)
		if len(bad) == 0 {
			return nil, fmt.Errorf("loading the state: %w", err)
		}
		drop := make([]string, 0, len(bad))
		for part, reason := range bad {
			log.Errorf("the state's part %s is left out: %s", part, reason)
			l.lost[part] = reason
			if part == "bsp" {
				opt.AppEngine = true // the BSP is not needed to run the containers
			}
			drop = append(drop, part)
		}
		if st, err = without(st, drop); err != nil {
			return nil, err
		}
	}
}

// without drops parts. It fails when nothing was dropped, so that the caller's loop ends.
func without(st *state.State, parts []string) (*state.State, error) {
	smaller := st.Without(parts...)
	if smaller.Len() >= st.Len() {
		return nil, fmt.Errorf("loading the state: %w", state.ErrFormat)
	}
	return smaller, nil
}

// problemParts returns the parts that an error of manifest.Parse is about, with the reasons.
func problemParts(err error) map[string]string {
	var ps manifest.Problems
	if !errors.As(err, &ps) {
		return nil
	}
	bad := map[string]string{}
	for _, p := range ps {
		part := state.PartOf(p.Key)
		if part == "" || p.Key == state.SpecKey {
			continue
		}
		if bad[part] == "" {
			bad[part] = p.Error()
		}
	}
	return bad
}
