package adapters

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/revision/pvs/sign"
)

const module = "/usr/lib/softhsm/libsofthsm2.so"

// certified writes a certificate of a key, and returns the file.
func certified(t *testing.T, public any) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, public, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "chain.pem")
	put(t, file, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	return file
}

func TestTokenURI(t *testing.T) {
	t.Parallel()
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	factors, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec, big := certified(t, curve.Public()), certified(t, factors.Public())
	for _, c := range []struct {
		uri, chain, line string
		in               sign.Input
	}{
		{
			"pkcs11:token=products;object=release;type=private?module-path=" + module + "&pin-source=file:/etc/pin", ec,
			`PIN="$(cat /etc/pin)" pkcs11-tool --module ` + module + " --token-label products --label release --login --pin env:PIN --sign --mechanism ECDSA", sign.Digest,
		},
		{
			"pkcs11:id=%01%AB;token=It%27s%20ours?pin-source=/a%20pin&module-path=" + module, big,
			`PIN="$(cat '/a pin')" pkcs11-tool --module ` + module + ` --token-label 'It'\''s ours' --id 01ab --login --pin env:PIN --sign --mechanism RSA-PKCS`, sign.DigestInfo,
		},
		{"pkcs11:token=t;object=o?module-path=" + module, ec, "pkcs11-tool --module " + module + " --token-label t --label o --sign --mechanism ECDSA", sign.Digest},
	} {
		k, err := parseToken(c.uri)
		if err != nil {
			t.Errorf("%s: %v", c.uri, err)
			continue
		}
		if line, in, err := k.command(c.chain); err != nil || line != c.line || in != c.in {
			t.Errorf("%s:\n%s, %s, %v\nwant\n%s, %s", c.uri, line, in, err, c.line, c.in)
		}
	}
}

func TestTokenMistakes(t *testing.T) {
	t.Parallel()
	for uri, want := range map[string]string{
		"pkcs11:":                        "it names no key",
		"pkcs11:token=t?module-path=/m":  "it names no key",
		"pkcs11:token=t;object=o":        "no module-path",
		"pkcs11:token=%zz":               "the attribute token",
		"pkcs11:token=t;serial=1":        "the attribute serial is not known",
		"pkcs11:token=t;type=public":     "type=public",
		"pkcs11:token=t?pin-value=1234":  "pin-value would be in the list",
		"pkcs11:token=t?pin-source=pin":  "pin-source=pin: want an absolute path",
		"pkcs11:token=t?module-path=x.o": "module-path=x.o: want an absolute path",
	} {
		if _, err := parseToken(uri); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", uri, err, want)
		}
	}
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k := &tokenKey{token: "t", label: "o", module: module}
	for chain, want := range map[string]string{
		"": "PV_SIGNING_CHAIN: the certificate says", "/none": "reading PV_SIGNING_CHAIN", certified(t, public): "Ed25519 key; want ECDSA or RSA", "pkcs11.go": "no certificates in PEM",
	} {
		if _, _, err := k.command(chain); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("chain %q: %v, want %q", chain, err, want)
		}
	}
}

// TestTokenSigns runs the command that a URI becomes, with a key in a token.
func TestTokenSigns(t *testing.T) {
	oracle.Need(t, "softhsm2-util", "pkcs11-tool")
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "tokens"), 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "softhsm2.conf"), "directories.tokendir = "+filepath.Join(dir, "tokens")+"\n")
	put(t, filepath.Join(dir, "pin"), "1234\n")
	t.Setenv("SOFTHSM2_CONF", filepath.Join(dir, "softhsm2.conf"))
	run := func(name string, args ...string) []byte {
		out, err := exec.Command(name, args...).Output()
		if err != nil {
			t.Fatalf("%s %s: %v", name, args, err)
		}
		return out
	}
	run("softhsm2-util", "--init-token", "--free", "--label", "our products", "--pin", "1234", "--so-pin", "5678")
	of := []string{"--module", module, "--token-label", "our products"}
	run("pkcs11-tool", append(of, "--login", "--pin", "1234", "--keypairgen", "--key-type", "EC:prime256v1", "--label", "release", "--id", "01ab")...)
	public, err := x509.ParsePKIXPublicKey(run("pkcs11-tool", append(of, "--read-object", "--type", "pubkey", "--id", "01ab")...))
	if err != nil {
		t.Fatal(err)
	}
	k, err := parseToken("pkcs11:token=our%20products;id=%01%AB?module-path=" + module + "&pin-source=file:" + dir + "/pin")
	if err != nil {
		t.Fatal(err)
	}
	line, in, err := k.command(certified(t, public))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("text"))
	cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
	cmd.Stdin = strings.NewReader(string(sum[:]))
	signature, err := cmd.Output()
	if err != nil || in != sign.Digest || len(signature) != 64 {
		t.Fatalf("%s: %d bytes, %v", line, len(signature), err)
	}
	r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	if !ecdsa.Verify(public.(*ecdsa.PublicKey), sum[:], r, s) {
		t.Error("the signature is not that of the key")
	}
}
