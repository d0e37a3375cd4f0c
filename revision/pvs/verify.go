package pvs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	_ "crypto/sha256" // the hash of RS256 and ES256
	_ "crypto/sha512" // the hashes of ES384 and ES512
	"errors"
	"fmt"
	"math/big"
	"sort"
	"strings"

	"github.com/pantavisor/pantavisor/revision/state"
)

// ErrSignature is wrapped by the errors for signatures that do not verify.
var ErrSignature = errors.New("Signature validation failed")

// ErrCoverage is wrapped by the errors for states with keys that no signature
// mentions.
var ErrCoverage = errors.New("State not fully covered by signatures") //nolint:staticcheck // the text is part of the update's progress

// ErrNoKey is wrapped by the errors of Keys that trust no key for a signature.
var ErrNoKey = errors.New("no trusted key for this signature")

// Keys decides which keys to trust.
type Keys interface {
	// For returns the public keys (*rsa.PublicKey, *ecdsa.PublicKey) that may have
	// made a signature over these keys of a state. A key that the signature itself
	// names must not be among them unless a chain of certificates vouches for it.
	For(s *Signature, protected []string) ([]crypto.PublicKey, error)
}

type algorithm struct {
	hash  crypto.Hash
	curve int // bits of the curve; 0 for RSA
}

var algorithms = map[string]algorithm{
	"RS256": {crypto.SHA256, 0}, "ES256": {crypto.SHA256, 256}, "ES384": {crypto.SHA384, 384}, "ES512": {crypto.SHA512, 521},
}

// check verifies the signature over the input with one key.
func (s *Signature) check(input []byte, key crypto.PublicKey) bool {
	alg, ok := algorithms[s.Algorithm]
	if !ok {
		return false
	}
	h := alg.hash.New()
	h.Write(input)
	digest := h.Sum(nil)
	switch k := key.(type) {
	case *rsa.PublicKey:
		return alg.curve == 0 && rsa.VerifyPKCS1v15(k, alg.hash, digest, s.Value) == nil
	case *ecdsa.PublicKey:
		return alg.curve != 0 && k.Curve.Params().BitSize == alg.curve && checkECDSA(k, digest, s.Value, (alg.curve+7)/8)
	}
	return false
}

// checkECDSA accepts r and s side by side, as RFC 7518 specifies, or as ASN.1, which
// devices in the field expect.
func checkECDSA(key *ecdsa.PublicKey, digest, sig []byte, size int) bool {
	if len(sig) == 2*size {
		r, s := new(big.Int).SetBytes(sig[:size]), new(big.Int).SetBytes(sig[size:])
		if ecdsa.Verify(key, digest, r, s) {
			return true
		}
	}
	return ecdsa.VerifyASN1(key, digest, sig)
}

// Result is what one signature says about a state.
type Result struct {
	Key       string // state key of the document
	Selection *Selection
	Signature *Signature
	// Syntax is the pattern syntax under which the signature verified.
	Syntax Syntax
	// Ambiguous is true when the other syntax selects different keys.
	Ambiguous bool
	Err       error // nil when the signature is good
}

// Verify checks one signature document against a state. With several syntaxes, the
// first under which the signature verifies counts. A signature over nothing is never
// good.
func Verify(st *state.State, s *Signature, keys Keys, syntaxes ...Syntax) (*Selection, Syntax, error) {
	if len(syntaxes) == 0 {
		syntaxes = []Syntax{Signer}
	}
	if _, ok := algorithms[s.Algorithm]; !ok {
		return nil, 0, fmt.Errorf("%w: algorithm %.40q; RS256, ES256, ES384 and ES512 are supported", ErrSignature, s.Algorithm)
	}
	var err error
	for _, syntax := range syntaxes {
		var sel *Selection
		if sel, err = verify(st, s, keys, syntax); err == nil {
			return sel, syntax, nil
		}
	}
	return nil, 0, err
}

func verify(st *state.State, s *Signature, keys Keys, syntax Syntax) (*Selection, error) {
	sel, err := Select(st, s.Rule, syntax)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	if len(sel.Protected) == 0 {
		return nil, fmt.Errorf("%w: its patterns select nothing", ErrSignature)
	}
	candidates, err := keys.For(s, sel.Protected)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	input := SigningInput(s.Protected, Payload(st, sel))
	for _, key := range candidates {
		if s.check(input, key) {
			return sel, nil
		}
	}
	return nil, fmt.Errorf("%w: none of %d trusted keys made it over these contents", ErrSignature, len(candidates))
}

// Mode is how strictly a device checks signatures (PV_SECUREBOOT_MODE).
type Mode string

// The modes.
const (
	Disabled Mode = "disabled" // nothing is checked
	Lenient  Mode = "lenient"  // every signature present must be good
	Strict   Mode = "strict"   // and every key must be covered by one
	Audit    Mode = "audit"    // as strict, but nothing fails: the report lists what would
)

// Report is the result of checking a state.
type Report struct {
	Results []Result // one for each signature, in byte order of the keys
	// Protected, Excluded and NotSeen divide all keys by the strongest statement that
	// the good signatures make about them.
	Protected, Excluded, NotSeen []string
	// Problems is everything that the mode strict rejects.
	Problems []error
}

// Check verifies a state in a mode. The report is complete in any mode but
// Disabled; the error is nil when the mode accepts the state.
func Check(st *state.State, keys Keys, mode Mode, syntaxes ...Syntax) (*Report, error) {
	rep := &Report{}
	if mode == Disabled {
		return rep, nil
	}
	rep.verifyAll(st, keys, syntaxes)
	var bad []error
	for _, r := range rep.Results {
		if r.Err != nil {
			bad = append(bad, fmt.Errorf("%s: %w", r.Key, r.Err))
		}
	}
	var open error
	if missing := rep.uncovered(); len(missing) > 0 {
		open = fmt.Errorf("%w: %s", ErrCoverage, shorten(missing))
	}
	rep.Problems = bad
	if open != nil {
		rep.Problems = append(rep.Problems, open)
	}
	switch mode {
	case Lenient:
		return rep, errors.Join(bad...)
	case Audit:
		return rep, nil
	}
	return rep, errors.Join(rep.Problems...)
}

func (rep *Report) verifyAll(st *state.State, keys Keys, syntaxes []Syntax) {
	seen := map[string]int{} // 1 excluded, 2 protected
	for _, key := range st.Keys() {
		v, _ := st.Value(key)
		if !state.IsSignature(v) {
			continue
		}
		r := Result{Key: key}
		if r.Signature, r.Err = Parse(v); r.Err == nil {
			r.Selection, r.Syntax, r.Err = Verify(st, r.Signature, keys, syntaxes...)
		}
		if r.Err == nil {
			r.Ambiguous = ambiguous(st, r.Signature.Rule)
			mark(seen, r.Selection.Excluded, 1)
			mark(seen, r.Selection.Protected, 2)
		}
		rep.Results = append(rep.Results, r)
	}
	lists := []*[]string{&rep.NotSeen, &rep.Excluded, &rep.Protected}
	for _, key := range st.Keys() {
		list := lists[seen[key]]
		*list = append(*list, key)
	}
}

func mark(seen map[string]int, keys []string, level int) {
	for _, k := range keys {
		seen[k] = max(seen[k], level)
	}
}

// ambiguous reports whether the two syntaxes of a rule select different keys of a state.
func ambiguous(st *state.State, r state.Rule) bool {
	a, errA := Select(st, r, Signer)
	b, errB := Select(st, r, Device)
	if errA != nil || errB != nil {
		return true
	}
	return strings.Join(a.Protected, "\x00") != strings.Join(b.Protected, "\x00") ||
		strings.Join(a.Excluded, "\x00") != strings.Join(b.Excluded, "\x00")
}

// uncovered returns the keys that strict rejects; signatures need not be signed.
func (rep *Report) uncovered() []string {
	var out []string
	for _, key := range rep.NotSeen {
		if !strings.HasPrefix(key, "_sigs/") {
			out = append(out, key)
		}
	}
	sort.Strings(out)
	return out
}

func shorten(keys []string) string {
	if len(keys) > 10 {
		return strings.Join(keys[:10], ", ") + fmt.Sprintf(" and %d more", len(keys)-10)
	}
	return strings.Join(keys, ", ")
}
