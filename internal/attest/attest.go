// Package attest signs a directory of results, and verifies one. It has, beside the results,
//
//   - SHA256SUMS, their digests
//   - SHA256SUMS.sig, its signature in Base64, and with keys of Ed25519 SHA256SUMS.minisig and
//     SHA256SUMS.signify, those of minisign and signify
//   - provenance.intoto.jsonl, a signed statement that says what the results were made of: a DSSE
//     envelope with an in-toto statement and SLSA's provenance, in one line
//
// What is signed is verified before it is written, and signed again only when it has changed.
package attest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/signing"
)

// maxText bounds the files that sign, in bytes.
const maxText = 16 << 20

// envelope returns the file with the signed statement.
func envelope(key *signing.Key, s *Statement) ([]byte, error) {
	payload, err := json.Marshal(s)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "writing the provenance")
	}
	return key.Envelope(PayloadType, payload)
}

// Sign signs a directory: the files, and the statement about them. The comment is in the signature
// of minisign. Signatures that are there and good are kept.
func Sign(dir string, key *signing.Key, files []File, s *Statement, comment string) (*build.Signed, error) {
	sums, err := listSums(files)
	if err != nil {
		return nil, err
	}
	out := describe(key.Public)
	if out.Kept = kept(dir, key.Public, sums, s); out.Kept {
		return out, nil
	}
	texts := map[string][]byte{build.SumsName: sums}
	if texts[build.ProvenanceName], err = envelope(key, s); err != nil {
		return nil, err
	}
	if err := signSums(key, sums, comment, texts); err != nil {
		return nil, err
	}
	return out, write(dir, texts)
}

// List writes the list of digests of a directory that is not signed.
func List(dir string, files []File) error {
	sums, err := listSums(files)
	if err != nil {
		return err
	}
	return write(dir, map[string][]byte{build.SumsName: sums})
}

// Digest fills in the digests of files of a directory.
func Digest(ctx context.Context, dir string, files []File) error { return digests(ctx, dir, files) }

// describe lists what a key signs.
func describe(p *signing.Public) *build.Signed {
	out := &build.Signed{Algorithm: p.Algorithm(), KeySHA256: p.SHA256(), Minisign: p.Minisign()}
	for _, name := range build.SignatureNames() {
		if possible(p, name) {
			out.Files = append(out.Files, name)
		}
	}
	return out
}

// possible reports whether a key can make a file that signs.
func possible(p *signing.Public, name string) bool {
	return p.Edwards() || name != build.MinisignName && name != build.SignifyName
}

// signSums adds the signatures of a list of digests.
func signSums(key *signing.Key, sums []byte, comment string, to map[string][]byte) (err error) {
	if to[build.DetachedName], err = key.Detached(sums); err != nil || !key.Public.Edwards() {
		return err
	}
	if to[build.MinisignName], err = key.Minisign(sums, comment); err != nil {
		return err
	}
	to[build.SignifyName], err = key.Signify(sums)
	return err
}

// write writes the files, the list of digests last: without it nothing is signed. A list that is
// there already stays: interrupted, the directory of a release has at least its digests.
func write(dir string, texts map[string][]byte) error {
	names := build.SignatureNames()
	if was, err := bounded.ReadRegular(filepath.Join(dir, build.SumsName), maxText); err == nil && bytes.Equal(was, texts[build.SumsName]) {
		names = slices.DeleteFunc(names, func(name string) bool { return name == build.SumsName })
	}
	for _, name := range names {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fault.Wrap(fault.IO, err, "removing old signatures")
		}
	}
	for i := len(names) - 1; i >= 0; i-- {
		if text, ok := texts[names[i]]; ok {
			if err := atomicfile.Write(filepath.Join(dir, names[i]), text, 0o644); err != nil {
				return fault.Wrap(fault.IO, err, "writing the signatures")
			}
		}
	}
	return nil
}

// kept reports whether a directory has all signatures already, of the same key, files and statement.
// The times of the statement do not count.
func kept(dir string, p *signing.Public, sums []byte, s *Statement) bool {
	for _, name := range build.SignatureNames() {
		text, err := bounded.ReadRegular(filepath.Join(dir, name), maxText)
		switch {
		case !possible(p, name):
			if !errors.Is(err, fs.ErrNotExist) {
				return false
			}
		case err != nil:
			return false
		case name == build.SumsName:
			if string(text) != string(sums) {
				return false
			}
		case name == build.ProvenanceName:
			if was, err := open(p, text); err != nil || !same(was, s) {
				return false
			}
		case verify(p, name, sums, text) != nil:
			return false
		}
	}
	return true
}

// same compares two statements without what differs from run to run.
func same(a, b *Statement) bool {
	text := func(s *Statement) (v any) {
		c := *s
		c.Predicate.RunDetails.Metadata = Metadata{}
		data, err := json.Marshal(c)
		if err != nil || json.Unmarshal(data, &v) != nil {
			return s
		}
		return v
	}
	return reflect.DeepEqual(text(a), text(b))
}

// verify verifies one of the signatures of a list of digests.
func verify(p *signing.Public, name string, sums, text []byte) error {
	switch name {
	case build.MinisignName:
		_, err := p.VerifyMinisign(sums, text)
		return err
	case build.SignifyName:
		return p.VerifySignify(sums, text)
	}
	return p.VerifyDetached(sums, text)
}

// open verifies an envelope and reads its statement.
func open(p *signing.Public, text []byte) (*Statement, error) {
	payload, err := p.OpenEnvelope(PayloadType, text)
	if err != nil {
		return nil, err
	}
	var s Statement
	if err := json.Unmarshal(payload, &s); err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading the statement")
	}
	if s.Type != StatementType || s.PredicateType != PredicateType {
		return nil, fault.New(fault.Unsupported, "it is a statement of the type %.100q about %.100q: want SLSA's provenance v1", s.Type, s.PredicateType)
	}
	return &s, nil
}
