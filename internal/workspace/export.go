package workspace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/containers"
	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/images/resolve"
	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/spelling"
	"github.com/pantavisor/pantavisor/revision/repo"
	"github.com/pantavisor/pantavisor/targets"
)

// Exported is an export that [Workspace.Export] made.
type Exported struct {
	Container string `json:"container"`
	Target    string `json:"target"`
	Path      string `json:"path"`
}

// Export makes containers of the build as they are for a target, each an export in the
// target's output directory. The target may be "" when just one lists all the containers.
func (w *Workspace) Export(ctx context.Context, target string, names []string) error {
	if target == "" {
		var err error
		if target, err = w.targetOf(names); err != nil {
			return err
		}
	}
	loaded, err := w.load(target)
	if err != nil {
		return err
	}
	t := *loaded
	t.Containers = names
	j, err := w.builder(&t)
	if err != nil {
		return err
	}
	list, err := w.export(ctx, j)
	if err = errors.Join(err, j.close()); err != nil {
		return err
	}
	return w.tell(list, func(out io.Writer) error {
		for _, e := range list {
			fmt.Fprintln(out, e.Path)
		}
		return nil
	})
}

// targetOf returns the one target that lists all of the containers.
func (w *Workspace) targetOf(names []string) (string, error) {
	l, err := w.Sources()
	if err != nil {
		return "", err
	}
	known, err := containers.Names(l)
	if err != nil {
		return "", err
	}
	for _, n := range names {
		if !slices.Contains(known, n) {
			return "", spelling.Unknown("container", n, known)
		}
	}
	all, err := targets.LoadAll(definitions(l))
	if err != nil {
		return "", err
	}
	var found []string
	for _, t := range all {
		missing := slices.ContainsFunc(names, func(n string) bool { return !slices.Contains(t.Containers, n) })
		ofTarget := t.Name != t.Definition && slices.Contains(found, t.Definition) // a build has the same ones
		if !missing && !ofTarget {
			found = append(found, t.Name)
		}
	}
	switch words := strings.Join(names, " and "); len(found) {
	case 0:
		return "", fault.New(fault.BadInput, "no target lists %s: say for which to make it, with --target=TARGET", words)
	case 1:
		return found[0], nil
	default:
		return "", fault.New(fault.BadInput, "%s is in the targets %s: say for which to make it, with --target=TARGET", words, strings.Join(found, ", "))
	}
}

// export builds the containers of the job's target and writes their exports.
func (w *Workspace) export(ctx context.Context, j *job) ([]Exported, error) {
	var err error
	if j.parts, err = w.parts(ctx, j); err != nil {
		return nil, err
	}
	in, err := resolve.Target(j.target, resolve.Options{
		Layers: j.layers, Module: j.Code, Own: j.own, Parts: j.parts, Epoch: w.Options.Epoch,
	})
	if err != nil {
		return nil, err
	}
	j.Replaced = j.hidden()
	var steps []build.Step
	for _, c := range in.Containers {
		steps = append(steps, c.Step, in.SBOMOf(c.Step))
	}
	res, err := j.Build(ctx, steps...)
	if err = w.roomFor(err, j.Cache.Dir()); err != nil {
		return nil, err
	}
	dir := filepath.Join(w.Out(j.target.Name), "containers")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fault.Wrap(fault.IO, err, "exporting containers")
	}
	var list []Exported
	for i, name := range j.target.Containers {
		e := Exported{Container: name, Target: j.target.Name, Path: filepath.Join(dir, name+".pvr.tgz")}
		if err := exportPart(ctx, e.Path, w.Options.Epoch, res.Dir(steps[2*i]), res.Dir(steps[2*i+1])); err != nil {
			return nil, fault.Wrap(fault.IO, err, "exporting container %s", name)
		}
		list = append(list, e)
	}
	return list, nil
}

// exportPart writes the fragments of a state in dirs as one export.
func exportPart(ctx context.Context, path string, epoch build.Stamp, dirs ...string) error {
	tmp, err := os.MkdirTemp(filepath.Dir(path), ".export-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	made := filepath.Join(tmp, "made")
	if err := os.Mkdir(made, 0o755); err != nil {
		return err
	}
	export := filepath.Join(made, "export")
	if err := images.ExportPart(ctx, export, filepath.Join(tmp, "part"), epoch, dirs...); err != nil {
		return err
	}
	return atomicfile.NameTree(made, filepath.Dir(path), func() error { return os.Rename(export, path) })
}

// Device makes a checkout (pvr) of the target's revision 0 in a new directory: the BSP and
// the containers, to add others to and to build an image of with PVR_MERGE_SRC.
func (w *Workspace) Device(ctx context.Context, target, dir string) error {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fault.New(fault.BadInput, "%s is not empty: name a new directory for the device", dir)
	}
	j, err := w.open(ctx, target)
	if err != nil {
		return err
	}
	defer j.close() //nolint:errcheck // the build's own error says more
	steps := j.comp.Components["trail"]
	if len(steps) == 0 {
		return fault.New(fault.Unsupported, "target %s has no revision 0 to make a device of", target)
	}
	res, err := j.Build(ctx, steps...)
	if err = w.roomFor(err, j.Cache.Dir()); err != nil {
		return err
	}
	if err := cloneStorage(ctx, filepath.Join(res.Dir(steps[0]), images.StorageDir), dir); err != nil {
		return fault.Wrap(fault.IO, err, "making the device %s", dir)
	}
	fmt.Fprintf(w.Stderr, `made %s; add an application and build an image with it:
  cd %s
  pvr app add NAME --from IMAGE
  pvr add . && pvr commit -m NAME
  cd - && PVR_MERGE_SRC=%s mage build %s
`, dir, dir, filepath.Join(dir, repo.Dir), target)
	return w.tell(Made{Target: target, Directory: dir}, noText)
}

// Made is a directory that [Workspace.Device] or [Workspace.Init] made for a target.
type Made struct {
	Target    string `json:"target"`
	Directory string `json:"directory"`
}

// cloneStorage makes a checkout of revision 0 of a device's storage.
func cloneStorage(ctx context.Context, storage, dir string) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(abs), 0o755); err != nil {
		return err
	}
	src, err := repo.Local(filepath.Join(storage, "trails", "0", repo.Dir), false)
	if err != nil {
		return err
	}
	return repo.Clone(ctx, src, repo.Ref{}, abs, repo.CloneOptions{})
}
