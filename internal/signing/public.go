package signing

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"

	"aead.dev/minisign"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// Public is a public key.
type Public struct {
	// Key is an ed25519.PublicKey, an *ecdsa.PublicKey of the curve P-256 or an *rsa.PublicKey.
	Key crypto.PublicKey
	// ID is the number by which minisign and signify know the key; Numbered is set when they made
	// it. That of another key follows from its digest.
	ID       uint64
	Numbered bool
}

// minRSA is the least size of an RSA key, in bits: that which cosign takes.
const minRSA = 2048

// newPublic checks that a key is one that can be used.
func newPublic(key crypto.PublicKey) (*Public, error) {
	p := &Public{Key: key}
	switch k := key.(type) {
	case ed25519.PublicKey:
		sum, err := p.sum()
		p.ID = binary.LittleEndian.Uint64(sum[:])
		return p, err
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return nil, fault.New(fault.Unsupported, "a key of the curve %s is not used for signing files: want Ed25519, ECDSA with P-256 or RSA", k.Curve.Params().Name)
		}
		return p, nil
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSA {
			return nil, fault.New(fault.BadInput, "an RSA key of %d bits is too weak: want %d at least", k.N.BitLen(), minRSA)
		}
		return p, nil
	}
	return nil, fault.New(fault.Unsupported, "a key of the type %T is not used for signing files: want Ed25519, ECDSA with P-256 or RSA", key)
}

// LoadPublic reads the file of a public key: PEM with the key or its certificate, or a public key
// of minisign or signify.
func LoadPublic(file string) (*Public, error) {
	text, err := readKey(file)
	if err != nil {
		return nil, err
	}
	p, err := parsePublic(text)
	return p, fault.Wrap(fault.BadInput, err, "reading the public key %s", file)
}

func parsePublic(text []byte) (*Public, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		var key minisign.PublicKey
		if err := key.UnmarshalText(bytes.TrimSpace(text)); err != nil {
			return nil, fault.New(fault.BadInput, "it is neither a PEM file nor a public key of minisign (%w)", err)
		}
		raw, err := base64.StdEncoding.DecodeString(key.String())
		if err != nil {
			return nil, err
		}
		return &Public{Key: ed25519.PublicKey(raw[len(raw)-ed25519.PublicKeySize:]), ID: key.ID(), Numbered: true}, nil
	}
	switch {
	case block.Type == "CERTIFICATE":
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return newPublic(c.PublicKey)
	case block.Type == "PUBLIC KEY":
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		return newPublic(key)
	case block.Type == "RSA PUBLIC KEY":
		key, err := x509.ParsePKCS1PublicKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		return newPublic(key)
	case strings.Contains(block.Type, "PRIVATE KEY"):
		return nil, fault.New(fault.BadInput, "it has a private key; openssl pkey -in KEY -pubout writes the public one")
	}
	return nil, fault.New(fault.BadInput, "its first PEM block is a %s: want PUBLIC KEY or CERTIFICATE", block.Type)
}

// der is the key as SubjectPublicKeyInfo.
func (p *Public) der() ([]byte, error) { return x509.MarshalPKIXPublicKey(p.Key) }

func (p *Public) sum() ([sha256.Size]byte, error) {
	der, err := p.der()
	return sha256.Sum256(der), err
}

// SHA256 is the digest of the key as SubjectPublicKeyInfo, in hex.
func (p *Public) SHA256() string {
	sum, err := p.sum()
	if err != nil {
		return ""
	}
	return hex.EncodeToString(sum[:])
}

// Algorithm is Ed25519, ECDSA or RSA.
func (p *Public) Algorithm() string {
	switch p.Key.(type) {
	case ed25519.PublicKey:
		return "Ed25519"
	case *ecdsa.PublicKey:
		return "ECDSA"
	}
	return "RSA"
}

// String names the key in messages.
func (p *Public) String() string {
	if p.Numbered {
		return fmt.Sprintf("%s key %016X", p.Algorithm(), p.ID)
	}
	return fmt.Sprintf("%s key %.16s", p.Algorithm(), p.SHA256())
}

// Equal reports whether two keys are the same.
func (p *Public) Equal(o *Public) bool { return p.SHA256() == o.SHA256() }

// PEM returns the key as a PEM file.
func (p *Public) PEM() string {
	der, err := p.der()
	if err != nil {
		return ""
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// Minisign returns the key as minisign -P takes it, "" for a key that is not of Ed25519. Behind a
// line with a comment it is the file of a key for minisign and signify.
func (p *Public) Minisign() string {
	key, ok := p.Key.(ed25519.PublicKey)
	if !ok {
		return ""
	}
	raw := binary.LittleEndian.AppendUint64([]byte(signifyAlgorithm), p.ID)
	return base64.StdEncoding.EncodeToString(append(raw, key...))
}
