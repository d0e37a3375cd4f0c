// Package pvs verifies signatures of states, "pvs@2" (manual: Integrity; pvr,
// Signatures). A signature document is a value of the state itself, customarily
// _sigs/<part>.json: a JSON Web Signature (RFC 7515) without its payload. The
// payload is rebuilt from the state: the canonical JSON object of the keys that
// the patterns in the signature's protected header select.
//
// The package knows neither key files nor certificates: see pvs/trust for where
// the keys come from and pvs/sign for signing.
package pvs

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/state"
)

// ErrDocument is wrapped by the errors for signature documents that cannot be read.
var ErrDocument = errors.New("unusable signature document")

// maxProtected bounds the protected header, which is mostly the certificate chain.
const maxProtected = 1 << 20

// Signature is a parsed signature document. Nothing in it is verified.
type Signature struct {
	Algorithm string   // RS256, ES256, ES384 or ES512
	Chain     [][]byte // certificates (DER), the signer's first; empty without x5c
	Rule      state.Rule
	// Protected is the header as stored; the signature is over these bytes.
	Protected string
	Value     []byte // the signature itself
}

// Parse reads a signature document: flattened JWS JSON, or the general form with
// one signature. A payload and an unprotected header are ignored.
func Parse(v canon.Value) (*Signature, error) {
	s, err := parse(v)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDocument, err)
	}
	return s, nil
}

func parse(v canon.Value) (*Signature, error) {
	if v.Kind() != canon.Object {
		return nil, fmt.Errorf("an object is expected, not a value of type %s", v.Kind())
	}
	if spec, _ := text(v, state.SpecKey); spec != state.SignatureSpec {
		return nil, fmt.Errorf("#spec is %.80q; %s is expected", spec, state.SignatureSpec)
	}
	if list, ok := v.Get("signatures"); ok {
		if len(list.Elems()) != 1 {
			return nil, fmt.Errorf("%d signatures; exactly one is expected", len(list.Elems()))
		}
		v = list.Elems()[0]
	}
	protected, ok := text(v, "protected")
	if !ok || protected == "" || len(protected) > maxProtected {
		return nil, errors.New("protected: a base64url text is expected")
	}
	value, ok := text(v, "signature")
	if !ok {
		return nil, errors.New("signature: a base64url text is expected")
	}
	raw, err := decode64(value)
	if err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	s := &Signature{Protected: strings.TrimRight(protected, "="), Value: raw}
	return s, s.header()
}

func text(v canon.Value, member string) (string, bool) {
	m, _ := v.Get(member)
	return m.Text()
}

func decode64(text string) ([]byte, error) {
	return base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
}

// header reads the protected header.
func (s *Signature) header() error {
	raw, err := decode64(s.Protected)
	if err != nil {
		return fmt.Errorf("protected: %w", err)
	}
	h, err := canon.Parse(raw)
	if err != nil {
		return fmt.Errorf("protected: %w", err)
	}
	if _, ok := h.Get("crit"); ok {
		return errors.New("protected.crit: critical extensions are not supported")
	}
	if typ, ok := text(h, "typ"); ok && typ != "PVS" {
		return fmt.Errorf("protected.typ is %.80q; PVS is expected", typ)
	}
	s.Algorithm, _ = text(h, "alg")
	if s.Chain, err = chain(h); err != nil {
		return err
	}
	s.Rule, err = rule(h)
	return err
}

func chain(h canon.Value) ([][]byte, error) {
	list, ok := h.Get("x5c")
	if !ok {
		return nil, nil
	}
	var out [][]byte
	for i, e := range list.Elems() {
		t, _ := e.Text()
		der, err := base64.StdEncoding.DecodeString(t)
		if err != nil || len(der) == 0 {
			return nil, fmt.Errorf("protected.x5c[%d]: a certificate in base64 is expected", i)
		}
		out = append(out, der)
	}
	if len(out) == 0 || len(out) > 16 {
		return nil, errors.New("protected.x5c: 1 to 16 certificates are expected")
	}
	return out, nil
}

func rule(h canon.Value) (state.Rule, error) {
	var r state.Rule
	pvs, ok := h.Get("pvs")
	if !ok || pvs.Kind() != canon.Object {
		return r, errors.New("protected.pvs: an object with include and exclude is expected")
	}
	var err error
	if r.Include, err = patterns(pvs, "include"); err != nil {
		return r, err
	}
	r.Exclude, err = patterns(pvs, "exclude")
	return r, err
}

func patterns(pvs canon.Value, member string) ([]string, error) {
	list, ok := pvs.Get(member)
	if !ok || list.IsNull() {
		return nil, nil
	}
	if list.Kind() != canon.Array || len(list.Elems()) > 1024 {
		return nil, fmt.Errorf("protected.pvs.%s: a list of at most 1024 patterns is expected", member)
	}
	var out []string
	for _, e := range list.Elems() {
		t, ok := e.Text()
		if !ok || len(t) > state.MaxKey {
			return nil, fmt.Errorf("protected.pvs.%s: patterns are texts of at most %d bytes", member, state.MaxKey)
		}
		out = append(out, t)
	}
	return out, nil
}

// Selection divides the keys of a state by what a rule says about them; each list is
// in byte order.
type Selection struct {
	Protected []string // signed
	Excluded  []string // known to the signer, but not signed
	NotSeen   []string // the rest
}

// Select applies a rule. An exclude pattern beats any include pattern, and counts
// also where no include pattern matches.
func Select(st *state.State, r state.Rule, syntax Syntax) (*Selection, error) {
	include, err := compileAll(r.Include, syntax)
	if err != nil {
		return nil, err
	}
	exclude, err := compileAll(r.Exclude, syntax)
	if err != nil {
		return nil, err
	}
	sel := &Selection{}
	for _, key := range st.Keys() {
		switch {
		case matchAny(exclude, key):
			sel.Excluded = append(sel.Excluded, key)
		case matchAny(include, key):
			sel.Protected = append(sel.Protected, key)
		default:
			sel.NotSeen = append(sel.NotSeen, key)
		}
	}
	return sel, nil
}

func compileAll(texts []string, syntax Syntax) ([]*Pattern, error) {
	var out []*Pattern
	for _, t := range texts {
		p, err := syntax.Compile(t)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func matchAny(patterns []*Pattern, key string) bool {
	for _, p := range patterns {
		if p.Match(key) {
			return true
		}
	}
	return false
}

// Payload returns the text that is signed for a selection.
func Payload(st *state.State, sel *Selection) []byte {
	members := make([]canon.Member, len(sel.Protected))
	for i, key := range sel.Protected {
		v, _ := st.Value(key)
		members[i] = canon.Member{Name: key, Value: v}
	}
	return canon.Obj(members...).Encode()
}

// SigningInput returns the bytes that the signature is over.
func SigningInput(protected string, payload []byte) []byte {
	out := make([]byte, 0, len(protected)+1+base64.RawURLEncoding.EncodedLen(len(payload)))
	out = append(append(out, protected...), '.')
	return base64.RawURLEncoding.AppendEncode(out, payload)
}
