// Package merge joins bills of materials that came from elsewhere, such as the build systems of
// containers, with one of ours: linked, so that ours refers to the received documents as they are
// ([Set.Link]), or flat, as one document ([Set.Flat]).
//
// A received document may be of SPDX 2.2, 2.3 or 3.0, or of CycloneDX, compressed or not, or stand with
// others in an archive NAME.spdx.tar.zst, as OpenEmbedded makes it of the documents of an image.
package merge

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/ctxio"
	"github.com/pantavisor/pantavisor/internal/decompress"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/forms"
)

// Bounds of what is read. An image's archive of OpenEmbedded has some thousand documents, which are
// together a fifth of this.
const (
	maxTotal     = 1 << 30 // bytes, unpacked
	maxDocuments = 20_000
	maxEntries   = 100_000 // of a directory and an archive
)

// Set are received documents.
type Set struct {
	// Files are the files that they are in.
	Files []File
	// Skipped says which files with a fitting name are not taken, and why.
	Skipped []string

	docs []received
	// size is that of all documents, unpacked.
	size int64
}

// File is a file with one received document, or an archive of many.
type File struct {
	Input
	// SHA256 is that of its bytes as they are, in lower-case hex.
	SHA256 string
	// Documents is the number of documents in it.
	Documents int
}

// received is one document.
type received struct {
	*sbom.Document
	// file is the position of the file that it is in, and member its name in an archive.
	file   int
	member string
	// sha256 and sha1 are those of the document's text.
	sha256, sha1 string
}

// Input is a file with documents.
type Input struct {
	// Name is its path beside the document that it is merged with, with slashes.
	Name string
	// Path is where it is.
	Path string
	// SHA256 is that of its bytes, in lower-case hex, when it is known; "" takes any.
	SHA256 string
}

// Candidates lists the files that a directory, and those below it, have for [Read]: *.json and *.jsonld, also
// compressed, and archives *.spdx.tar, also compressed. Errors are of the kind fault.BadInput.
func Candidates(ctx context.Context, dir string) ([]Input, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fault.New(fault.BadInput, "reading SBOMs to merge: %w", err)
	}
	if !info.IsDir() {
		return nil, fault.New(fault.BadInput, "reading SBOMs to merge: %s is not a directory", dir)
	}
	var all []Input
	entries := 0
	err = filepath.WalkDir(dir+string(filepath.Separator), func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entries++; entries > maxEntries {
			return fault.New(fault.BadInput, "%s has more than %d entries; name a directory that has only the documents", dir, maxEntries)
		}
		if k := kind(e.Name()); e.IsDir() || k != document && k != archive {
			return ctx.Err()
		}
		rel, err := filepath.Rel(dir, path)
		if err == nil && strings.ContainsFunc(rel, func(c rune) bool { return c == '\\' || unicode.IsControl(c) }) {
			// It is delivered by this name, which a list of digests cannot have.
			err = fault.New(fault.BadInput, "the name %q in %s has a control character or a backslash: give the file another one", rel, dir)
		}
		if err != nil {
			return err
		}
		// A link may lead to a document; whatever is not a regular file is not waited for.
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			all = append(all, Input{Name: filepath.ToSlash(rel), Path: path})
		}
		return nil
	})
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading SBOMs to merge")
	}
	if len(all) == 0 {
		return nil, fault.New(fault.BadInput, "reading SBOMs to merge: %s has no file *.json, *.jsonld or *.spdx.tar", dir)
	}
	return all, nil
}

// Open reads the documents of the [Candidates] of a directory. One without documents is an error of the kind
// fault.BadInput.
func Open(ctx context.Context, dir string) (*Set, error) {
	inputs, err := Candidates(ctx, dir)
	if err != nil {
		return nil, err
	}
	s, err := Read(ctx, inputs)
	if err == nil && len(s.docs) == 0 {
		err = fault.New(fault.BadInput, "reading SBOMs to merge: %s has no document of SPDX or CycloneDX", dir)
	}
	return s, err
}

// Read reads the documents in files. JSON of another form and tables are skipped, and so is a file with the bytes of one
// before. A document that cannot be read is an error of the kind fault.BadInput, a file that is not there one
// of fault.Missing, and one with another digest than the input says, skipped or not, one of fault.Digest.
func Read(ctx context.Context, inputs []Input) (*Set, error) {
	s := &Set{}
	seen := map[string]string{}
	for _, in := range inputs {
		if err := s.file(ctx, in, seen); err != nil {
			return nil, fault.Wrap(fault.IO, err, "reading SBOMs to merge")
		}
	}
	return s, nil
}

// kinds of files, by name.
const (
	other = iota
	document
	archive
	table // of Buildroot's legal-info
)

func kind(name string) int {
	name = strings.ToLower(name)
	for _, suffix := range []string{".gz", ".zst", ".xz", ".bz2"} {
		name = strings.TrimSuffix(name, suffix)
	}
	switch {
	case strings.HasSuffix(name, ".json"), strings.HasSuffix(name, ".jsonld"):
		return document
	case strings.HasSuffix(name, ".spdx.tar"):
		return archive
	case strings.HasSuffix(name, ".csv"):
		return table
	}
	return other
}

// IsArchive reports whether a file is read as an archive of documents, by its name.
func IsArchive(name string) bool { return kind(name) == archive }

// file reads a file.
func (s *Set) file(ctx context.Context, in Input, seen map[string]string) (err error) {
	rel := in.Name
	switch info, err := os.Stat(in.Path); {
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.Missing, "%w", err)
	case err == nil && !info.Mode().IsRegular(): // a pipe would be waited for
		return fault.New(fault.BadInput, "%s is not a regular file", in.Path)
	}
	f, err := os.Open(in.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	raw := io.TeeReader(ctxio.Reader(ctx, f), sum)
	plain, err := decompress.Reader(raw)
	if err != nil {
		return fault.Wrap(fault.BadInput, err, "%s", rel)
	}
	defer plain.Close()
	before := len(s.docs)
	switch kind(rel) {
	case archive:
		err = s.archive(plain, rel)
	case table:
		s.Skipped = append(s.Skipped, rel+": is a table")
		_, err = io.Copy(io.Discard, plain)
	default:
		err = s.document(plain, rel, "")
	}
	if err != nil {
		return fault.Wrap(fault.BadInput, err, "%s", rel)
	}
	if _, err := io.Copy(io.Discard, raw); err != nil {
		return err
	}
	digest := hex.EncodeToString(sum.Sum(nil))
	if in.SHA256 != "" && in.SHA256 != digest {
		return fault.New(fault.Digest, "%s is not the document that is referred to: its SHA-256 is %s, not %s", in.Path, digest, in.SHA256)
	}
	if first, twice := seen[digest]; twice && len(s.docs) > before {
		// Build systems deploy a document with a link to it.
		s.docs = s.docs[:before]
		s.Skipped = append(s.Skipped, rel+": is the same as "+first)
		return nil
	}
	seen[digest] = rel
	if count := len(s.docs) - before; count > 0 {
		s.Files = append(s.Files, File{Input: in, SHA256: digest, Documents: count})
	}
	return nil
}

// document reads one document, which becomes one of the file that is read.
func (s *Set) document(r io.Reader, rel, member string) error {
	data, err := bounded.Read(r, forms.MaxSize)
	if err != nil {
		return err
	}
	name := cmp.Or(member, rel)
	if s.size += int64(len(data)); s.size > maxTotal || len(s.docs) >= maxDocuments {
		return fmt.Errorf("the documents have more than %d MiB or are more than %d", maxTotal>>20, maxDocuments)
	}
	switch form, err := forms.Detect(data); {
	case err != nil:
		return err
	case form == "" && member != "":
		return nil // the index of the archive
	case form == "":
		s.Skipped = append(s.Skipped, rel+": is JSON of another form")
		return nil
	}
	d, err := forms.Read(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	sum256, sum1 := sha256.Sum256(data), sha1.Sum(data)
	s.docs = append(s.docs, received{
		Document: d, file: len(s.Files), member: member, sha256: hex.EncodeToString(sum256[:]), sha1: hex.EncodeToString(sum1[:]),
	})
	return nil
}

// archive reads the documents of an archive.
func (s *Set) archive(r io.Reader, rel string) error {
	t := tar.NewReader(r)
	for range maxEntries {
		head, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if head.Typeflag == tar.TypeReg && kind(head.Name) == document {
			if err := s.document(t, rel, head.Name); err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("it has more than %d entries", maxEntries)
}

// place names where a document is, for people.
func (s *Set) place(d received) string {
	path := s.Files[d.file].Name
	if d.member != "" {
		return path + ": " + d.member
	}
	return path
}

// emptyDigest is that of no bytes, which joins nothing.
const emptyDigest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// Digests returns the identifiers of the files and packages of a document by their SHA-256.
func Digests(d *sbom.Document) map[string][]string {
	ids := map[string][]string{}
	add := func(digest, id string) {
		if digest != "" && digest != emptyDigest {
			ids[digest] = append(ids[digest], id)
		}
	}
	for _, f := range d.Files {
		add(f.SHA256, f.ID)
	}
	for _, p := range d.Packages {
		add(p.SHA256, p.ID)
	}
	return ids
}

// Link makes the document refer to the received ones, by namespace and by the digest of the file that they
// are kept in, which is prefix and its path. Of an archive the documents are named to which no other one
// in it refers. Where a file or package of theirs has the SHA-256 of one of ours, their document DESCRIBES
// ours; elsewhere are elements of other documents, by their SHA-256, that count as ours. The document is
// sealed anew. The names that are returned are those of files that have no digest in common with ours.
func (s *Set) Link(d *sbom.Document, prefix string, elsewhere map[string][]string) (apart []string) {
	ours := Digests(d)
	for digest, ids := range elsewhere {
		ours[digest] = append(ours[digest], ids...)
	}
	for i, f := range s.Files {
		var docs []received
		for _, r := range s.docs {
			if r.file == i {
				docs = append(docs, r)
			}
		}
		joined := false
		first := ""
		named := map[string]bool{}
		for _, r := range roots(docs) {
			ref := sbom.Reference{
				ID: sbom.ReferenceID(r.Name, r.Namespace+" "+f.SHA256), Namespace: r.Namespace, SHA256: f.SHA256, File: prefix + f.Name, Comment: r.Name,
			}
			if r.member != "" {
				ref.Comment = fmt.Sprintf("%s: %s of %d documents", r.Name, r.member, f.Documents)
			}
			first = cmp.Or(first, ref.ID)
			named[r.Namespace] = true
			d.References = append(d.References, ref)
			joined = describe(d, ref.ID, r, ours) || joined
		}
		for _, r := range docs {
			// What is in the others of an archive is said of the first root.
			if !named[r.Namespace] {
				joined = describe(d, first, r, ours) || joined
			}
		}
		if !joined {
			apart = append(apart, f.Name)
		}
	}
	d.Namespace = ""
	d.Seal()
	return apart
}

// roots returns the documents to which no other refers, or all where each is referred to.
func roots(docs []received) []received {
	referred := map[string]bool{}
	for _, d := range docs {
		for _, r := range d.References {
			if r.Namespace != d.Namespace {
				referred[r.Namespace] = true
			}
		}
	}
	var all []received
	for _, d := range docs {
		if !referred[d.Namespace] {
			all = append(all, d)
		}
	}
	if all == nil {
		return docs
	}
	return all
}

// describe relates a received document to what it has of ours, and reports whether it has anything.
func describe(d *sbom.Document, ref string, r received, ours map[string][]string) bool {
	joined := false
	said := map[string]bool{} // a document may have a digest very often
	say := func(digest, name string) {
		if said[digest] {
			return
		}
		said[digest] = true
		for _, id := range ours[digest] {
			joined = true
			d.Relations = append(d.Relations, sbom.Relation{
				From: ref + ":" + sbom.DocumentID, Kind: sbom.Describes, To: id, Comment: "it has the same SHA-256 as " + name,
			})
		}
	}
	for _, f := range r.Files {
		say(f.SHA256, f.Name)
	}
	for _, p := range r.Packages {
		say(p.SHA256, p.Name)
	}
	return joined
}
