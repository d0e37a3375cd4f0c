package sign

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"time"
)

// Command signs with a program, for keys that must not be in a file. The program reads
// what Input says from its standard input and writes the
// signature to its standard output as bytes: PKCS#1 v1.5 for RSA; for EC keys r and
// s either side by side or in ASN.1, as "openssl dgst -sign" writes them.
type Command struct {
	Context context.Context //nolint:containedctx // ends the program; crypto.MessageSigner has no place for it
	// Line is run by the shell.
	Line string
	// Input is what the program reads. Default: Message.
	Input Input
	// Key is the public half of the key that the program signs with.
	Key crypto.PublicKey
	// Stderr receives the program's standard error; nil discards it.
	Stderr io.Writer
}

// Input is what a program that signs reads.
type Input string

const (
	// Message is the signing input of RFC 7515 section 5.1.
	Message Input = "message"
	// Digest is its hash as bytes, for mechanisms such as ECDSA of PKCS #11.
	Digest Input = "digest"
	// DigestInfo is its hash in the form of PKCS #1 (RFC 8017 section 9.2), for the mechanism
	// RSA-PKCS.
	DigestInfo Input = "digest-info"
)

// prefixes are what DigestInfo has in front of a hash (RFC 8017 section 9.2, note 1).
var prefixes = map[crypto.Hash][]byte{
	crypto.SHA256: {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20},
	crypto.SHA384: {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30},
	crypto.SHA512: {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40},
}

// of returns what the program reads for a message.
func (i Input) of(msg []byte, h crypto.Hash) []byte {
	if i == "" || i == Message {
		return msg
	}
	sum := h.New()
	sum.Write(msg)
	if i == Digest {
		return sum.Sum(nil)
	}
	return sum.Sum(bytes.Clone(prefixes[h]))
}

var _ crypto.MessageSigner = (*Command)(nil)

// maxSignature bounds the program's output, in bytes: an RSA key of 16384 bits.
const maxSignature = 2048

// patience is how long what the shell has started may hold its output after the shell was ended.
// It stays in the process group of the terminal, from which it may read a PIN.
const patience = time.Second

// Public implements crypto.Signer.
func (c *Command) Public() crypto.PublicKey { return c.Key }

// Sign implements crypto.Signer. A program signs messages, not digests.
func (c *Command) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("signing a digest with a program: it signs messages")
}

// SignMessage implements crypto.MessageSigner.
func (c *Command) SignMessage(_ io.Reader, msg []byte, o crypto.SignerOpts) ([]byte, error) {
	out := &limited{left: maxSignature}
	cmd := shell(c.Context, c.Line)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(c.Input.of(msg, o.HashFunc())), out, c.Stderr
	cmd.WaitDelay = patience
	err := cmd.Run()
	if out.left < 0 {
		err = fmt.Errorf("it writes more than %d bytes; a bare signature is expected", maxSignature)
	}
	if err = errors.Join(c.Context.Err(), err); err != nil {
		return nil, fmt.Errorf("running %q: %w", c.Line, err)
	}
	return out.text, nil
}

// limited accepts a limited number of bytes.
type limited struct {
	text []byte
	left int
}

// Write implements io.Writer.
func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, io.ErrShortWrite
	}
	l.text = append(l.text, p...)
	return len(p), nil
}
