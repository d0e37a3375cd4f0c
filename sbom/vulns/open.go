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
// it refers to, whose digests are checked.
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
	for i := 0; i < len(b.Parts); i++ {
		for _, r := range b.Parts[i].Document.References {
			if err := b.refer(ctx, filepath.Dir(file), r); err != nil {
				return nil, err
			}
		}
	}
	return b, nil
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
	d, err := parse(ctx, text)
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

// parse reads a document of any form, also a compressed one.
func parse(ctx context.Context, text []byte) (*sbom.Document, error) {
	return forms.Read(ctxio.Reader(ctx, bytes.NewReader(text)))
}
