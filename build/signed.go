package build

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// Names of the files below out/TARGET that sign what else is there; package attest writes them.
const (
	// SumsName is the list of digests, in the form of sha256sum, that is signed.
	SumsName = "SHA256SUMS"
	// DetachedName, MinisignName and SignifyName are signatures of the list.
	DetachedName = SumsName + ".sig"
	MinisignName = SumsName + ".minisig"
	SignifyName  = SumsName + ".signify"
	// ProvenanceName is a signed statement about the build.
	ProvenanceName = "provenance.intoto.jsonl"
)

// SignatureNames returns the names of all files that sign, the list of digests first.
func SignatureNames() []string {
	return []string{SumsName, DetachedName, MinisignName, SignifyName, ProvenanceName}
}

// Signed are the signatures of a directory of results.
type Signed struct {
	// Algorithm is Ed25519, ECDSA or RSA; KeySHA256 is the digest of the public key as
	// SubjectPublicKeyInfo.
	Algorithm string `json:"algorithm"`
	KeySHA256 string `json:"key_sha256"`
	// Minisign is the public key as minisign -P takes it, for Ed25519.
	Minisign string `json:"minisign_key,omitempty"`
	// Files are the list of digests and all that signs.
	Files []string `json:"files"`
	// Kept is set when all of it was there: what is signed has not changed.
	Kept bool `json:"kept,omitempty"`
}

// unsign removes the signatures of a directory if a delivery changes what they sign.
func unsign(res *Result, dir string, artefacts []Artefact, old map[string]Published) error {
	same := len(old) == len(artefacts)
	for i := range artefacts {
		a := &artefacts[i]
		_, kept := a.kept(res.Step(a.Step.Name()), dir, old)
		same = same && kept
	}
	if same {
		return nil
	}
	if _, err := os.Lstat(filepath.Join(dir, ProvenanceName)); err != nil {
		return nil // a list of digests without it is somebody else's
	}
	for _, name := range SignatureNames() {
		if slices.ContainsFunc(artefacts, func(a Artefact) bool { return a.To == name }) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fault.Wrap(fault.IO, err, "removing the signatures of what an earlier build has left")
		}
	}
	return nil
}
