// Package signing reads keys, and makes and verifies signatures of files in the forms of other
// programs:
//
//   - a detached signature in Base64, as cosign sign-blob --key writes it; decoded it is what
//     openssl dgst -verify takes
//   - that of minisign, of the hash of the file (algorithm ED), with a trusted comment
//   - that of OpenBSD's signify
//   - a DSSE envelope, https://github.com/secure-systems-lab/dsse, with an empty keyid
//
// ECDSA (P-256) and RSA (PKCS #1 v1.5) sign the SHA-256 of the message, Ed25519 the message itself
// (RFC 8032). The forms of minisign and signify exist for Ed25519 only.
package signing

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/pvs/sign"
)

// Key signs: a private key in memory, or a program that has one.
type Key struct {
	// Public is the other half.
	Public *Public
	// Warning says what is unwise about the file of the key; "" for nothing.
	Warning string

	signer crypto.Signer
	said   *tail // what a program says
}

// ErrSignature is wrapped by errors for a signature that does not fit the key and the content.
var ErrSignature = errors.New("the signature does not fit")

// Program says how a program signs.
type Program struct {
	// Line is run by the shell. The program reads what Input says from its standard input and
	// writes the bare signature, bytes without an encoding, to its standard output: for RSA
	// PKCS #1 v1.5, for ECDSA r and s side by side or in ASN.1, for Ed25519 64 bytes.
	Line string
	// Input is message, digest (of SHA-256) or digest-info (the same in the form of PKCS #1).
	// Default: digest, for Ed25519 message, which has no other.
	Input string
	// Public is that of the key that the program signs with.
	Public *Public
	// Stderr receives what the program says; nil discards it.
	Stderr io.Writer
}

// Command returns the key of a program. When ctx ends, the program is ended too.
func Command(ctx context.Context, p Program) (*Key, error) {
	in := sign.Input(p.Input)
	_, edwards := p.Public.Key.(ed25519.PublicKey)
	switch in {
	case "":
		if in = sign.Digest; edwards {
			in = sign.Message
		}
	case sign.Message:
	case sign.Digest, sign.DigestInfo:
		if edwards {
			return nil, fault.New(fault.BadInput, "the program that signs is to read the %s: Ed25519 signs messages, not digests", in)
		}
	default:
		return nil, fault.New(fault.BadInput, "input %q of the program that signs: want %s, %s or %s", p.Input, sign.Message, sign.Digest, sign.DigestInfo)
	}
	said := &tail{}
	out := io.Writer(said)
	if p.Stderr != nil {
		out = io.MultiWriter(p.Stderr, said)
	}
	return &Key{Public: p.Public, said: said, signer: &sign.Command{Context: ctx, Line: p.Line, Input: in, Key: p.Public.Key, Stderr: out}}, nil
}

// tail keeps the end of what a program says.
type tail struct{ text []byte }

// maxTail bounds it, in bytes.
const maxTail = 1 << 10

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-maxTail):]
	return len(p), nil
}

// line returns it for the end of a message.
func (t *tail) line() string {
	if t == nil || len(strings.Fields(string(t.text))) == 0 {
		return ""
	}
	return "; it says: " + strings.Join(strings.Fields(string(t.text)), " ")
}

// Sign returns the bare signature of a message, ECDSA's in ASN.1. It is verified: a program may
// have another key than it should.
func (k *Key) Sign(message []byte) ([]byte, error) {
	hash, random := crypto.SHA256, rand.Reader
	switch k.Public.Key.(type) {
	case ed25519.PublicKey:
		hash = crypto.Hash(0)
	case *ecdsa.PublicKey:
		if k.said == nil {
			random = nil // deterministic (RFC 6979): the same files have the same signature
		}
	}
	sig, err := crypto.SignMessage(k.signer, random, message, hash)
	if errors.Is(err, context.Canceled) {
		return nil, fault.Wrap(fault.Cancelled, err, "signing")
	}
	if err != nil {
		return nil, fault.New(fault.IO, "signing: %w%s", err, k.said.line())
	}
	written := len(sig)
	if curve, ok := k.Public.Key.(*ecdsa.PublicKey); ok {
		sig = inASN1(curve, sig)
	}
	if k.Public.Verify(message, sig) == nil {
		return sig, nil
	}
	if k.said == nil {
		return nil, fault.New(fault.Internal, "signing with the %s: %w", k.Public, ErrSignature)
	}
	return nil, fault.New(fault.BadInput, "signing with a program: what it wrote, %d bytes, is not a signature of the %s: it has another key, reads something else, or writes more than the bare signature%s",
		written, k.Public, k.said.line())
}

// inASN1 returns the form of a signature in ASN.1, which it may have.
func inASN1(key *ecdsa.PublicKey, sig []byte) []byte {
	half := (key.Curve.Params().BitSize + 7) / 8
	var pair struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(sig, &pair); err == nil && len(rest) == 0 || len(sig) != 2*half {
		return sig
	}
	pair.R, pair.S = new(big.Int).SetBytes(sig[:half]), new(big.Int).SetBytes(sig[half:])
	text, err := asn1.Marshal(pair)
	if err != nil {
		return sig
	}
	return text
}

// Verify returns [ErrSignature] unless sig is the bare signature of a message.
func (p *Public) Verify(message, sig []byte) error {
	digest := sha256.Sum256(message)
	good := false
	switch key := p.Key.(type) {
	case ed25519.PublicKey:
		good = ed25519.Verify(key, message, sig)
	case *ecdsa.PublicKey:
		good = ecdsa.VerifyASN1(key, digest[:], sig)
	case *rsa.PublicKey:
		good = rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], sig) == nil
	}
	if !good {
		return ErrSignature
	}
	return nil
}

// Detached returns the signature in Base64.
func (k *Key) Detached(message []byte) ([]byte, error) {
	sig, err := k.Sign(message)
	return []byte(base64.StdEncoding.EncodeToString(sig)), err
}

// VerifyDetached verifies what [Key.Detached] returns.
func (p *Public) VerifyDetached(message, text []byte) error {
	sig, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("it is not a signature in Base64: %w", err)
	}
	return p.Verify(message, sig)
}
