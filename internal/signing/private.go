package signing

import (
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"aead.dev/minisign"
	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
	"github.com/youmark/pkcs8"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// maxKey bounds the file of a key, in bytes.
const maxKey = 1 << 20

// Passphrase returns the passphrase of a key, and whether there is one.
type Passphrase func() (string, bool)

// Load reads the file of a private key: PEM with PKCS #8, encrypted or not, PKCS #1 or SEC 1, or a
// key of minisign or cosign.
func Load(file string, phrase Passphrase) (*Key, error) {
	text, err := readKey(file)
	if err != nil {
		return nil, err
	}
	key, err := parse(text, phrase)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading the private key %s", file)
	}
	if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o077 != 0 {
		key.Warning = fmt.Sprintf("the private key %s can be read by others (mode %04o): chmod 600 %s", file, info.Mode().Perm(), file)
	}
	return key, nil
}

func readKey(file string) ([]byte, error) {
	text, err := bounded.ReadRegular(file, maxKey)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.Missing, "reading a key: %w", err)
	}
	return text, fault.Wrap(fault.BadInput, err, "reading a key")
}

// parse reads the first private key of a text.
func parse(text []byte, phrase Passphrase) (*Key, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if !strings.Contains(block.Type, "PRIVATE KEY") {
			continue
		}
		any, err := decode(block, phrase)
		if err != nil {
			return nil, err
		}
		signer, ok := any.(crypto.Signer)
		if !ok {
			return nil, fmt.Errorf("a key of the type %T does not sign", any)
		}
		public, err := newPublic(signer.Public())
		return &Key{Public: public, signer: signer}, err
	}
	if strings.Contains(string(text), "-----BEGIN ") {
		return nil, fault.New(fault.BadInput, "it has no PEM block PRIVATE KEY")
	}
	return parseMinisign(text, phrase)
}

// errPhrase is the error of an encrypted key without its passphrase.
var errPhrase = fault.New(fault.BadInput, "it is encrypted: PV_SIGN_PASSPHRASE has its passphrase")

// decode reads the key in a block of PEM.
func decode(block *pem.Block, phrase Passphrase) (any, error) {
	switch block.Type {
	case "PRIVATE KEY":
		return x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY", "RSA PRIVATE KEY":
		if block.Headers["DEK-Info"] != "" {
			return nil, fault.New(fault.Unsupported, "it is encrypted as OpenSSL did before PKCS #8: openssl pkcs8 -topk8 -in KEY converts it")
		}
		if block.Type == "EC PRIVATE KEY" {
			return x509.ParseECPrivateKey(block.Bytes)
		}
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		word, ok := phrase()
		if !ok {
			return nil, errPhrase
		}
		key, _, err := pkcs8.ParsePrivateKey(block.Bytes, []byte(word))
		return key, wrongPhrase(err)
	case "ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY":
		word, ok := phrase()
		if !ok {
			return nil, errPhrase
		}
		der, err := encrypted.Decrypt(block.Bytes, []byte(word))
		if err != nil {
			return nil, wrongPhrase(err)
		}
		return x509.ParsePKCS8PrivateKey(der)
	}
	return nil, fault.New(fault.Unsupported, "a PEM block %s is not read: want PKCS #8, as openssl genpkey writes it (ssh-keygen -p -m PKCS8 converts keys of SSH)", block.Type)
}

func wrongPhrase(err error) error {
	return fault.Wrap(fault.BadInput, err, "decrypting it with PV_SIGN_PASSPHRASE")
}

// minisignKey is where the file of a key of minisign that is not encrypted has the private and the
// public key (minisign(1), struct SeckeyStruct).
const minisignKey = 62

// parseMinisign reads a private key of minisign.
func parseMinisign(text []byte, phrase Passphrase) (*Key, error) {
	var key minisign.PrivateKey
	if minisign.IsEncrypted(text) {
		word, ok := phrase()
		if !ok {
			return nil, errPhrase
		}
		var err error
		if key, err = minisign.DecryptKey(word, text); err != nil {
			return nil, wrongPhrase(err)
		}
	} else if err := key.UnmarshalText(text); err != nil {
		return nil, fault.New(fault.BadInput, "it is neither a PEM file nor a private key of minisign (%w)", err)
	}
	plain, err := key.MarshalText() // the library does not give the key itself
	if err != nil {
		return nil, err
	}
	_, coded, _ := strings.Cut(string(plain), "\n")
	raw, err := base64.StdEncoding.DecodeString(coded)
	if err != nil || len(raw) < minisignKey+ed25519.PrivateKeySize {
		return nil, fault.New(fault.Internal, "the key of minisign has %d bytes", len(raw))
	}
	private := ed25519.PrivateKey(raw[minisignKey : minisignKey+ed25519.PrivateKeySize])
	if !ed25519.NewKeyFromSeed(private.Seed()).Equal(private) {
		return nil, fault.New(fault.BadInput, "the halves of the key of minisign do not fit: the file is damaged")
	}
	return &Key{Public: &Public{Key: private.Public(), ID: key.ID(), Numbered: true}, signer: private}, nil
}
