package app

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/app/image"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/state"
)

// states is a [Repository] that gives states without objects.
type states interface {
	State(ctx context.Context, reference string) (*state.State, error)
}

// Newest reports whether an application of a state is made of what its source has now. It asks
// for manifests and states only, and needs no checkout. It is false for a root file system, whose
// content alone tells, and for a part of a repository when [Workspace.Repository] has no method
// State(ctx, reference).
func (w *Workspace) Newest(ctx context.Context, st *state.State, name string) (bool, error) {
	text, ok := st.Get(name + "/" + SourceName)
	if !ok {
		return false, fault.New(fault.BadInput, "application %q: it has no %s", name, SourceName)
	}
	src, err := parseSource(text)
	if err != nil {
		return false, fmt.Errorf("application %q: reading %s: %w", name, SourceName, err)
	}
	newest := false
	switch src.Kind() {
	case Docker:
		newest, err = w.newestImage(ctx, src)
	case PVR:
		newest, err = w.newestPart(ctx, st, name, src)
	}
	if err != nil {
		return false, fmt.Errorf("application %q: %w", name, err)
	}
	return newest, nil
}

func (w *Workspace) newestImage(ctx context.Context, src *Source) (bool, error) {
	opts, err := w.origins(src)
	if err != nil {
		return false, err
	}
	i, err := image.Resolve(ctx, image.JoinReference(src.Text("docker_name"), src.Text("docker_tag")), opts)
	if err != nil {
		return false, err
	}
	defer i.Close()
	has := src.Text("docker_digest")
	if over := src.Text("docker_ovl_digest"); over != "" || src.Text("base") != "" {
		has = over
	}
	return has == i.Digest, nil
}

// newestPart compares the keys of a part with those of the repository that it is from.
func (w *Workspace) newestPart(ctx context.Context, st *state.State, name string, src *Source) (bool, error) {
	there, ok := w.Repository.(states)
	if !ok {
		return false, nil
	}
	repository, fragment, _ := strings.Cut(src.Text("pvr"), "#")
	f, err := state.ParseFragment(fragment)
	if err != nil || len(f.Take) == 0 {
		return false, fault.New(fault.BadInput, "source %q: REPOSITORY#PART is expected", src.Text("pvr"))
	}
	all, err := there.State(ctx, repository)
	if err != nil {
		return false, fmt.Errorf("reading %s: %w", repository, err)
	}
	part, err := state.Get(state.New(all.Spec()), all, f)
	if err != nil {
		return false, fmt.Errorf("selecting %s: %w", fragment, err)
	}
	from := state.PartOf(strings.Trim(f.Take[0], "/"))
	if same, err := sameSource(part, from, src); !same || err != nil {
		return false, err
	}
	for _, key := range part.Keys() {
		rest, own := strings.CutPrefix(key, from+"/")
		if key == state.SpecKey || own && slices.Contains(rendered, rest) {
			continue
		}
		if own {
			rest = name + "/" + rest
		} else {
			rest = key
		}
		theirs, _ := part.Get(key)
		if ours, ok := st.Get(rest); !ok || !bytes.Equal(ours, theirs) {
			return false, nil
		}
	}
	return true, nil
}

// sameSource reports whether the manifest of a part is the one that an application has of it, which
// keeps its own settings; false for a part that is not there.
func sameSource(part *state.State, from string, has *Source) (bool, error) {
	text, ok := part.Get(from + "/" + SourceName)
	if !ok {
		return false, nil
	}
	theirs, err := parseSource(text)
	if err != nil {
		return false, fmt.Errorf("reading %s of %s: %w", SourceName, has.Text("pvr"), err)
	}
	theirs.keepOwn(has)
	theirs.Set("pvr", has.Text("pvr"))
	return canon.Equal(theirs.JSON(), has.JSON()), nil
}
