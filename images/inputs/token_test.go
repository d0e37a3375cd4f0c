package inputs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/revision/pvs"
	"github.com/pantavisor/pantavisor/revision/pvs/trust"
)

// documented returns the command of docs/compose.md that signs with a key in a token.
func documented(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/compose.md")
	must(t, err)
	found := regexp.MustCompile(`"command": "(pkcs11-tool [^"]+)"`).FindSubmatch(text)
	if found == nil {
		t.Fatal("docs/compose.md has no command for a token")
	}
	return string(found[1])
}

// token makes a token with a key of a type, and returns the command of the documentation for it.
func token(t *testing.T, kind string) string {
	t.Helper()
	oracle.Need(t, "softhsm2-util", "pkcs11-tool")
	command := documented(t)
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "tokens"), 0o700))
	put(t, dir, map[string]string{"softhsm2.conf": "directories.tokendir = " + filepath.Join(dir, "tokens") + "\n"})
	t.Setenv("SOFTHSM2_CONF", filepath.Join(dir, "softhsm2.conf"))
	t.Setenv("PIN", "1234")
	run(t, "softhsm2-util", "--init-token", "--free", "--label", "products", "--pin", "1234", "--so-pin", "5678")
	run(t, "pkcs11-tool", "--module", module(command), "--token-label", "products", "--login", "--pin", "env:PIN",
		"--keypairgen", "--key-type", kind, "--label", "release")
	return command
}

// module returns the module that a command loads.
func module(command string) string {
	_, rest, _ := strings.Cut(command, "--module ")
	name, _, _ := strings.Cut(rest, " ")
	return name
}

func run(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		t.Fatalf("%s %s: %v", name, args, err)
	}
	return out
}

// TestSignedByToken signs with keys that are in a token and cannot be read, with the command
// that the documentation has.
func TestSignedByToken(t *testing.T) {
	for name, c := range map[string]struct{ kind, mechanism, input string }{
		"EC":  {"EC:prime256v1", "ECDSA", "digest"},
		"RSA": {"rsa:2048", "RSA-PKCS", "digest-info"},
	} {
		t.Run(name, func(t *testing.T) {
			command := token(t, c.kind)
			dir, list := product(t)
			list["outputs"] = []any{"revision"}
			delete(list, "image")
			delete(list, "bootloader")
			delete(list["kernel"].(object), "arguments")
			der := run(t, "pkcs11-tool", "--module", module(command), "--token-label", "products", "--read-object", "--type", "pubkey", "--label", "release")
			public, err := x509.ParsePKIXPublicKey(der)
			must(t, err)
			certify(t, filepath.Join(dir, "release.pem"), public)
			list["signing"] = object{
				"command": strings.Replace(command, "--mechanism ECDSA", "--mechanism "+c.mechanism, 1), "input": c.input, "chain": object{"path": "release.pem"},
			}
			out, _ := compose(t, write(t, dir, list))
			report, err := pvs.Check(revisionOf(t, out), trust.PublicKeys{public}, pvs.Strict)
			must(t, err)
			if len(report.Results) != 2 {
				t.Errorf("%d signatures: %+v", len(report.Results), report)
			}
			t.Setenv("PIN", "4321")
			l, err := Read(write(t, dir, list))
			must(t, err)
			if _, err := l.Build(t.Context(), filepath.Join(t.TempDir(), "out"), Options{}); err == nil || !strings.Contains(err.Error(), "it says: ") {
				t.Errorf("a wrong PIN: %v", err)
			}
		})
	}
}

// certify writes a certificate for a key, by an authority of its own.
func certify(t *testing.T, file string, public any) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	authority := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "release"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, leaf, authority, public, key)
	must(t, err)
	must(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644))
}
