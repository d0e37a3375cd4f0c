package adapters

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/hex"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/pvs/sign"
	"github.com/pantavisor/pantavisor/revision/pvs/trust"
)

// tokenPrefix begins a PKCS #11 URI (RFC 7512).
const tokenPrefix = "pkcs11:"

// tokenKey is the key that such a URI names. Of its attributes those are read with which
// pkcs11-tool of OpenSC finds the one key.
type tokenKey struct {
	token, label, id string // id in hexadecimal digits
	module, pin      string // files
}

// parseToken reads a URI.
func parseToken(uri string) (*tokenKey, error) {
	path, query, _ := strings.Cut(strings.TrimPrefix(uri, tokenPrefix), "?")
	k := &tokenKey{}
	for _, list := range []struct{ text, separator string }{{path, ";"}, {query, "&"}} {
		for _, part := range strings.Split(list.text, list.separator) {
			if part == "" {
				continue
			}
			name, coded, _ := strings.Cut(part, "=")
			value, err := url.PathUnescape(coded)
			if err != nil {
				return nil, fault.New(fault.BadInput, "the attribute %s: %w", name, err)
			}
			if err := k.set(name, value); err != nil {
				return nil, err
			}
		}
	}
	switch {
	case k.token == "" || k.label == "" && k.id == "":
		return nil, fault.New(fault.BadInput, "it names no key: want the attributes token and object, or token and id")
	case k.module == "":
		return nil, fault.New(fault.BadInput, "it has no module-path: name the library of the token's maker, ?module-path=/usr/lib/softhsm/libsofthsm2.so")
	}
	return k, nil
}

func (k *tokenKey) set(name, value string) error {
	switch name {
	case "token":
		k.token = value
	case "object":
		k.label = value
	case "id":
		k.id = hex.EncodeToString([]byte(value))
	case "type":
		if value != "private" {
			return fault.New(fault.BadInput, "type=%s: what signs is a private key", value)
		}
	case "module-path":
		k.module = value
		return absolute(name, value)
	case "pin-source":
		k.pin = strings.TrimPrefix(strings.TrimPrefix(value, "file:"), "//")
		return absolute(name, k.pin)
	case "pin-value":
		return fault.New(fault.BadInput, "pin-value would be in the list of inputs that is delivered: put the PIN in a file, pin-source=/FILE")
	default:
		return fault.New(fault.Unsupported, "the attribute %s is not known here; token, object, id, type, module-path and pin-source are", name)
	}
	return nil
}

func absolute(name, file string) error {
	if !filepath.IsAbs(file) {
		return fault.New(fault.BadInput, "%s=%s: want an absolute path", name, file)
	}
	return nil
}

// command returns the command that signs with the key, and what it reads: its mechanism follows
// from the first certificate of the chain.
func (k *tokenKey) command(chain string) (line string, in sign.Input, err error) {
	if chain == "" {
		return "", "", fault.New(fault.BadInput, "it wants PV_SIGNING_CHAIN: the certificate says which kind of key it is")
	}
	text, err := bounded.ReadRegular(chain, maxList)
	if err != nil {
		return "", "", fault.Wrap(fault.BadInput, err, "reading PV_SIGNING_CHAIN")
	}
	certificates, err := trust.ParseCertificates(text)
	if err != nil || len(certificates) == 0 {
		return "", "", fault.New(fault.BadInput, "PV_SIGNING_CHAIN: %s has no certificates in PEM: %w", chain, err)
	}
	words := []string{"pkcs11-tool", "--module", word(k.module), "--token-label", word(k.token)}
	if k.label != "" {
		words = append(words, "--label", word(k.label))
	}
	if k.id != "" {
		words = append(words, "--id", k.id)
	}
	if k.pin != "" {
		words = append([]string{`PIN="$(cat ` + word(k.pin) + `)"`}, append(words, "--login", "--pin", "env:PIN")...)
	}
	switch certificates[0].PublicKey.(type) {
	case *ecdsa.PublicKey:
		words, in = append(words, "--sign", "--mechanism", "ECDSA"), sign.Digest
	case *rsa.PublicKey:
		words, in = append(words, "--sign", "--mechanism", "RSA-PKCS"), sign.DigestInfo
	default:
		return "", "", fault.New(fault.Unsupported, "PV_SIGNING_CHAIN: the certificate is of a %v key; want ECDSA or RSA", certificates[0].PublicKeyAlgorithm)
	}
	return strings.Join(words, " "), in, nil
}

// word quotes a word for the shell where it has to be.
func word(text string) string {
	if strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-") == "" && text != "" {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
