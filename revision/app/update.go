package app

import (
	"context"
	"fmt"
	"slices"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/app/image"
)

// UpdateOptions control an update; the fields are the flags of pvr app update.
type UpdateOptions struct {
	// From is a new source of the same kind; default the one in src.json.
	From string
	// Patch keeps the root file system and puts the differences into an overlay.
	Patch bool
	// NewBase makes the root file system again and removes the overlay.
	NewBase bool
	// SBOM writes the bill of materials also of an application that has none.
	SBOM bool
}

// Update resolves an application's source again and makes the files that changed, also
// for the applications that extend it. Arguments, volumes and other members of the
// manifest stay. An application that has an overlay gets only a new overlay, unless
// NewBase is set.
func (w *Workspace) Update(ctx context.Context, name string, o UpdateOptions) (*Result, error) {
	name, err := CheckName(name)
	if err != nil {
		return nil, err
	}
	if o.Patch && o.NewBase {
		return nil, fault.New(fault.BadInput, "updating application %q: --patch and --newbase exclude each other", name)
	}
	r, err := w.update(ctx, name, o)
	if err != nil {
		return nil, fmt.Errorf("updating application %q: %w", name, err)
	}
	w.say(name, "", "Searching for dependencies of %s", name)
	if err := w.updateDependants(ctx, name, r); err != nil {
		return r, fmt.Errorf("updating what extends application %q: %w", name, err)
	}
	w.say(name, "", "Application updated")
	return r, nil
}

func (w *Workspace) update(ctx context.Context, name string, o UpdateOptions) (*Result, error) {
	old, err := w.read(name)
	if err != nil {
		return nil, err
	}
	if kind := old.Kind(); kind != Docker && (o.Patch || o.NewBase) {
		return nil, fault.New(fault.BadInput, "--patch and --newbase go with container images only; it comes from a %s source", kind)
	}
	if old.Kind() == PVR {
		return w.updatePart(ctx, name, old, o.From)
	}
	b, err := w.begin(name, old, old.clone())
	if err != nil {
		return nil, err
	}
	defer b.end()
	b.added = o.SBOM
	if old.Kind() == Rootfs {
		b.updateRootfs(o.From)
	} else if err := b.updateDocker(ctx, o); err != nil {
		return nil, err
	}
	return b.finish(ctx)
}

// updateRootfs marks the root file system to be made again from its source.
func (b *build) updateRootfs(from string) {
	if from != "" {
		b.src.Set("rootfs_url", from)
	}
	b.src.Set("rootfs_digest", "")
	b.w.say(b.name, b.name+"/"+rootName, "Update base: %s", rootName)
}

func (b *build) updateDocker(ctx context.Context, o UpdateOptions) error {
	based := b.src.Text("base") != ""
	if based && o.NewBase {
		return fault.New(fault.BadInput, "--newbase: its root file system is that of %q; update that one", b.src.Text("base"))
	}
	overlay := based || o.Patch || b.src.Text("docker_ovl_digest") != "" && !o.NewBase
	if o.Patch && b.src.Text("docker_digest") == "" {
		return fault.New(fault.BadInput, "--patch: it has no docker_digest to patch; install it first")
	}
	reference := o.From
	if reference == "" {
		reference = image.JoinReference(b.src.Text("docker_name"), b.src.Text("docker_tag"))
	}
	if err := b.lookup(ctx, reference, overlay); err != nil {
		return err
	}
	if overlay {
		b.w.say(b.name, b.name+"/"+overlayName, "Update ovl: %s", overlayName)
		return nil
	}
	b.src.Set("docker_ovl_digest", "")
	b.w.say(b.name, b.name+"/"+rootName, "Update base: %s", rootName)
	return nil
}

// updateDependants installs the applications that extend one.
func (w *Workspace) updateDependants(ctx context.Context, name string, r *Result) error {
	names, err := w.List()
	if err != nil {
		return err
	}
	for _, other := range names {
		src, err := w.read(other)
		if err != nil {
			return err
		}
		if src.Text("base") != name {
			continue
		}
		done, err := w.install(ctx, other, 0)
		if err != nil {
			return fmt.Errorf("application %q: %w", other, err)
		}
		r.Written = slices.Concat(r.Written, done.Written)
		r.Tracked = slices.Concat(r.Tracked, done.Tracked)
	}
	return nil
}
