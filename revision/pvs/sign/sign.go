// Package sign makes signature documents for states, "pvs@2"; see package pvs.
package sign

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/pvs"
	"github.com/pantavisor/pantavisor/revision/state"
)

// PartRule returns the rule of a part: its files and, unless noConfig, its
// configuration. Nil lists mean the defaults: everything but src.json. See
// [CheckName] for the names of parts.
func PartRule(part string, include, exclude []string, noConfig bool) state.Rule {
	r := state.Rule{Include: prefixed(part, include, "**"), Exclude: prefixed(part, exclude, "src.json")}
	if !noConfig {
		r.Include = append(r.Include, "_config/"+part+"/**")
	}
	r.Exclude = append(r.Exclude, "_sigs/"+part+".json")
	return r
}

func prefixed(part string, patterns []string, def string) []string {
	if patterns == nil {
		patterns = []string{def}
	}
	var out []string
	for _, p := range patterns {
		out = append(out, part+"/"+p)
	}
	return out
}

// RawRule returns the rule for the signature _sigs/NAME.json with patterns taken as
// they are; nil lists mean everything but src.json.
func RawRule(name string, include, exclude []string) state.Rule {
	if include == nil {
		include = []string{"**"}
	}
	if exclude == nil {
		exclude = []string{"src.json"}
	}
	return state.Rule{Include: append([]string(nil), include...), Exclude: append(append([]string(nil), exclude...), "_sigs/"+name+".json")}
}

// CheckName returns the name of a part or a signature without a trailing slash. It must
// be one path element: a part is signed as a whole, and every tool looks for signatures
// directly in _sigs.
func CheckName(name string) (string, error) {
	name = strings.TrimSuffix(name, "/")
	if err := state.CheckKey(name); err != nil {
		return "", err
	}
	if part, below, ok := strings.Cut(name, "/"); ok {
		return "", fmt.Errorf("%q is below a part; sign the part %s, or with --raw NAME what --include '%s/%s/**' selects", name, part, part, below)
	}
	return name, nil
}

// CheckChain returns an error when the first certificate of a chain does not belong to
// a key: nobody could verify the signature.
func CheckChain(key crypto.Signer, chain []*x509.Certificate) error {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || len(chain) == 0 || public.Equal(chain[0].PublicKey) {
		return nil
	}
	for i, c := range chain[1:] {
		if public.Equal(c.PublicKey) {
			return fmt.Errorf("the first certificate (%s) is not the signer's, which is number %d; put it first", chain[0].Subject, i+2)
		}
	}
	return fmt.Errorf("the first certificate (%s) belongs to another key", chain[0].Subject)
}

// ParseKey reads the first PEM block whose type contains PRIVATE KEY: PKCS#1,
// PKCS#8 or SEC1, for RSA or the curves P-256, P-384 and P-521.
func ParseKey(text []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if !strings.Contains(block.Type, "PRIVATE KEY") {
			continue
		}
		key, err := privateKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("reading private key: %w", err)
		}
		if _, err := algorithm(key); err != nil {
			return nil, fmt.Errorf("reading private key: %w", err)
		}
		return key, nil
	}
	return nil, errors.New("reading private key: there is no PEM block PRIVATE KEY")
}

func privateKey(der []byte) (crypto.Signer, error) {
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a %T cannot sign", key)
	}
	return signer, nil
}

// Algorithm names the algorithm of a signer's key: RS256, ES256, ES384 or ES512.
func Algorithm(key crypto.Signer) (string, error) { return algorithm(key) }

var curves = map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}

func algorithm(key crypto.Signer) (string, error) {
	switch pub := key.Public().(type) {
	case *rsa.PublicKey:
		return "RS256", nil
	case *ecdsa.PublicKey:
		if alg := curves[pub.Curve.Params().BitSize]; alg != "" {
			return alg, nil
		}
		return "", fmt.Errorf("curve %s is not supported; P-256, P-384 and P-521 are", pub.Curve.Params().Name)
	}
	return "", fmt.Errorf("a key of type %T is not supported; RSA and EC keys are", key.Public())
}

// Options say how a signature is made.
type Options struct {
	Key crypto.Signer
	// Chain are the certificates put into the signature, the signer's first; none
	// for a signature that is verified with a known key.
	Chain []*x509.Certificate
	// WithPayload includes the payload in the document.
	WithPayload bool
}

// header is the protected header; its members stay in alphabetical order.
type header struct {
	Alg string   `json:"alg"`
	JWK any      `json:"jwk"`
	PVS pvsRule  `json:"pvs"`
	Typ string   `json:"typ"`
	X5C []string `json:"x5c,omitempty"`
}

type pvsRule struct {
	Include []string `json:"include"`
	Exclude []string `json:"exclude"`
}

type rsaKey struct {
	Kty string `json:"kty"`
	N   string `json:"n"`
	E   string `json:"e"`
}

type ecKey struct {
	Kty string `json:"kty"`
	Crv string `json:"crv"`
	X   string `json:"x"`
	Y   string `json:"y"`
}

// ErrNothing is wrapped by the error for a rule that selects no key of the state: no
// device accepts a signature over nothing.
var ErrNothing = errors.New("the patterns select nothing of the committed state")

// Sign returns the signature document of a rule over a state.
func Sign(st *state.State, rule state.Rule, opt Options) (canon.Value, error) {
	protected, err := protect(rule, opt)
	if err != nil {
		return canon.Value{}, fmt.Errorf("signing: %w", err)
	}
	sel, err := pvs.Select(st, rule, pvs.Signer)
	if err != nil {
		return canon.Value{}, fmt.Errorf("signing: %w", err)
	}
	if len(sel.Protected) == 0 {
		return canon.Value{}, fmt.Errorf("signing: %w", ErrNothing)
	}
	payload := pvs.Payload(st, sel)
	value, err := signature(opt.Key, pvs.SigningInput(protected, payload))
	if err != nil {
		return canon.Value{}, fmt.Errorf("signing: %w", err)
	}
	members := []canon.Member{
		{Name: state.SpecKey, Value: canon.Str(state.SignatureSpec)},
		{Name: "protected", Value: canon.Str(protected)},
		{Name: "signature", Value: canon.Str(encode(value))},
	}
	if opt.WithPayload {
		members = append(members, canon.Member{Name: "payload", Value: canon.Str(encode(payload))})
	}
	return canon.Obj(members...), nil
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func protect(rule state.Rule, opt Options) (string, error) {
	alg, err := algorithm(opt.Key)
	if err != nil {
		return "", err
	}
	key, err := jwk(opt.Key.Public())
	if err != nil {
		return "", err
	}
	h := header{Alg: alg, JWK: key, PVS: pvsRule{rule.Include, rule.Exclude}, Typ: "PVS"}
	for _, c := range opt.Chain {
		h.X5C = append(h.X5C, base64.StdEncoding.EncodeToString(c.Raw))
	}
	text, err := json.Marshal(h)
	return encode(text), err
}

func jwk(key crypto.PublicKey) (any, error) {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return rsaKey{"RSA", encode(k.N.Bytes()), encode(big.NewInt(int64(k.E)).Bytes())}, nil
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			return nil, fmt.Errorf("encoding the public key: %w", err)
		}
		x, y := coordinates(point)
		return ecKey{"EC", k.Curve.Params().Name, encode(x), encode(y)}, nil
	}
	return nil, fmt.Errorf("a key of type %T is not supported; RSA and EC keys are", key)
}

// coordinates splits an uncompressed point: 4, then x and y of equal size (SEC 1,
// section 2.3.3).
func coordinates(point []byte) (x, y []byte) {
	size := len(point) / 2
	return point[1 : 1+size], point[1+size:]
}

// hashes are those of the algorithms of RFC 7518 section 3.1.
var hashes = map[string]crypto.Hash{"RS256": crypto.SHA256, "ES256": crypto.SHA256, "ES384": crypto.SHA384, "ES512": crypto.SHA512}

// signature signs as RFC 7518 specifies: PKCS#1 v1.5 for RSA, r and s side by side for
// EC keys. It verifies the signature, so that a signer cannot produce one that no
// device accepts.
func signature(key crypto.Signer, input []byte) ([]byte, error) {
	alg, err := algorithm(key)
	if err != nil {
		return nil, err
	}
	random := rand.Reader
	if _, ec := key.(*ecdsa.PrivateKey); ec {
		random = nil // deterministic (RFC 6979): the same state has the same signature
	}
	value, err := crypto.SignMessage(key, random, input, hashes[alg])
	if err != nil {
		return nil, err
	}
	h := hashes[alg].New()
	h.Write(input)
	digest := h.Sum(nil)
	switch pub := key.Public().(type) {
	case *rsa.PublicKey:
		err = rsa.VerifyPKCS1v15(pub, hashes[alg], digest, value)
	case *ecdsa.PublicKey:
		value, err = sideBySide(pub, digest, value)
	}
	if err != nil {
		return nil, fmt.Errorf("checking the new signature with the public key: %w", err)
	}
	return value, nil
}

var errSignature = errors.New("it was made with another key, or for another algorithm")

// sideBySide verifies a signature of an EC key, in ASN.1 or as r and s side by side,
// and returns the latter form.
func sideBySide(pub *ecdsa.PublicKey, digest, value []byte) ([]byte, error) {
	size := (pub.Curve.Params().BitSize + 7) / 8
	var pair struct{ R, S *big.Int }
	rest, err := asn1.Unmarshal(value, &pair)
	if err != nil || len(rest) > 0 {
		if len(value) != 2*size {
			return nil, errSignature
		}
		pair.R, pair.S = new(big.Int).SetBytes(value[:size]), new(big.Int).SetBytes(value[size:])
	}
	if !ecdsa.Verify(pub, digest, pair.R, pair.S) {
		return nil, errSignature
	}
	out := make([]byte, 2*size)
	pair.R.FillBytes(out[:size])
	pair.S.FillBytes(out[size:])
	return out, nil
}
