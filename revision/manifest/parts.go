package manifest

import (
	"strings"

	"github.com/pantavisor/pantavisor/revision/compat"
	"github.com/pantavisor/pantavisor/revision/state"
)

// Declared is [System.Compat] for a state that need not be complete, as one that is being
// made: only what is wrong with declarations themselves is an error.
func Declared(st *state.State) ([]compat.Part, error) {
	p := newParser(st)
	if _, ok := st.Value("bsp/run.json"); ok {
		p.bsp()
	}
	p.drivers()
	p.containers()
	var bad Problems
	for _, problem := range p.problems {
		for _, member := range []string{"provides", "requires", "conflicts"} {
			if strings.HasPrefix(problem.Path, member) {
				bad = append(bad, problem)
			}
		}
	}
	if len(bad) > 0 {
		return nil, bad
	}
	return p.sys.Compat(), nil
}
