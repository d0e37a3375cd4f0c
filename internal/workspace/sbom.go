package workspace

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
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
		if conflicts, err = flatBill(ctx, d, filepath.Dir(file), o.HostTools); err != nil {
			return err
		}
	}
	var text bytes.Buffer
	if err := forms.Write(&text, d, form); err != nil {
		return err
	}
	result := sbomResult{File: w.path(o.To), Form: string(form), Packages: len(d.Packages), Files: len(d.Files), Conflicts: []string{}}
	for _, c := range conflicts {
		result.Conflicts = append(result.Conflicts, c.String())
		fmt.Fprintln(w.Stderr, "conflict", c)
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
	f, err := os.Open(file)
	if err != nil {
		return nil, fault.Wrap(fault.Missing, err, "reading the bill of materials")
	}
	defer f.Close()
	d, err := forms.Read(f)
	return d, fault.Wrap(fault.BadInput, err, "%s", file)
}

// flatBill joins a document with those that it refers to, which are files below the directory. Each has to
// have the digest that the document says.
func flatBill(ctx context.Context, d *sbom.Document, dir string, hostTools bool) ([]merge.Conflict, error) {
	want := map[string]string{}
	var inputs []merge.Input
	for _, r := range d.References {
		if r.File == "" || want[r.File] != "" {
			continue
		}
		if !filepath.IsLocal(filepath.FromSlash(r.File)) {
			return nil, fault.New(fault.BadInput, "the bill of materials refers to %s, which is not below it", r.File)
		}
		want[r.File] = r.SHA256
		inputs = append(inputs, merge.Input{Name: r.File, Path: filepath.Join(dir, filepath.FromSlash(r.File))})
	}
	set, err := merge.Read(ctx, inputs)
	if err != nil {
		return nil, err
	}
	for _, f := range set.Files {
		if want[f.Name] != "" && want[f.Name] != f.SHA256 {
			return nil, fault.New(fault.Digest, "%s is not the document that the bill of materials refers to: its SHA-256 is %s, not %s", f.Path, f.SHA256, want[f.Name])
		}
	}
	return set.Flat(d, merge.Options{HostTools: hostTools}), nil
}
