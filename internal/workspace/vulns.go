package workspace

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/images/resolve"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/sbom/vulns"
)

// VulnsOptions are those of Vulns and CRA.
type VulnsOptions struct {
	// Data and VEX are files and directories, with commas between them. Default of Data: PV_VULN_DATA.
	Data, VEX string
	// FailOn is what vulns.ParseLimits reads. Default: affected.
	FailOn string
	// All shows what data rule out too.
	All bool
	// Markdown prints a comment for a merge request.
	Markdown bool
}

// Vulns prints which known vulnerabilities affect a target that was built, or what a bill of materials
// describes. The error is of kind fault.Vulnerable when one does that FailOn names.
func (w *Workspace) Vulns(ctx context.Context, what string, o VulnsOptions) error {
	if o.Markdown && w.JSON {
		return fault.New(fault.BadInput, "--json and --markdown are two forms of the result: give one of them")
	}
	limits, err := vulns.ParseLimits(cmp.Or(o.FailOn, string(vulns.Affected)))
	if err != nil {
		return err
	}
	if len(w.dataOf(o)) == 0 {
		return fault.New(fault.BadInput, "there are no vulnerability data: name files with --data or PV_VULN_DATA; docs/vulns.md says where to get them")
	}
	b, err := w.bills(ctx, what)
	if err != nil {
		return err
	}
	r, err := w.scan(ctx, b, o)
	if err != nil {
		return err
	}
	now, form := time.Now(), r.Text
	if o.Markdown {
		form = r.Markdown
	}
	if err := w.tell(r, func(out io.Writer) error { return form(out, now) }); err != nil {
		return err
	}
	if r.Fails(limits) {
		return fault.New(fault.Vulnerable, "%s has what --fail-on=%s forbids: %s", what, cmp.Or(o.FailOn, string(vulns.Affected)), r.Summary())
	}
	return nil
}

// dataOf are the data of a command.
func (w *Workspace) dataOf(o VulnsOptions) []string {
	return w.paths(cmp.Or(o.Data, w.Options.Vulnerabilities))
}

// paths are the paths of a list with commas.
func (w *Workspace) paths(list string) []string {
	var out []string
	for name := range strings.SplitSeq(list, ",") {
		if name != "" {
			out = append(out, w.path(name))
		}
	}
	return out
}

// billed are bills of materials with the statements about what they describe.
type billed struct {
	*vulns.Bills
	statements []string // files
}

// billFile returns the file with the bill of materials of what a user names: a target that was built, a
// file, or a directory with sbom.json; and the name of the target, "" for a file.
func (w *Workspace) billFile(what string) (file, target string, err error) {
	name := w.targetName(what)
	isTarget := w.known(name)
	file = w.path(what)
	if isTarget {
		file = filepath.Join(w.Out(name), images.SBOMFile)
	} else if info, err := os.Stat(file); err == nil && info.IsDir() {
		file = filepath.Join(file, images.SBOMFile)
	}
	switch _, err := os.Stat(file); {
	case err == nil && strings.HasSuffix(file, ".tgz"):
		return "", "", fault.New(fault.BadInput, "%s is an export and not a bill of materials: pvr sbom --from %s --output sbom.json makes its one", what, what)
	case errors.Is(err, fs.ErrNotExist) && isTarget:
		return "", "", fault.New(fault.Missing, "target %s has no %s: mage build %s makes it", name, file, name)
	case errors.Is(err, fs.ErrNotExist):
		return "", "", fault.New(fault.Missing, "%s is neither a bill of materials, nor a directory with %s, nor a target: mage targets lists those", what, images.SBOMFile)
	}
	if !isTarget {
		name = ""
	}
	return file, name, nil
}

// bills reads what a user names.
func (w *Workspace) bills(ctx context.Context, what string) (*billed, error) {
	file, name, err := w.billFile(what)
	if err != nil {
		return nil, err
	}
	b, err := vulns.Open(ctx, file)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(b.Parts, func(p vulns.Part) bool { return len(p.Document.Packages) > 0 }) && len(b.Unread) == 0 {
		return nil, fault.New(fault.BadInput, "%s lists no packages: there is nothing to look for", file)
	}
	out := &billed{Bills: b}
	if name != "" {
		out.statements, err = w.vexOf(name)
	} else {
		out.statements, err = vexFiles(filepath.Join(filepath.Dir(file), images.VEXDir))
	}
	return out, err
}

// vexOf are the files with statements about a target.
func (w *Workspace) vexOf(name string) ([]string, error) {
	t, err := w.load(name)
	if err != nil {
		return vexFiles(filepath.Join(w.Out(name), images.VEXDir)) // a target that is no longer defined
	}
	l, err := w.Sources()
	if err != nil {
		return nil, err
	}
	var out []string
	files, err := resolve.VEX(t, l)
	for _, f := range files {
		out = append(out, f.Path)
	}
	return out, err
}

// vexFiles are the files with statements in a directory, which need not exist.
func vexFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []string
	for _, e := range entries {
		if filepath.Ext(e.Name()) == ".json" {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	return out, fault.Wrap(fault.IO, err, "reading statements about vulnerabilities")
}

// scan joins bills of materials with data and statements.
func (w *Workspace) scan(ctx context.Context, b *billed, o VulnsOptions) (*vulns.Report, error) {
	s := vulns.New(b.Parts...)
	for _, name := range w.dataOf(o) {
		if err := s.Load(ctx, name); err != nil {
			return nil, err
		}
	}
	for _, name := range append(b.statements, w.paths(o.VEX)...) {
		if err := s.VEX(ctx, name); err != nil {
			return nil, err
		}
	}
	r := s.Report(o.All)
	r.Uncovered = append(r.Uncovered, b.Unread...)
	return r, nil
}
