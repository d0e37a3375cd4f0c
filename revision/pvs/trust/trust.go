// Package trust decides which signers are trusted: by public keys, or by certificates
// that chain to a trusted one.
package trust

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/revision/pvs"
)

// PublicKeys are trusted keys; the certificates in a signature do not matter.
type PublicKeys []crypto.PublicKey

var _ pvs.Keys = PublicKeys(nil)

// For implements pvs.Keys.
func (k PublicKeys) For(*pvs.Signature, []string) ([]crypto.PublicKey, error) {
	if len(k) == 0 {
		return nil, pvs.ErrNoKey
	}
	return k, nil
}

// ParsePublicKeys reads all PEM blocks whose type begins with "PUBLIC " (PKIX or
// PKCS#1 content).
func ParsePublicKeys(text []byte) (PublicKeys, error) {
	var keys PublicKeys
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if !strings.HasPrefix(block.Type, "PUBLIC ") {
			continue
		}
		key, err := publicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("reading public key: %w", err)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("reading public keys: there is no PEM block PUBLIC KEY")
	}
	return keys, nil
}

func publicKey(der []byte) (crypto.PublicKey, error) {
	if key, err := x509.ParsePKCS1PublicKey(der); err == nil {
		return key, nil
	}
	return x509.ParsePKIXPublicKey(der)
}

// Store is a set of trusted certificates. Each certificate in it anchors a chain,
// whether it is a root or not.
type Store struct {
	certs []*x509.Certificate
	pool  *x509.CertPool
}

// ParseStore reads all PEM blocks CERTIFICATE.
func ParseStore(text []byte) (*Store, error) {
	certs, err := ParseCertificates(text)
	if err != nil {
		return nil, err
	}
	s := &Store{certs: certs, pool: x509.NewCertPool()}
	for _, c := range certs {
		s.pool.AddCert(c)
	}
	return s, nil
}

// ParseCertificates reads all PEM blocks CERTIFICATE in order.
func ParseCertificates(text []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("reading certificate %d: %w", len(certs)+1, err)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errors.New("reading certificates: there is no PEM block CERTIFICATE")
	}
	return certs, nil
}

// Authority trusts signers whose certificates chain to a store.
type Authority struct {
	Store *Store
	// Time is the moment at which certificates must be valid; zero for now.
	Time time.Time
	// Timeless is for devices, whose clock may be wrong and which must run for longer than
	// certificates are valid: a chain counts that was valid at any time.
	Timeless bool
	// AnyUsage accepts certificates made for other purposes than code signing.
	AnyUsage bool
	// KeyWithoutChain are trusted for signatures that carry no certificates; nil
	// means the keys of the store's own valid certificates.
	KeyWithoutChain PublicKeys
}

var _ pvs.Keys = (*Authority)(nil)

// For implements pvs.Keys.
func (a *Authority) For(s *pvs.Signature, _ []string) ([]crypto.PublicKey, error) {
	if len(s.Chain) == 0 {
		return a.bare()
	}
	leaf, between, err := parseChain(s.Chain)
	if err != nil {
		return nil, err
	}
	if err := a.vouch(leaf, between); err != nil {
		return nil, fmt.Errorf("%w: %w", pvs.ErrNoKey, err)
	}
	return usable(leaf.PublicKey)
}

// vouch verifies a chain at the time of the authority, or at any. The times at which a chain is
// valid begin with the validity of one of its certificates, so that no others need be tried.
func (a *Authority) vouch(leaf *x509.Certificate, between []*x509.Certificate) error {
	if !a.Timeless {
		return a.verify(leaf, between)
	}
	var err error
	for _, c := range slices.Concat([]*x509.Certificate{leaf}, between, a.Store.certs) {
		at := *a
		at.Time = c.NotBefore
		if err = at.verify(leaf, between); err == nil {
			return nil
		}
	}
	return err
}

func (a *Authority) verify(leaf *x509.Certificate, between []*x509.Certificate) error {
	pool := x509.NewCertPool()
	for _, c := range between {
		pool.AddCert(c)
	}
	usages := []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	if a.AnyUsage {
		usages = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: a.Store.pool, Intermediates: pool, CurrentTime: a.Time, KeyUsages: usages})
	return err
}

func (a *Authority) bare() ([]crypto.PublicKey, error) {
	if a.KeyWithoutChain != nil {
		return a.KeyWithoutChain.For(nil, nil)
	}
	var out []crypto.PublicKey
	for _, c := range a.Store.certs {
		if a.verify(c, nil) != nil {
			continue
		}
		if keys, err := usable(c.PublicKey); err == nil {
			out = append(out, keys...)
		}
	}
	if len(out) == 0 {
		return nil, pvs.ErrNoKey
	}
	return out, nil
}

func parseChain(der [][]byte) (leaf *x509.Certificate, between []*x509.Certificate, err error) {
	for i, d := range der {
		c, err := x509.ParseCertificate(d)
		if err != nil {
			return nil, nil, fmt.Errorf("reading x5c[%d]: %w", i, err)
		}
		between = append(between, c)
	}
	return between[0], between[1:], nil
}

func usable(key crypto.PublicKey) ([]crypto.PublicKey, error) {
	switch key.(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey:
		return []crypto.PublicKey{key}, nil
	}
	return nil, fmt.Errorf("%w: a certificate for a %T", pvs.ErrNoKey, key)
}

// Device is the trust that a device is configured with: one authority, and another
// for the OEM's own parts (PV_OEM_NAME, PV_SECUREBOOT_OEM_TRUSTSTORE).
type Device struct {
	Main *Authority
	// OEM is asked when OEMName is the signer's common name and the signature
	// covers neither the BSP nor the OEM's configuration. May be nil.
	OEM     *Authority
	OEMName string
}

var _ pvs.Keys = (*Device)(nil)

// For implements pvs.Keys.
func (d *Device) For(s *pvs.Signature, protected []string) ([]crypto.PublicKey, error) {
	if d.OEM != nil && d.OEMName != "" && len(s.Chain) > 0 && !d.guarded(protected) {
		leaf, err := x509.ParseCertificate(s.Chain[0])
		if err == nil && leaf.Subject.CommonName == d.OEMName {
			return d.OEM.For(s, protected)
		}
	}
	return d.Main.For(s, protected)
}

func (d *Device) guarded(protected []string) bool {
	for _, key := range protected {
		if strings.HasPrefix(key, "bsp/") || strings.HasPrefix(key, d.OEMName+"/") {
			return true
		}
	}
	return false
}
