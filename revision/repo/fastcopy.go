package repo

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/state"
)

// errFragments is wrapped by the errors for two fragments that do not match.
var errFragments = errors.New("fragments do not match")

// FastCopy returns the state that a remote copy posts. Without fragments it is the
// source's state, or with merge the source's keys set in the destination's state. When
// the source's fragment names parts, it is the destination's state with those parts
// replaced; when the destination's fragment names parts, too, the source's parts are
// renamed to them, one by one. Parts with a leading '-' select nothing.
func FastCopy(src, dst *state.State, from, to state.Fragment, merge bool) (*state.State, error) {
	names := to.Take
	switch {
	case len(to.Take) == 0:
		names = from.Take
	case len(from.Take) == 0:
		return nil, fmt.Errorf("%w: RemoteCopy source URL must have a #fragement part if destination URL is specifying a #fragement", errFragments) //nolint:misspell // the customary text
	case len(from.Take) != len(to.Take):
		return nil, fmt.Errorf("%w: the source names %d parts and the destination %d", errFragments, len(from.Take), len(to.Take))
	}
	whole := len(from.Take) == 0 && len(from.Drop) == 0
	if whole && !merge {
		return src.Clone(), nil
	}
	base, added := dst.Clone(), src
	if !whole {
		if !merge {
			base = dst.Without(names...)
		}
		var err error
		if added, err = renameParts(src, from.Take, names); err != nil {
			return nil, err
		}
	}
	out, err := base.With(added)
	if err != nil {
		return nil, fmt.Errorf("copying the parts: %w", err)
	}
	return out, nil
}

// renameParts returns a state that holds only the given parts, renamed.
func renameParts(src *state.State, from, to []string) (*state.State, error) {
	var members []canon.Member
	for i, part := range from {
		part = strings.TrimSuffix(part, "/")
		for _, key := range src.Keys() {
			if !state.Within(part, key) {
				continue
			}
			value, _ := src.Value(key)
			members = append(members, canon.Member{Name: strings.TrimSuffix(to[i], "/") + key[len(part):], Value: value})
		}
	}
	out, err := state.FromMembers(members)
	if err != nil {
		return nil, fmt.Errorf("renaming the parts: %w", err)
	}
	return out, nil
}
