package containers

import (
	"context"
	"errors"
	"io"
	"io/fs"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/pvs/sign"
	"github.com/pantavisor/pantavisor/revision/pvs/trust"
)

// Signing says with what packages are signed, as the options of pvr sig do. The zero value signs nothing.
type Signing struct {
	// Key is the file of the private key.
	Key string
	// Command is a program that signs in place of a key; it needs Chain or PublicKey. Stderr gets what it says.
	Command string
	Stderr  io.Writer
	// Chain is the file of the signer's certificates, the signer's own first; "" or "no" for none.
	Chain string
	// PublicKey is the file of the program's public key.
	PublicKey string
}

// options reads the files; nil when nothing is to be signed.
func (s *Signing) options(ctx context.Context) (*sign.Options, error) {
	chain := s.Chain
	if chain == "no" {
		chain = ""
	}
	switch {
	case s.Key == "" && s.Command == "" && chain+s.PublicKey == "":
		return nil, nil
	case s.Key == "" && s.Command == "":
		return nil, fault.New(fault.BadInput, "certificates or a public key do not sign: --key or --signcmd is missing")
	case s.Key != "" && s.Command != "":
		return nil, fault.New(fault.BadInput, "--key and --signcmd exclude each other")
	}
	o := &sign.Options{}
	if chain != "" {
		text, err := readFile(chain)
		if err == nil {
			o.Chain, err = trust.ParseCertificates(text)
		}
		if err != nil {
			return nil, fault.Wrap(fault.BadInput, err, "reading the certificates %s", chain)
		}
	}
	if s.Command != "" {
		return o, s.program(ctx, o)
	}
	text, err := readFile(s.Key)
	if err == nil {
		o.Key, err = sign.ParseKey(text)
	}
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading the key %s", s.Key)
	}
	if len(o.Chain) == 0 {
		return o, nil
	}
	return o, fault.Wrap(fault.BadInput, sign.CheckChain(o.Key, o.Chain), "signing with the key %s and the certificates %s", s.Key, chain)
}

// program sets up signing with a program.
func (s *Signing) program(ctx context.Context, o *sign.Options) error {
	c := &sign.Command{Context: ctx, Line: s.Command, Stderr: s.Stderr}
	switch {
	case len(o.Chain) > 0:
		c.Key = o.Chain[0].PublicKey
	case s.PublicKey == "":
		return fault.New(fault.BadInput, "--signcmd needs the signer's certificates (--x5c) or its public key (--pubkey)")
	default:
		text, err := readFile(s.PublicKey)
		if err != nil {
			return fault.Wrap(fault.BadInput, err, "reading the public key %s", s.PublicKey)
		}
		keys, err := trust.ParsePublicKeys(text)
		if err != nil {
			return fault.Wrap(fault.BadInput, err, "reading the public key %s", s.PublicKey)
		}
		c.Key = keys[0]
	}
	o.Key = c
	_, err := sign.Algorithm(c)
	return fault.Wrap(fault.BadInput, err, "signing with a program")
}

// readFile reads a file that the user named.
func readFile(name string) ([]byte, error) {
	text, err := bounded.ReadRegular(name, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.Missing, "%w", err)
	}
	return text, err
}
