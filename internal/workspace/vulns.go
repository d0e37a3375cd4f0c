package workspace

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/images/resolve"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/sbom/vulns"
)

// billName is the bill of materials beside a target's results, and vexDir the directory with statements
// beside it.
const (
	billName = "sbom.json"
	vexDir   = "vex"
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

// bills reads what a user names: a target that was built, a file, or a directory with sbom.json.
func (w *Workspace) bills(ctx context.Context, what string) (*billed, error) {
	name := w.targetName(what)
	isTarget := w.known(name)
	file := w.path(what)
	if isTarget {
		file = filepath.Join(w.Out(name), billName)
	} else if info, err := os.Stat(file); err == nil && info.IsDir() {
		file = filepath.Join(file, billName)
	}
	switch _, err := os.Stat(file); {
	case errors.Is(err, fs.ErrNotExist) && isTarget:
		return nil, fault.New(fault.Missing, "target %s has no %s: mage build %s makes it", name, file, name)
	case errors.Is(err, fs.ErrNotExist):
		return nil, fault.New(fault.Missing, "%s is neither a bill of materials, nor a directory with %s, nor a target: mage targets lists those", what, billName)
	}
	b, err := vulns.Open(ctx, file)
	if err != nil {
		return nil, err
	}
	out := &billed{Bills: b}
	if isTarget {
		out.statements, err = w.vexOf(name)
	} else {
		out.statements, err = vexFiles(filepath.Join(filepath.Dir(file), vexDir))
	}
	return out, err
}

// vexOf are the files with statements about a target.
func (w *Workspace) vexOf(name string) ([]string, error) {
	t, err := w.load(name)
	if err != nil {
		return vexFiles(filepath.Join(w.Out(name), vexDir)) // a target that is no longer defined
	}
	l, err := w.Sources()
	if err != nil {
		return nil, err
	}
	source := resolve.VEX(t, l)
	if source == nil {
		return nil, nil
	}
	return vexFiles(source.Dirs()...)
}

// vexFiles are the files of directories, of which one replaces that of the same name in the directories
// before. The directories need not exist.
func vexFiles(dirs ...string) ([]string, error) {
	files := map[string]string{}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fault.Wrap(fault.IO, err, "reading statements about vulnerabilities")
		}
		for _, e := range entries {
			if filepath.Ext(e.Name()) == ".json" {
				files[e.Name()] = filepath.Join(dir, e.Name())
			}
		}
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		out = append(out, files[name])
	}
	return out, nil
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
