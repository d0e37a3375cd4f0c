package sign

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
)

// Command signs with a program, for keys that must not be in a file. The program reads
// the signing input of RFC 7515 section 5.1 from its standard input and writes the
// signature to its standard output as bytes: PKCS#1 v1.5 for RSA; for EC keys r and
// s either side by side or in ASN.1, as "openssl dgst -sign" writes them.
type Command struct {
	Context context.Context //nolint:containedctx // ends the program; crypto.MessageSigner has no place for it
	// Line is run by the shell.
	Line string
	// Key is the public half of the key that the program signs with.
	Key crypto.PublicKey
	// Stderr receives the program's standard error; nil discards it.
	Stderr io.Writer
}

var _ crypto.MessageSigner = (*Command)(nil)

// maxSignature bounds the program's output, in bytes: an RSA key of 16384 bits.
const maxSignature = 2048

// Public implements crypto.Signer.
func (c *Command) Public() crypto.PublicKey { return c.Key }

// Sign implements crypto.Signer. A program signs messages, not digests.
func (c *Command) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("signing a digest with a program: it signs messages")
}

// SignMessage implements crypto.MessageSigner.
func (c *Command) SignMessage(_ io.Reader, msg []byte, _ crypto.SignerOpts) ([]byte, error) {
	out := &limited{left: maxSignature}
	cmd := shell(c.Context, c.Line)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(msg), out, c.Stderr
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
