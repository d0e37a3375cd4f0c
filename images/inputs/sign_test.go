package inputs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crypto"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/revision/pvs"
	"github.com/pantavisor/pantavisor/revision/pvs/trust"
)

// keys writes a key and a certificate of it.
func keys(t *testing.T, dir string, key crypto.Signer) trust.PublicKeys {
	t.Helper()
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "release"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	must(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	put(t, dir, map[string]string{
		"key.pem":   string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
		"chain.pem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
	})
	return trust.PublicKeys{key.Public()}
}

// TestSigned checks that the device accepts what a key, or a command with one, has signed.
func TestSigned(t *testing.T) {
	t.Parallel()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	const openssl = "openssl pkeyutl -sign -inkey "
	for name, c := range map[string]struct {
		key     crypto.Signer
		signing func(key string) object
	}{
		"EC key": {ec, func(string) object {
			return object{"key": object{"path": "key.pem"}, "chain": object{"path": "chain.pem"}}
		}},
		"RSA key":   {rs, func(string) object { return object{"key": object{"path": "key.pem"}} }},
		"EC digest": {ec, func(key string) object { return object{"command": openssl + key, "chain": object{"path": "chain.pem"}} }},
		"RSA digest": {rs, func(key string) object {
			return object{"command": openssl + key + " -pkeyopt digest:sha256", "chain": object{"path": "chain.pem"}}
		}},
		"RSA digest-info": {rs, func(key string) object {
			return object{"command": openssl + key, "input": "digest-info", "chain": object{"path": "chain.pem"}}
		}},
		"EC message": {ec, func(key string) object {
			return object{"command": "openssl dgst -sha256 -sign " + key, "input": "message", "chain": object{"path": "chain.pem"}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			oracle.Need(t, "openssl")
			dir, list := product(t)
			trusted := keys(t, dir, c.key)
			list["signing"] = c.signing(filepath.Join(dir, "key.pem"))
			out, first := compose(t, write(t, dir, list))
			st := revisionOf(t, out)
			report, err := pvs.Check(st, trusted, pvs.Strict)
			must(t, err)
			if len(report.Results) != 2 {
				t.Errorf("%d signatures: %+v", len(report.Results), report)
			}
			if strings.HasSuffix(name, "key") {
				if _, again := compose(t, write(t, dir, list)); !cmp.Equal(first, again) {
					t.Error("the same key makes other bits")
				}
			}
		})
	}
}

func TestSigningThatFails(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	for want, signing := range map[string]object{
		"signing.parts: \"no\" is not a part of revision 0; there are app, bsp": {"key": object{"path": "key.pem"}, "parts": []any{"no"}},
		"it says: no token":                  {"command": "echo no token >&2; false", "chain": object{"path": "chain.pem"}},
		"made with another key":              {"command": "printf x", "chain": object{"path": "chain.pem"}},
		"want a PEM file with a private key": {"key": object{"path": "chain.pem"}},
	} {
		dir, list := product(t)
		keys(t, dir, key)
		list["signing"] = signing
		l, err := Read(write(t, dir, list))
		must(t, err)
		out := filepath.Join(t.TempDir(), "out")
		_, err = l.Build(t.Context(), out, Options{})
		if err == nil || !strings.Contains(err.Error(), want) || fault.Of(err) == fault.Internal {
			t.Errorf("kind %v: %v; want %s", fault.Of(err), err, want)
		}
		if found, _ := filepath.Glob(filepath.Join(out, "*.img")); found != nil {
			t.Errorf("%s: %s was written", want, found)
		}
		if left, _ := os.ReadDir(out); len(left) > 3 {
			t.Errorf("%s: %v is left", want, left)
		}
	}
}
