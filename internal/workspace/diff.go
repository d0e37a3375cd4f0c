package workspace

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/images/inspect"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/remote"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/ctrl/client"
)

// Diff prints how two things differ: targets that were built, images, exports, checkouts, plans,
// revisions of devices. The error is of kind fault.Different when they do.
func (w *Workspace) Diff(ctx context.Context, a, b string, markdown bool) error {
	if markdown && w.JSON {
		return fault.New(fault.BadInput, "--json and --markdown are two forms of the result: give one of them")
	}
	var r inspect.Reader
	defer r.Close()
	na, err := w.comparable(ctx, &r, a)
	if err != nil {
		return err
	}
	nb, err := w.comparable(ctx, &r, b)
	if err != nil {
		return err
	}
	if na.IsPlan() != nb.IsPlan() { // the other one is a target
		if na, err = w.planned(ctx, na, a); err == nil {
			nb, err = w.planned(ctx, nb, b)
		}
		if err != nil {
			return err
		}
	}
	differences, err := r.Compare(ctx, na, nb)
	if err != nil {
		return err
	}
	result := inspect.NewResult(a, b, differences)
	form := result.Text
	if markdown {
		form = result.Markdown
	}
	if err := w.tell(result, form); err != nil {
		return err
	}
	if !result.Equal {
		return fault.New(fault.Different, "%s and %s differ", a, b)
	}
	return nil
}

// comparable opens what a user names.
func (w *Workspace) comparable(ctx context.Context, r *inspect.Reader, name string) (*inspect.Node, error) {
	if strings.HasPrefix(name, "http://") || strings.HasPrefix(name, "https://") {
		return fromRemote(ctx, r, name)
	}
	if w.built(w.targetName(name)) {
		return r.Open(ctx, w.Out(w.targetName(name)))
	}
	info, err := os.Stat(w.path(name))
	switch {
	case errors.Is(err, fs.ErrNotExist) && w.known(name):
		return nil, fault.New(fault.Missing, "target %s has not been built: mage build %s makes it", name, name)
	case errors.Is(err, fs.ErrNotExist):
		return nil, fault.New(fault.Missing, "%s is neither a file, nor a directory, nor a target: mage targets lists those", name)
	case err != nil:
		return nil, fault.Wrap(fault.IO, err, "opening what to compare")
	case info.Mode().Type() == fs.ModeSocket:
		c := &client.Client{Socket: w.path(name)}
		text, err := c.Text(ctx, "/steps/current")
		if err != nil {
			return nil, fault.Wrap(fault.Unreachable, err, "asking the device at %s for its revision", name)
		}
		return r.State(name, text)
	}
	return r.Open(ctx, w.path(name))
}

// targetName is the name of the target that a word stands for, which may be that of its default
// build; the word itself when there is none.
func (w *Workspace) targetName(word string) string {
	if !directoryName(word) {
		return word
	}
	if t, err := w.load(word); err == nil {
		return t.Name
	}
	return word
}

// built reports whether a word is the name of a target that has results.
func (w *Workspace) built(name string) bool {
	if !directoryName(name) {
		return false
	}
	_, err := os.Stat(filepath.Join(w.Out(name), build.ReportName))
	return err == nil
}

// fromRemote reads the revision of a device or repository.
func fromRemote(ctx context.Context, r *inspect.Reader, name string) (*inspect.Node, error) {
	c, err := remote.New(remote.Environment())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	ref, err := c.Reference(name)
	var info *remote.Info
	if err == nil {
		info, err = c.RemoteInfo(ctx, ref)
	}
	var st *state.State
	if err == nil {
		st, err = c.State(ctx, info)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Unreachable, err, "reading the revision of %s", name)
	}
	text, err := st.Document()
	if err != nil {
		return nil, err
	}
	return r.State(name, text)
}

// planned returns the plan of a target where a plan is to be compared with it.
func (w *Workspace) planned(ctx context.Context, n *inspect.Node, name string) (*inspect.Node, error) {
	if n.IsPlan() {
		return n, nil
	}
	if !w.known(name) {
		return nil, fault.New(fault.BadInput, "%s is not a plan, nor a target of which one could be made", name)
	}
	j, err := w.open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer j.close() //nolint:errcheck // nothing is written
	p, err := j.Plan(ctx, j.comp.Wanted()...)
	if err != nil {
		return nil, err
	}
	return inspect.Plan(p), nil
}
