package repo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/pvs"
	"github.com/pantavisor/pantavisor/revision/pvs/sign"
	"github.com/pantavisor/pantavisor/revision/state"
)

// SigDir is the directory of signatures in a state.
const SigDir = "_sigs"

// ErrNoSignature is wrapped by the errors for missing signatures.
var ErrNoSignature = errors.New("signature file does not exist")

// Sign signs the committed state by rules, each of which has the name of its signature,
// and writes _sigs/NAME.json of the working tree for each when all could be made. It
// returns the documents by name.
func (r *Repo) Sign(rules map[string]state.Rule, opt sign.Options) (map[string][]byte, error) {
	docs := make(map[string][]byte, len(rules))
	for name, rule := range rules {
		if err := state.CheckKey(SigDir + "/" + name + ".json"); err != nil {
			return nil, err
		}
		doc, err := sign.Sign(r.committed, rule, opt)
		if err != nil {
			return nil, fmt.Errorf("making the signature %s: %w", name, err)
		}
		docs[name] = doc.Encode()
	}
	for name, text := range docs {
		if err := r.writeSignature(SigDir+"/"+name+".json", text); err != nil {
			return nil, err
		}
	}
	return docs, nil
}

func (r *Repo) writeSignature(key string, text []byte) error {
	if err := r.writable(); err != nil {
		return err
	}
	file := filepath.Join(r.dir, key)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("writing signature %s: %w", key, err)
	}
	return atomicfile.Write(file, text, 0o644)
}

// SignatureKey returns the key of a signature: a name that ends in .json is the key
// itself, any other means _sigs/NAME.json.
func SignatureKey(name string) string {
	if strings.HasSuffix(name, ".json") {
		return path.Clean(name)
	}
	return SigDir + "/" + name + ".json"
}

// Signatures returns the keys of the committed signatures that a pattern matches,
// in byte order; the pattern has the signers' syntax.
func (r *Repo) Signatures(pattern string) ([]string, error) {
	p, err := pvs.Signer.Compile(pattern)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, key := range r.committed.Inlines() {
		if v, _ := r.committed.Value(key); state.IsSignature(v) && p.Match(key) {
			out = append(out, key)
		}
	}
	return out, nil
}

// readSignature reads a signature of the working tree.
func (r *Repo) readSignature(key string) (canon.Value, error) {
	if err := state.CheckKey(key); err != nil {
		return canon.Value{}, err
	}
	text, err := bounded.ReadFile(filepath.Join(r.dir, key), canon.MaxSize)
	if errors.Is(err, os.ErrNotExist) {
		return canon.Value{}, fmt.Errorf("%w with name %s", ErrNoSignature, key)
	}
	if err != nil {
		return canon.Value{}, fmt.Errorf("reading signature %s: %w", key, err)
	}
	return inlineValue(key, text)
}

// Resign signs the committed state again by the rule of a signature of the working
// tree, and replaces that file.
func (r *Repo) Resign(key string, opt sign.Options) error {
	old, err := r.readSignature(key)
	if err != nil {
		return err
	}
	s, err := pvs.Parse(old)
	if err != nil {
		return fmt.Errorf("reading signature %s: %w", key, err)
	}
	doc, err := sign.Sign(r.committed, s.Rule, opt)
	if err != nil {
		return fmt.Errorf("signing %s: %w", key, err)
	}
	return r.writeSignature(key, doc.Encode())
}

// Verified is what good signatures say about the keys of a repository.
type Verified struct {
	Protected []string // signed
	Excluded  []string // known to a signer, but signed by none
	NotSeen   []string // known to none
	Sigs      []canon.Value
}

// VerifyError is the error for a signature that is not good.
type VerifyError struct {
	Key string
	Err error
}

// Error implements error.
func (e *VerifyError) Error() string { return fmt.Sprintf("verifying %s: %v", e.Key, e.Err) }

// Unwrap returns the reason.
func (e *VerifyError) Unwrap() error { return e.Err }

// VerifySignatures verifies the named signatures, which are read from the working
// tree, or without names all committed ones, against the committed state. It stops at
// the first bad one.
func (r *Repo) VerifySignatures(ctx context.Context, keys pvs.Keys, names ...string) (*Verified, error) {
	docs, err := r.documents(names)
	if err != nil {
		return nil, err
	}
	marks := map[string]int{}
	const excluded, protected = 1, 2
	out := &Verified{}
	for _, d := range docs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		sel, err := r.verify(d.value, keys)
		if err != nil {
			return nil, &VerifyError{d.key, err}
		}
		for _, key := range sel.Excluded {
			marks[key] = max(marks[key], excluded)
		}
		for _, key := range sel.Protected {
			marks[key] = protected
		}
		out.Sigs = append(out.Sigs, d.value)
	}
	for _, key := range r.committed.Keys() {
		switch marks[key] {
		case protected:
			out.Protected = append(out.Protected, key)
		case excluded:
			out.Excluded = append(out.Excluded, key)
		default:
			out.NotSeen = append(out.NotSeen, key)
		}
	}
	return out, nil
}

func (r *Repo) verify(v canon.Value, keys pvs.Keys) (*pvs.Selection, error) {
	s, err := pvs.Parse(v)
	if err != nil {
		return nil, err
	}
	sel, _, err := pvs.Verify(r.committed, s, keys, pvs.Signer)
	return sel, err
}

type document struct {
	key   string
	value canon.Value
}

func (r *Repo) documents(names []string) ([]document, error) {
	var out []document
	if len(names) == 0 {
		keys, err := r.Signatures("**")
		for _, key := range keys {
			v, _ := r.committed.Value(key)
			out = append(out, document{key, v})
		}
		return out, err
	}
	keys := make([]string, len(names))
	for i, n := range names {
		keys[i] = SignatureKey(n)
	}
	sort.Strings(keys)
	for _, key := range keys {
		v, err := r.readSignature(key)
		if err != nil {
			return nil, err
		}
		out = append(out, document{key, v})
	}
	return out, nil
}
