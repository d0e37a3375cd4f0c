package signing

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"aead.dev/minisign"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"golang.org/x/crypto/blake2b"
)

// Edwards reports whether the key is one of Ed25519, for which there are the forms of minisign
// and signify.
func (p *Public) Edwards() bool {
	_, ok := p.Key.(ed25519.PublicKey)
	return ok
}

// Minisign returns the file of a signature for minisign -V. The comment, one line, is signed too.
func (k *Key) Minisign(message []byte, comment string) ([]byte, error) {
	digest := blake2b.Sum512(message)
	sig, err := k.Sign(digest[:])
	if err != nil {
		return nil, err
	}
	global, err := k.Sign(append(bytes.Clone(sig), comment...))
	if err != nil {
		return nil, err
	}
	s := minisign.Signature{
		Algorithm: minisign.HashEdDSA, KeyID: k.Public.ID, TrustedComment: comment,
		UntrustedComment: fmt.Sprintf("signature of the minisign key %016X", k.Public.ID),
	}
	copy(s.Signature[:], sig)
	copy(s.CommentSignature[:], global)
	text, err := s.MarshalText()
	return append(bytes.TrimRight(text, "\n"), '\n'), err
}

// VerifyMinisign verifies the file of a signature of minisign, and returns its trusted comment.
func (p *Public) VerifyMinisign(message, text []byte) (comment string, err error) {
	var s minisign.Signature
	if err := s.UnmarshalText(text); err != nil {
		return "", err
	}
	if s.Algorithm == minisign.HashEdDSA {
		digest := blake2b.Sum512(message)
		message = digest[:]
	}
	if err := p.identified(s.KeyID); err != nil {
		return "", err
	}
	if err := p.Verify(message, s.Signature[:]); err != nil {
		return "", err
	}
	return s.TrustedComment, p.Verify(append(s.Signature[:], s.TrustedComment...), s.CommentSignature[:])
}

// identified returns an error for the number of another key. A key that is not minisign's or
// signify's has no number of its own.
func (p *Public) identified(id uint64) error {
	if p.Numbered && id != p.ID {
		return fmt.Errorf("%w: it is of the key %016X", ErrSignature, id)
	}
	return nil
}

// Signify returns the file of a signature for signify -V: a comment, and in Base64 the algorithm,
// the number of the key and the signature (signify(1), crypto.c).
func (k *Key) Signify(message []byte) ([]byte, error) {
	sig, err := k.Sign(message)
	if err != nil {
		return nil, err
	}
	raw := binary.LittleEndian.AppendUint64([]byte(signifyAlgorithm), k.Public.ID)
	return []byte(signifyComment + fmt.Sprintf("signature of the key %016X\n", k.Public.ID) + base64.StdEncoding.EncodeToString(append(raw, sig...)) + "\n"), nil
}

const (
	signifyAlgorithm = "Ed"
	signifyComment   = "untrusted comment: "
)

var errSignify = errors.New("it is not a signature of signify")

// VerifySignify verifies the file of a signature of signify.
func (p *Public) VerifySignify(message, text []byte) error {
	comment, coded, ok := strings.Cut(string(text), "\n")
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(coded))
	if !ok || err != nil || !strings.HasPrefix(comment, signifyComment) || len(raw) != 2+8+ed25519.SignatureSize || string(raw[:2]) != signifyAlgorithm {
		return errSignify
	}
	if err := p.identified(binary.LittleEndian.Uint64(raw[2:10])); err != nil {
		return err
	}
	return p.Verify(message, raw[10:])
}

// Envelope returns a DSSE envelope with a payload as one line of JSON. Its signature names no key,
// as cosign writes it.
func (k *Key) Envelope(payloadType string, payload []byte) ([]byte, error) {
	sig, err := k.Sign(dsse.PAE(payloadType, payload))
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(dsse.Envelope{
		PayloadType: payloadType, Payload: base64.StdEncoding.EncodeToString(payload),
		Signatures: []dsse.Signature{{Sig: base64.StdEncoding.EncodeToString(sig)}},
	})
	return append(text, '\n'), err
}

// OpenEnvelope verifies that one of the signatures of an envelope is that of the key, and returns
// the payload.
func (p *Public) OpenEnvelope(payloadType string, text []byte) ([]byte, error) {
	var e dsse.Envelope
	if err := json.Unmarshal(text, &e); err != nil {
		return nil, fmt.Errorf("it is not a DSSE envelope: %w", err)
	}
	payload, err := e.DecodeB64Payload()
	if err != nil {
		return nil, err
	}
	if e.PayloadType != payloadType {
		return nil, fmt.Errorf("it is a DSSE envelope of the type %.100q, not of %s", e.PayloadType, payloadType)
	}
	message := dsse.PAE(e.PayloadType, payload)
	for _, s := range e.Signatures {
		if sig, err := base64.StdEncoding.DecodeString(s.Sig); err == nil && p.Verify(message, sig) == nil {
			return payload, nil
		}
	}
	return nil, ErrSignature
}
