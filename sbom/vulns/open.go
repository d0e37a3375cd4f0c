package vulns

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/ctxio"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/forms"
	"github.com/pantavisor/pantavisor/sbom/merge"
)

// maxBills bounds the bills of materials that are read.
const maxBills = 1000

// Bills are a bill of materials with those that it refers to.
type Bills struct {
	Parts []Part
	// Digests are those of the files, by the paths below the directory of the first one.
	Digests map[string]string
	// Unread are documents that are not of a form that can be read; what they are about is not
	// joined.
	Unread []Uncovered
}

// Open reads a bill of materials of any form, also a compressed one, and the documents beside it that
// it refers to, whose digests are checked. Documents that only those refer to are unread.
func Open(ctx context.Context, file string) (*Bills, error) {
	b := &Bills{Digests: map[string]string{}}
	text, sum, err := readBill(file)
	if err != nil {
		return nil, err
	}
	d, err := parse(ctx, text)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading the bill of materials %s", file)
	}
	b.Parts, b.Digests[filepath.Base(file)] = []Part{{d.Name, d, filepath.Base(file)}}, sum
	for _, r := range d.References {
		if err := b.refer(ctx, filepath.Dir(file), r); err != nil {
			return nil, err
		}
	}
	b.elsewhere()
	return b, nil
}

// elsewhere adds the documents that those which were referred to refer to, and that are not among them. Where
// those are, or were, is said by the makers of others, often as an address: they are not looked for.
func (b *Bills) elsewhere() {
	known := map[string]bool{}
	for _, p := range b.Parts {
		known[p.Document.Namespace] = true
	}
	for _, p := range b.Parts[1:] {
		for _, r := range p.Document.References {
			if !known[r.Namespace] {
				known[r.Namespace] = true
				b.Unread = append(b.Unread, Uncovered{Part: p.Name, Package: r.Namespace, Why: "the document is elsewhere"})
			}
		}
	}
}

// refer reads a document that one refers to.
func (b *Bills) refer(ctx context.Context, dir string, r sbom.Reference) error {
	switch _, read := b.Digests[r.File]; {
	case read:
		return nil
	case r.File == "":
		b.Unread = append(b.Unread, Uncovered{Part: partName(r), Package: r.Namespace, Why: "the document is elsewhere"})
		return nil
	case !fs.ValidPath(r.File):
		return fault.New(fault.BadInput, "a bill of materials refers to %q, which is not a path below its directory", r.File)
	case len(b.Digests) >= maxBills:
		return fault.New(fault.BadInput, "a bill of materials refers to more than %d documents", maxBills)
	}
	text, sum, err := readBill(filepath.Join(dir, filepath.FromSlash(r.File)))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.Missing, "the bill of materials refers to %s, which is not in %s: put it there, its packages are not looked at otherwise", r.File, dir)
	case err != nil:
		return err
	case r.SHA256 != "" && r.SHA256 != sum:
		return fault.New(fault.Digest, "%s is not the document that the bill of materials refers to: its SHA-256 is %s, not %s", r.File, sum, r.SHA256)
	}
	b.Digests[r.File] = sum
	d, err := joined(ctx, dir, r, text)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		b.Unread = append(b.Unread, Uncovered{Part: partName(r), Package: r.File, Why: "the document cannot be read: " + err.Error()})
		return nil
	}
	b.Parts = append(b.Parts, Part{partName(r), d, r.File})
	return nil
}

// partName is the name of the part that a document is about: of bsp.spdx.zst it is bsp.
func partName(r sbom.Reference) string {
	if r.File == "" {
		return strings.TrimPrefix(r.ID, "DocumentRef-")
	}
	return strings.TrimSuffix(path.Base(r.File), ".spdx.zst")
}

func sum256(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// readBill reads a file, with its digest.
func readBill(file string) (text []byte, sum string, err error) {
	text, err = bounded.ReadRegular(file, forms.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", fault.New(fault.Missing, "there is no bill of materials %s: %w", file, err)
	}
	return text, sum256(text), fault.Wrap(fault.IO, err, "reading a bill of materials")
}

// joined returns the document that is referred to, or those of an archive as one.
func joined(ctx context.Context, dir string, r sbom.Reference, text []byte) (*sbom.Document, error) {
	if !merge.IsArchive(r.File) {
		return parse(ctx, text)
	}
	set, err := merge.Read(ctx, []merge.Input{{Name: r.File, Path: filepath.Join(dir, filepath.FromSlash(r.File)), SHA256: r.SHA256}})
	if err == nil && len(set.Files) == 0 {
		err = errors.New("it has no documents")
	}
	if err != nil {
		return nil, err
	}
	d := &sbom.Document{Name: r.File}
	set.Flat(d, merge.Options{HostTools: true})
	return d, nil
}

// parse reads a document of any form, also a compressed one.
func parse(ctx context.Context, text []byte) (*sbom.Document, error) {
	return forms.Read(ctxio.Reader(ctx, bytes.NewReader(text)))
}
