package workspace

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/cell"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/forms"
	"github.com/pantavisor/pantavisor/sbom/merge"
)

// SBOMOptions are those of [Workspace.SBOM].
type SBOMOptions struct {
	// Format is that of the document (package forms); "" is SPDX 2.3.
	Format string
	// Flat joins the documents that the one refers to with it.
	Flat bool
	// HostTools keeps those of received documents in a flat one.
	HostTools bool
	// To is the file that is written; "" is the standard output.
	To string
}

// sbomResult is what is printed about a document that was written to a file.
type sbomResult struct {
	File      string   `json:"file"`
	Form      string   `json:"form"`
	Packages  int      `json:"packages"`
	Files     int      `json:"files"`
	Conflicts []string `json:"conflicts"`
}

// SBOM writes the bill of materials of a target that was built, of a release or of a file in another form,
// or as one document with those that it refers to.
func (w *Workspace) SBOM(ctx context.Context, what string, o SBOMOptions) error {
	form, err := forms.Parse(cmp.Or(o.Format, string(forms.SPDX)))
	if err != nil {
		return err
	}
	if w.JSON && o.To == "" {
		return fault.New(fault.BadInput, "--json needs --to: the document itself is what is printed otherwise")
	}
	file, _, err := w.billFile(what)
	if err != nil {
		return err
	}
	d, err := readBill(file)
	if err != nil {
		return err
	}
	var conflicts []merge.Conflict
	if o.Flat {
		set, err := referred(ctx, d, filepath.Dir(file))
		if err != nil {
			return err
		}
		for _, skipped := range set.Skipped {
			fmt.Fprintln(w.Stderr, "warning ", cell.Printable(skipped))
		}
		conflicts = set.Flat(d, merge.Options{HostTools: o.HostTools})
	}
	var text bytes.Buffer
	if err := forms.Write(&text, d, form); err != nil {
		return err
	}
	result := sbomResult{File: w.path(o.To), Form: string(form), Packages: len(d.Packages), Files: len(d.Files), Conflicts: []string{}}
	for _, c := range conflicts {
		result.Conflicts = append(result.Conflicts, c.String())
		fmt.Fprintln(w.Stderr, "conflict", cell.Printable(c.String()))
	}
	if o.To == "" {
		_, err := w.Stdout.Write(text.Bytes())
		return fault.Wrap(fault.IO, err, "writing the bill of materials")
	}
	if err := atomicfile.Write(result.File, text.Bytes(), 0o644); err != nil {
		return fault.Wrap(fault.IO, err, "writing the bill of materials")
	}
	return w.tell(result, func(out io.Writer) error {
		_, err := fmt.Fprintf(out, "%s: %d packages, %d files, %d conflicts\n", result.File, result.Packages, result.Files, len(conflicts))
		return err
	})
}

func readBill(file string) (*sbom.Document, error) {
	text, err := bounded.ReadRegular(file, forms.MaxSize)
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "reading the bill of materials")
	}
	d, err := forms.Read(bytes.NewReader(text))
	return d, fault.Wrap(fault.BadInput, err, "%s", file)
}

// referred reads the documents that a document refers to, which are files below the directory. Each has to
// have the digest that the document says.
func referred(ctx context.Context, d *sbom.Document, dir string) (*merge.Set, error) {
	known := map[string]bool{}
	var inputs []merge.Input
	for _, r := range d.References {
		if r.File == "" || known[r.File] {
			continue
		}
		if !filepath.IsLocal(filepath.FromSlash(r.File)) {
			return nil, fault.New(fault.BadInput, "the bill of materials refers to %q, which is not below it", r.File)
		}
		known[r.File] = true
		inputs = append(inputs, merge.Input{Name: r.File, Path: filepath.Join(dir, filepath.FromSlash(r.File)), SHA256: r.SHA256})
	}
	set, err := merge.Read(ctx, inputs)
	if fault.Of(err) == fault.Missing {
		err = fault.New(fault.Missing, "%w: the bill of materials refers to it; put it there, or leave out --flat", err)
	}
	return set, err
}
