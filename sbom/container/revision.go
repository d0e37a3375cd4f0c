package container

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/part"
)

// Software returns the parts of a state that are software: those with a run.json.
func Software(st *state.State) []string {
	return slices.DeleteFunc(st.Parts(), func(name string) bool {
		_, ok := st.Get(name + "/run.json")
		return !ok
	})
}

// Revision returns the document joined of those of parts, of which the ones without a document of their
// own are described by [Of]; without names that of the whole state, all of whose files are in it. Files that
// a part's document does not have as they are now are added, and told by the warnings. Part and Before of the
// options have no meaning here.
func Revision(ctx context.Context, o Options, parts ...string) (d *sbom.Document, warnings []string, err error) {
	r := &revision{o: o, doc: &sbom.Document{Name: o.Of, Created: o.Time.UTC(), Creators: []string{Creator}}}
	names := parts
	if len(parts) == 0 {
		names = Software(o.State)
	}
	for _, name := range names {
		if err := r.part(ctx, name); err != nil {
			return nil, nil, err
		}
	}
	if len(parts) == 0 {
		if err := r.rest(); err != nil {
			return nil, nil, err
		}
	}
	if r.doc.Created.IsZero() {
		r.doc.Created = time.Unix(0, 0).UTC()
	}
	r.doc.Seal()
	return r.doc, r.warnings, nil
}

// revision is a joined document in the making.
type revision struct {
	o        Options
	doc      *sbom.Document
	warnings []string
}

// part adds the document of a part.
func (r *revision) part(ctx context.Context, name string) error {
	d, err := r.own(name)
	if err != nil {
		return err
	}
	if d == nil {
		o := r.o
		o.Part = name
		if d, err = Of(ctx, o); err != nil {
			return fmt.Errorf("describing %s: %w", name, err)
		}
	}
	if err := r.complete(name, d); err != nil {
		return err
	}
	if !slices.Contains(d.Creators, Creator) {
		d = apart(d, name)
	}
	if r.o.Time.IsZero() && d.Created.After(r.doc.Created) {
		r.doc.Created = d.Created
	}
	for _, c := range d.Creators {
		if !slices.Contains(r.doc.Creators, c) {
			r.doc.Creators = append(r.doc.Creators, c)
		}
	}
	r.doc.Add(d)
	return nil
}

// own returns the document that a part has; nil if there is none, or none that can be read.
func (r *revision) own(name string) (*sbom.Document, error) {
	sum, ok := r.o.State.Object(part.Key(name))
	if !ok {
		return nil, nil
	}
	path, err := r.o.path(part.Key(name), sum)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.Wrap(fault.Missing, err, "reading %s", part.Key(name))
	}
	defer f.Close()
	d, err := part.Decode(f)
	if err != nil {
		r.warnings = append(r.warnings, fmt.Sprintf("%s cannot be used: %v", part.Key(name), err))
		return nil, nil
	}
	return d, nil
}

// complete adds the files of a part that its document does not have, as they were changed or added since it
// was made.
func (r *revision) complete(name string, d *sbom.Document) error {
	has := map[string]bool{}
	for _, f := range d.Files {
		has[f.SHA256] = true
	}
	for _, key := range r.o.State.Keys() {
		if state.PartOf(key) != name || key == part.Key(name) {
			continue
		}
		f, err := file(r.o, key)
		if err != nil {
			return err
		}
		if has[f.SHA256] {
			continue
		}
		if _, object := r.o.State.Object(key); object {
			r.warnings = append(r.warnings, fmt.Sprintf("%s does not have %s as it is now", part.Key(name), key))
		}
		id := d.AddFile(f)
		for _, root := range d.Roots {
			d.Relate(root, sbom.Contains, id)
		}
	}
	return nil
}

// rest adds the package that stands for the whole state, and the files of no part with a document.
func (r *revision) rest() error {
	h := sha256.Sum256(r.o.State.Encode())
	root := sbom.Package{Name: r.o.Of, Purpose: sbom.Device, SHA256: hex.EncodeToString(h[:]), Comment: "the digest is that of the state in its canonical form"}
	root.ID = "Revision-" + strings.TrimPrefix(sbom.PackageID(root), "Package-")
	for _, id := range r.doc.Roots {
		r.doc.Relate(root.ID, sbom.Contains, id)
	}
	parts := Software(r.o.State)
	for _, key := range r.o.State.Keys() {
		if key == state.SpecKey || slices.Contains(parts, state.PartOf(key)) {
			continue
		}
		f, err := file(r.o, key)
		if err != nil {
			return err
		}
		r.doc.Relate(root.ID, sbom.Contains, r.doc.AddFile(f))
	}
	for _, name := range parts {
		// The document of a part is a file of the whole.
		if _, ok := r.o.State.Object(part.Key(name)); ok {
			f, err := file(r.o, part.Key(name))
			if err != nil {
				return err
			}
			r.doc.Relate(root.ID, sbom.Contains, r.doc.AddFile(f))
		}
	}
	r.doc.AddPackage(root)
	r.doc.Roots = []string{root.ID}
	return nil
}

// apart gives the elements of a document of others identifiers that no other document has: ours are
// made from what elements are, those of others are numbers or names.
func apart(d *sbom.Document, name string) *sbom.Document {
	own := map[string]bool{}
	prefix := sbom.Identifier(name) + "-"
	out := *d
	out.Packages, out.Files, out.Relations, out.References, out.Licences = nil, nil, nil, nil, nil
	texts := map[string]sbom.Licence{}
	for _, l := range d.Licences {
		texts[l.ID] = l
	}
	for _, p := range d.Packages {
		own[p.ID] = true
		p.ID, p.Declared, p.Concluded = prefix+p.ID, named(&out, texts, p.Declared), named(&out, texts, p.Concluded)
		out.Packages = append(out.Packages, p)
	}
	for _, f := range d.Files {
		own[f.ID] = true
		f.ID, f.Concluded = prefix+f.ID, named(&out, texts, f.Concluded)
		out.Files = append(out.Files, f)
	}
	end := func(id string) string {
		if ref, external := strings.CutPrefix(id, "DocumentRef-"); external {
			return "DocumentRef-" + prefix + ref
		}
		if own[id] {
			return prefix + id
		}
		return id
	}
	for _, r := range d.Relations {
		r.From, r.To = end(r.From), end(r.To)
		out.Relations = append(out.Relations, r)
	}
	for _, r := range d.References {
		r.ID = end(r.ID)
		out.References = append(out.References, r)
	}
	out.Roots = nil
	for _, id := range d.Roots {
		out.Roots = append(out.Roots, end(id))
	}
	return &out
}
