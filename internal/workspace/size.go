package workspace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/images/budget"
	"github.com/pantavisor/pantavisor/images/inspect"
	"github.com/pantavisor/pantavisor/images/size"
	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// budgets adds the checks of the target's budgets to the build, and keeps the sizes of one that
// goes well for the texts of later ones.
func (j *job) budgets(in *images.Inputs, comp *images.Composition) error {
	b := j.target.Budgets
	if b == nil {
		return nil
	}
	measures, err := budget.Measures(in, comp)
	if err != nil {
		return err
	}
	o := budget.Options{Last: j.lastSizes}
	if place, ok := j.layers.Find(path.Join("targets", j.target.Definition, j.target.SizesName())); ok {
		o.Saved = build.Source{Name: place.Name, Path: place.Path}
	}
	checks, used := budget.Checks(b, measures, o)
	j.Checks = checks
	j.Delivered = func(res *build.Result) error { return j.keepSizes(res, used) }
	return nil
}

// Notes in the history of a target: the sizes of the last build, and the digests of what measured
// them.
const (
	noteSizes    = "sizes"
	noteMeasures = "measures"
)

// lastSizes returns the sizes of the last build, nil when they are not known.
func (j *job) lastSizes() *size.Saved {
	saved, err := size.Decode(j.Recall(noteSizes))
	if err != nil {
		return nil // none, or those of another version
	}
	return saved
}

// keepSizes keeps what a build has measured, if it is something else than before.
func (j *job) keepSizes(res *build.Result, measures []*budget.Measure) error {
	var digests strings.Builder
	for _, m := range measures {
		digests.WriteString(res.Step(m.Name()).Record.Output + "\n")
	}
	if string(j.Recall(noteMeasures)) == digests.String() {
		return nil
	}
	saved, err := j.sizes(res, measures)
	if err != nil {
		return err
	}
	text, err := saved.Encode()
	if err != nil {
		return err
	}
	return errors.Join(j.Remember(noteSizes, text), j.Remember(noteMeasures, []byte(digests.String())))
}

// sizes returns what a build has measured.
func (j *job) sizes(res *build.Result, measures []*budget.Measure) (*size.Saved, error) {
	things, err := budget.Things(res, measures)
	return &size.Saved{Target: j.target.Name, Things: things}, err
}

// SizeOptions say what Workspace.Size shows.
type SizeOptions struct {
	// HTML and SVG are files that are written. Default: none.
	HTML, SVG string
	// Compare is what the sizes are compared with: another target, image or export, or a file with
	// sizes.
	Compare string
	// Save keeps the sizes of a target beside its definition.
	Save bool
}

// Size says where the bytes of a target's results, an image or an export are.
func (w *Workspace) Size(ctx context.Context, what string, o SizeOptions) error {
	if o.Save {
		if err := w.saveSizes(ctx, what); err != nil {
			return err
		}
		if !w.built(w.targetName(what)) { // in a new clone there is nothing to show yet
			quiet := *w
			quiet.JSON, quiet.Stdout = false, io.Discard
			if _, err := quiet.Build(ctx, what); err != nil {
				return err
			}
		}
	}
	var r inspect.Reader
	defer r.Close()
	report, err := w.measure(ctx, &r, what)
	if err == nil && o.Compare != "" {
		err = w.compareSizes(ctx, &r, report, o.Compare)
	}
	if err != nil {
		return err
	}
	for _, form := range []struct {
		file  string
		write func(io.Writer) error
	}{{o.HTML, report.HTML}, {o.SVG, report.SVG}} {
		if form.file == "" {
			continue
		}
		var text bytes.Buffer
		if err := form.write(&text); err != nil {
			return err
		}
		if err := atomicfile.Write(w.path(form.file), text.Bytes(), 0o644); err != nil {
			return fault.Wrap(fault.IO, err, "writing the sizes")
		}
	}
	return w.tell(report, report.Text)
}

// measure opens and measures a thing.
func (w *Workspace) measure(ctx context.Context, r *inspect.Reader, what string) (*size.Report, error) {
	out := &size.Report{Name: filepath.Base(what)}
	file := w.path(what)
	if name := w.targetName(what); w.built(name) {
		report, err := build.LoadReport(filepath.Join(w.Out(name), build.ReportName))
		if err != nil {
			return nil, err
		}
		out.Name, out.Budgets = name, report.Budgets
		if file, err = mainArtefact(w.Out(name), report, out); err != nil {
			return nil, err
		}
	} else if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		if w.known(what) {
			return nil, fault.New(fault.Missing, "target %s has not been built: mage build %s makes it", what, what)
		}
		return nil, fault.New(fault.Missing, "%s is neither a file, nor a directory, nor a target: mage targets lists those", what)
	}
	n, err := r.Open(ctx, file)
	if err != nil {
		return nil, err
	}
	out.Tree, err = r.Sizes(ctx, n)
	return out, err
}

// mainArtefact adds the results of a build to a report, and returns the first image, or else the first
// result.
func mainArtefact(dir string, report *build.Report, out *size.Report) (string, error) {
	main := ""
	for _, a := range report.Artefacts {
		if !filepath.IsLocal(filepath.FromSlash(a.Path)) {
			return "", fault.New(fault.BadInput, "the report in %s names %q, which is not in that directory", dir, a.Path)
		}
		out.Files = append(out.Files, size.File{Path: a.Path, Bytes: a.Bytes})
		image := func(name string) bool { return strings.HasSuffix(name, ".img") || strings.HasSuffix(name, ".ubi") }
		if main == "" || image(a.Path) && !image(main) {
			main = a.Path
		}
	}
	if main == "" {
		return "", fault.New(fault.Missing, "the last build of %s has left nothing to measure: %s", report.Target, filepath.Join(dir, build.ReportText))
	}
	return filepath.Join(dir, filepath.FromSlash(main)), nil
}

// maxSizes bounds a file with sizes, in bytes.
const maxSizes = 256 << 20

// compareSizes adds to a report what has changed since another thing.
func (w *Workspace) compareSizes(ctx context.Context, r *inspect.Reader, report *size.Report, other string) error {
	if name := w.path(other); isJSON(name) {
		text, err := bounded.ReadRegular(name, maxSizes)
		if err != nil {
			return fault.Wrap(fault.IO, err, "reading the sizes to compare with")
		}
		return report.Compare(other, text)
	}
	earlier, err := w.measure(ctx, r, other)
	if err != nil {
		return err
	}
	report.CompareTree(other, earlier.Tree)
	return nil
}

// isJSON reports whether a file is a JSON object by its first bytes.
func isJSON(name string) bool {
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	head := make([]byte, 64)
	n, err := f.Read(head)
	return err == nil && bytes.HasPrefix(bytes.TrimSpace(head[:n]), []byte("{"))
}

// saveSizes builds a target and keeps the sizes of all that can have a budget.
func (w *Workspace) saveSizes(ctx context.Context, target string) error {
	j, err := w.open(ctx, target)
	if err != nil {
		return err
	}
	defer j.close() //nolint:errcheck // the build's own error says more
	measures, err := budget.Measures(j.inputs, j.comp)
	if err != nil {
		return err
	}
	j.Checks = nil // these are the sizes that budgets are measured by
	steps := j.comp.Wanted()
	for _, m := range measures {
		steps = append(steps, m)
	}
	res, err := j.Build(ctx, steps...)
	if err != nil {
		return w.roomFor(err, j.Cache.Dir())
	}
	saved, err := j.sizes(res, measures)
	if err != nil {
		return err
	}
	saved.Release = w.Options.Release
	text, err := saved.Encode()
	if err != nil {
		return err
	}
	file := filepath.Join(w.Root, "targets", j.target.Definition, j.target.SizesName())
	err = os.MkdirAll(filepath.Dir(file), 0o755) // a shipped target has no directory here
	if err == nil {
		err = atomicfile.Write(file, text, 0o644)
	}
	if err != nil {
		return fault.Wrap(fault.IO, err, "saving the sizes of %s", j.target.Name)
	}
	fmt.Fprintf(w.Stderr, "%s has the sizes of %s; commit it with the release\n", file, j.target.Name)
	return nil
}
