package images

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/cell"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/fragment"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/revision/trail"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/container"
	"github.com/pantavisor/pantavisor/sbom/merge"
	"github.com/pantavisor/pantavisor/sbom/part"
	"github.com/pantavisor/pantavisor/sbom/spdx2"
)

// SBOM is the step that makes the bill of materials of everything that a build leaves: its artefacts,
// the partitions with the files of the boot loader, and the storage. What the parts of the revision are
// made of is in their own documents, which it refers to by their digests and lays beside itself.
type SBOM struct {
	Target, Release string
	Epoch           build.Stamp
	Support         sbom.Support `json:",omitzero"`
	// Artefacts are the files, by their names in out/TARGET.
	Artefacts []SBOMArtefact
	// Layouts and Files are those of the medium.
	Layouts []Layout
	Files   []RoleFiles
	// Received are documents of others, and Merged takes those of a directory; nil for none.
	Received []Received `json:",omitempty"`
	Merged   *MergeSBOM `json:"-"`
	// Parts have the documents of the parts.
	Parts []*PartSBOM `json:"-"`
	// Storage is the step with revision 0; nil when there is none.
	Storage *Trail `json:"-"`

	origins *origins
}

// SBOMArtefact is something that a build leaves.
type SBOMArtefact struct {
	Name string
	From Artefact
}

// What a [SBOM] makes: the document, and the directory with those of the parts.
const (
	SBOMFile = "sbom.json"
	SBOMDir  = "sbom"
)

var _ build.Step = (*SBOM)(nil)

// bill adds the bill of materials of all artefacts.
func (c *composer) bill() {
	in := c.in
	s := &SBOM{
		Target: in.Target, Release: in.Release, Epoch: in.Epoch, Support: in.Support, Layouts: in.Layouts, Files: in.Loader.Files, Storage: c.storage,
		Received: in.Received, Merged: in.MergedSBOM,
	}
	for _, a := range c.Artefacts {
		s.Artefacts = append(s.Artefacts, SBOMArtefact{a.To, Artefact{a.Step, a.From}})
	}
	switch {
	case c.storage != nil:
		for _, p := range c.storage.Parts {
			if p, ok := p.(*PartSBOM); ok {
				s.Parts = append(s.Parts, p)
			}
		}
	case c.bsp != nil:
		s.Parts = append(s.Parts, in.SBOMOf(c.bsp))
	}
	s.origins = originsOf(c.Wanted()...)
	for _, p := range s.Parts {
		c.Components["sbom"] = append(c.Components["sbom"], p)
	}
	c.Components["sbom"] = append(c.Components["sbom"], s)
	c.Artefacts = append(c.Artefacts,
		build.Artefact{Step: s, From: SBOMFile, To: SBOMFile}, build.Artefact{Step: s, From: SBOMDir, To: SBOMDir})
}

// Name of the step.
func (s *SBOM) Name() string { return "image/sbom" }

// Deps are what it describes, and the steps that say what that was made of.
func (s *SBOM) Deps() []build.Step {
	var out []build.Step
	add := func(steps ...build.Step) {
		for _, d := range steps {
			if !slices.Contains(out, d) {
				out = append(out, d)
			}
		}
	}
	for _, a := range s.Artefacts {
		add(a.From.Step)
	}
	for _, p := range s.Parts {
		add(p.Part, p)
	}
	if s.Storage != nil {
		add(s.Storage)
	}
	for _, f := range s.Files {
		add(f.Tree.Step)
	}
	for _, l := range s.Layouts {
		for _, b := range l.Blobs {
			add(b.File.Step)
		}
	}
	for _, r := range s.Received {
		add(r.From.Step)
	}
	if s.Merged != nil {
		add(s.Merged)
	}
	add(s.origins.needs...)
	return out
}

// Run writes the document, and copies those of the parts.
func (s *SBOM) Run(ctx context.Context, w *build.Work) error {
	d := &sbom.Document{
		Name: s.Target, Created: s.Epoch.Time().UTC(), Creators: []string{container.Creator}, Support: s.Support,
	}
	b := &imageBill{SBOM: s, bill: &bill{Document: d, in: w.In}, ctx: ctx, w: w, elsewhere: map[string]string{}, digests: map[string][]string{}, listed: map[string]bool{}}
	for _, step := range []func() error{b.root, b.parts, b.artefacts, b.media, b.storage, b.received} {
		if err := step(); err != nil {
			return fault.Wrap(fault.IO, err, "making the bill of materials of %s", s.Target)
		}
	}
	if err := b.bill.tools(s.origins.tools, d.Roots); err != nil {
		return err
	}
	d.Namespace = "" // what was linked was sealed without the tools
	d.Seal()
	f, err := os.Create(filepath.Join(w.Out, SBOMFile))
	if err != nil {
		return fault.Wrap(fault.IO, err, "writing the bill of materials")
	}
	defer f.Close()
	if err := spdx2.Write(f, d); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return fault.Wrap(fault.IO, err, "writing the bill of materials")
	}
	return fault.Wrap(fault.IO, stamp(w.Out, s.Epoch.Time()), "writing the bill of materials")
}

// stamp gives a directory of plain files, and what is in it, permissions and times that follow from
// neither the umask nor the clock.
func stamp(dir string, epoch time.Time) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		at := filepath.Join(dir, e.Name())
		if e.IsDir() {
			err = errors.Join(err, stamp(at, epoch))
			continue
		}
		err = errors.Join(err, os.Chmod(at, 0o644), os.Chtimes(at, epoch, epoch))
	}
	return errors.Join(err, os.Chmod(dir, 0o755), os.Chtimes(dir, epoch, epoch))
}

// imageBill is the bill of materials of an image in the making.
type imageBill struct {
	*SBOM
	*bill
	ctx context.Context //nolint:containedctx // of one run
	w   *build.Work
	// elsewhere are the packages in the documents of parts, by their identifiers: the references to
	// them.
	elsewhere map[string]string
	// digests are references to the files and packages in those documents, by SHA-256.
	digests map[string][]string
	// listed are the SHA-256 of the files of parts that are in a document, and of the documents.
	listed map[string]bool
	rootID string
}

// root adds the package that stands for everything.
func (b *imageBill) root() error {
	p := sbom.Package{Name: b.Target, Version: b.Release, Purpose: sbom.Device}
	if b.Support.Manufacturer != "" {
		p.Supplier = "Organization: " + b.Support.Manufacturer
	}
	p.ID = "Image-" + strings.TrimPrefix(sbom.PackageID(p), "Package-")
	b.rootID = b.AddPackage(p)
	b.Roots = []string{b.rootID}
	return nil
}

// parts refers to the documents of the parts. What parts without one are made of is in this document.
func (b *imageBill) parts() error {
	if err := os.Mkdir(filepath.Join(b.w.Out, SBOMDir), 0o755); err != nil {
		return err
	}
	for _, p := range b.Parts {
		for _, step := range []build.Step{p.Part, p} {
			if err := b.documents(b.w.In(step)); err != nil {
				return err
			}
		}
		if err := b.undescribed(p); err != nil {
			return err
		}
	}
	return nil
}

// documents refers to the documents in a fragment of a state. In place of one of others that cannot be
// read the part is described here, as devices do.
func (b *imageBill) documents(dir string) error {
	st, err := fragment.Read(dir)
	if err != nil {
		return err
	}
	for _, name := range st.Parts() {
		sum, ok := st.Object(part.Key(name))
		if !ok {
			continue
		}
		from := filepath.Join(dir, fragment.Objects, sum)
		d, err := readPart(from)
		if errors.As(err, new(*fs.PathError)) { // of this machine, not of the document
			return fault.Wrap(fault.IO, err, "reading %s", part.Key(name))
		}
		if err != nil {
			b.w.Warn(cell.Printable(fmt.Sprintf("%s cannot be used, the bill of materials of the image lists what the part has: %v", part.Key(name), err)))
			if err := b.describe(dir, st, name); err != nil {
				return err
			}
			continue
		}
		b.list(d)
		b.listed[sum] = true
		ref := sbom.Reference{
			ID: "DocumentRef-" + sbom.Identifier(name), Namespace: d.Namespace, SHA256: sum, File: path.Join(SBOMDir, part.FileName(name)),
			Comment: part.Key(name) + " of revision " + trail.First,
		}
		b.References = append(b.References, ref)
		for _, id := range d.Roots {
			b.Relate(b.rootID, sbom.Contains, ref.ID+":"+id)
		}
		for _, p := range d.Packages {
			b.elsewhere[p.ID] = ref.ID + ":" + p.ID
		}
		for sum, ids := range merge.Digests(d) {
			for _, id := range ids {
				b.digests[sum] = append(b.digests[sum], ref.ID+":"+id)
			}
		}
		if err := build.CopyFile(b.ctx, filepath.Join(b.w.Out, filepath.FromSlash(ref.File)), from); err != nil {
			return err
		}
	}
	return nil
}

func readPart(name string) (*sbom.Document, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return part.Decode(f)
}

// undescribed adds the parts that have no document of their own, because they are signed.
func (b *imageBill) undescribed(p *PartSBOM) error {
	dir := b.w.In(p.Part)
	st, err := fragment.Read(dir)
	if err != nil {
		return err
	}
	for _, name := range st.Parts() {
		_, software := st.Get(name + "/run.json")
		_, has := st.Get(part.Key(name))
		if !software || has || wantsSBOM(st, name) {
			continue
		}
		if err := b.describe(dir, st, name); err != nil {
			return err
		}
	}
	return nil
}

// describe adds what a part in a fragment of a state has.
func (b *imageBill) describe(dir string, st *state.State, name string) error {
	d, err := container.Of(b.ctx, container.Options{Part: name, State: st, Time: b.Created, Objects: filepath.Join(dir, fragment.Objects)})
	if err != nil {
		return err
	}
	b.Relate(b.rootID, sbom.Contains, d.Roots...)
	b.list(d)
	d.Roots = nil
	b.Add(d)
	return nil
}

// list notes the files of a document.
func (b *imageBill) list(d *sbom.Document) {
	for _, f := range d.Files {
		b.listed[f.SHA256] = true
	}
}

// received refers to the documents of others, which it copies byte for byte. One of a form that is not
// known here is referred to by its digest alone.
func (b *imageBill) received() error {
	var inputs []merge.Input
	for _, r := range b.Received {
		inputs = append(inputs, merge.Input{Name: r.Name, Path: r.From.in(b.w)})
	}
	if b.Merged != nil {
		merged, err := merge.Candidates(b.ctx, b.w.In(b.Merged))
		if err != nil {
			return err
		}
		inputs = append(inputs, merged...)
	}
	set, err := merge.Read(b.ctx, inputs)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, f := range set.Files {
		known[f.Name] = true
	}
	for _, in := range inputs {
		to := filepath.Join(b.w.Out, SBOMDir, filepath.FromSlash(in.Name))
		if _, err := os.Lstat(to); err == nil {
			return fault.New(fault.BadInput, "two bills of materials are named %s: give one of them another name", in.Name)
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := build.CopyFile(b.ctx, to, in.Path); err != nil {
			return err
		}
		if !known[in.Name] {
			sum, err := fragment.Digest(b.ctx, to)
			if err != nil {
				return err
			}
			ref := sbom.Reference{Namespace: "urn:sha256:" + sum, SHA256: sum, File: path.Join(SBOMDir, in.Name), Comment: "received"}
			ref.ID = sbom.ReferenceID(in.Name, ref.Namespace)
			b.References = append(b.References, ref)
		}
	}
	set.Link(b.Document, SBOMDir+"/", b.digests)
	return nil
}

// artefacts adds what the build leaves.
func (b *imageBill) artefacts() error {
	for _, a := range b.Artefacts {
		at := a.From.in(b.w)
		info, err := os.Stat(at)
		if err != nil {
			return err
		}
		var ids []string
		if info.IsDir() {
			ids, err = b.tree(a.Name, at)
		} else {
			f := sbom.File{Name: a.Name, Size: info.Size()}
			f.SHA256, err = b.w.SHA256(b.ctx, a.From.Step, a.From.File)
			ids = []string{b.AddFile(f)}
		}
		if err != nil {
			return err
		}
		b.Relate(b.rootID, sbom.Contains, ids...)
	}
	return nil
}

// tree adds the files of a directory, whose names begin with prefix, and returns their identifiers.
func (b *imageBill) tree(prefix, dir string) ([]string, error) {
	entries, err := collect(b.ctx, dir, "")
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, e := range entries {
		if e.Mode.IsRegular() {
			id, err := b.file(prefix, e)
			if err != nil {
				return nil, err
			}
			ids = append(ids, id)
		}
	}
	return ids, nil
}

func (b *imageBill) file(prefix string, e tree.Entry) (string, error) {
	sum, err := b.digest(e)
	if err != nil {
		return "", err
	}
	return b.AddFile(sbom.File{Name: path.Join(prefix, e.Name), SHA256: sum, Size: e.Size}), nil
}

func (b *imageBill) digest(e tree.Entry) (string, error) {
	in, err := e.Open()
	if err != nil {
		return "", err
	}
	defer in.Close()
	return fragment.DigestOf(b.ctx, in)
}

// media adds the partitions of each medium with the files of the boot loader, and what is outside of
// partitions.
func (b *imageBill) media() error {
	for _, l := range b.Layouts {
		medium := l.File
		for _, p := range l.Partitions {
			if err := b.partition(medium, p); err != nil {
				return fault.Wrap(fault.IO, err, "partition %s", p.Name)
			}
		}
		for _, blob := range l.Blobs {
			if err := b.blob(medium, blob); err != nil {
				return fault.Wrap(fault.IO, err, "blob %s", blob.Name)
			}
		}
	}
	return nil
}

func (b *imageBill) partition(medium string, p Partition) error {
	id := b.AddPackage(sbom.Package{
		Name: path.Join(medium, p.Name), Purpose: sbom.Other, Comment: fmt.Sprintf("partition, role %s, file system %s", p.Role, p.Format),
	})
	b.Relate(b.rootID, sbom.Contains, id)
	if roles[p.Role].storage {
		for _, ref := range b.References {
			b.Relate(id, sbom.Contains, ref.ID+":"+sbom.DocumentID)
		}
		return nil
	}
	for _, f := range b.Files {
		if f.Role != p.Role {
			continue
		}
		made, err := b.madeOf(f.Tree.Step)
		if err != nil {
			return err
		}
		ids, err := b.tree(path.Join(medium, p.Name), f.Tree.in(b.w))
		if err != nil {
			return err
		}
		b.Relate(id, sbom.Contains, ids...)
		for _, file := range ids {
			b.Relate(file, sbom.GeneratedFrom, made...)
		}
	}
	return nil
}

// madeOf returns the identifiers of the packages that a step's output was made of. Those that the
// document of a part has are referred to.
func (b *imageBill) madeOf(step build.Step) ([]string, error) {
	var out []string
	for _, from := range originsOf(step).suppliers {
		other := &bill{Document: &sbom.Document{}, in: b.bill.in}
		ids, err := other.supplier(from)
		if err != nil {
			return nil, err
		}
		here := slices.ContainsFunc(ids, func(id string) bool { return b.elsewhere[id] == "" })
		if here {
			b.Add(other.Document)
		}
		for _, id := range ids {
			ref := b.elsewhere[id]
			if here {
				ref = id
			}
			out = append(out, ref)
		}
	}
	return out, nil
}

// blob adds a file that is written outside of file systems.
func (b *imageBill) blob(medium string, blob Blob) error {
	sum, err := fragment.Digest(b.ctx, blob.File.in(b.w))
	if err != nil {
		return err
	}
	f := sbom.File{Name: path.Join(medium, blob.Name), SHA256: sum, Size: -1, Comment: "written outside of file systems, or to a partition without one"}
	if blob.Skip != 0 || blob.Length != 0 || blob.Swap {
		f.Comment += "; the digest is that of the file of which a range, or the bytes in another order, is written"
	}
	id := b.AddFile(f)
	made, err := b.madeOf(blob.File.Step)
	b.Relate(b.rootID, sbom.Contains, id)
	b.Relate(id, sbom.GeneratedFrom, made...)
	return err
}

// storage adds the files of the storage, of the revision those that no document of a part has.
func (b *imageBill) storage() error {
	if b.Storage == nil {
		return nil
	}
	dir := filepath.Join(b.w.In(b.Storage), StorageDir)
	entries, err := collect(b.ctx, dir, "")
	if err != nil {
		return err
	}
	for _, e := range entries {
		// An object is listed by the name that the revision gives it.
		sum, object := strings.CutPrefix(e.HardLink, fragment.Objects+"/")
		if !e.Mode.IsRegular() || e.HardLink != "" && !object || strings.HasPrefix(e.Name, fragment.Objects+"/") {
			continue
		}
		if !object {
			if sum, err = b.digest(e); err != nil {
				return err
			}
		}
		if b.listed[sum] && strings.HasPrefix(e.Name, "trails/") {
			continue
		}
		b.listed[sum] = b.listed[sum] || object
		b.Relate(b.rootID, sbom.Contains, b.AddFile(sbom.File{Name: path.Join("storage", e.Name), SHA256: sum, Size: e.Size}))
	}
	return nil
}
