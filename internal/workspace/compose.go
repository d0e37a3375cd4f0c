package workspace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/images/inputs"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Compose composes what a list of inputs wants into the directory out.
func (w *Workspace) Compose(ctx context.Context, list string) error {
	l, err := inputs.Read(w.path(list))
	if err != nil {
		return err
	}
	dir := w.OutDir
	if dir == "" {
		dir = w.Out(l.Target)
	}
	sink, end, err := w.sinks()
	if err != nil {
		return err
	}
	report, err := l.Build(ctx, w.path(dir), inputs.Options{Jobs: w.Options.Jobs, Sink: sink})
	err = errors.Join(err, end())
	if w.JSON && report != nil {
		err = errors.Join(err, w.Print(report))
	}
	return err
}

// Inputs saves all inputs of a target into a new directory, with the list that composes them.
func (w *Workspace) Inputs(ctx context.Context, target, dir string) error {
	j, err := w.open(ctx, target)
	if err != nil {
		return err
	}
	list, err := w.saveInputs(ctx, j, w.path(dir))
	if err = errors.Join(err, j.close()); err != nil {
		return err
	}
	saved := Saved{Target: j.target.Name, List: list}
	return w.tell(saved, func(out io.Writer) error {
		_, err := fmt.Fprintln(out, list)
		return err
	})
}

// Saved are the inputs that [Workspace.Inputs] saved.
type Saved struct {
	Target string `json:"target"`
	List   string `json:"list"` // the file
}

// saveInputs builds what the inputs need and saves them under a temporary name first.
func (w *Workspace) saveInputs(ctx context.Context, j *job, dir string) (string, error) {
	if _, err := os.Lstat(dir); err == nil {
		return "", fault.New(fault.BadInput, "%s is there already: the inputs need a new directory", dir)
	}
	res, err := j.Build(ctx, inputs.Needed(j.inputs)...)
	if err = w.roomFor(err, j.Cache.Dir()); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", fault.Wrap(fault.IO, err, "saving the inputs")
	}
	fresh, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+"-")
	if err != nil {
		return "", fault.Wrap(fault.IO, err, "saving the inputs")
	}
	defer os.RemoveAll(fresh)
	made := func(s build.Step) string { return res.Dir(s) }
	if err := inputs.Save(ctx, j.inputs, j.target.Arch, made, fresh); err != nil {
		return "", w.roomFor(err, fresh)
	}
	if err := errors.Join(os.Chmod(fresh, 0o755), os.Rename(fresh, dir)); err != nil {
		return "", fault.Wrap(fault.IO, err, "saving the inputs")
	}
	return filepath.Join(dir, inputs.ListFile), nil
}
