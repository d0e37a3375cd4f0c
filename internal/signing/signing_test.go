package signing

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
	"github.com/youmark/pkcs8"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

// text is what is signed.
const text = "0123  image\n"

func put(t *testing.T, file string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// run runs a program in a directory and returns its output.
func run(t *testing.T, dir, in, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(oracle.Program(t, name), args...)
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(in)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func pkcs(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// keys returns a new key of each kind.
func keys(t *testing.T) map[string]crypto.Signer {
	t.Helper()
	_, edwards, err1 := ed25519.GenerateKey(rand.Reader)
	curve, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	factors, err3 := rsa.GenerateKey(rand.Reader, 2048)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{"Ed25519": edwards, "ECDSA": curve, "RSA": factors}
}

func none() (string, bool) { return "", false }

func phrase(word string) Passphrase { return func() (string, bool) { return word, true } }

// load loads a private key that was written, and its public half from another file.
func load(t *testing.T, data []byte, p Passphrase) (*Key, *Public) {
	t.Helper()
	dir := t.TempDir()
	key, err := Load(put(t, filepath.Join(dir, "key"), data), p)
	if err != nil {
		t.Fatal(err)
	}
	public, err := LoadPublic(put(t, filepath.Join(dir, "pub"), []byte(key.Public.PEM())))
	if err != nil || !public.Equal(key.Public) {
		t.Fatalf("%v, %v", public, err)
	}
	return key, public
}

func must(t *testing.T) func([]byte, error) []byte {
	return func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}

// TestOpenSSL: OpenSSL verifies the detached signatures of all kinds of keys.
func TestOpenSSL(t *testing.T) {
	t.Parallel()
	for name, private := range keys(t) {
		key, public := load(t, encode("PRIVATE KEY", pkcs(t, private)), none)
		if key.Public.Algorithm() != name || key.Warning != "" {
			t.Errorf("%s: %s, %q", name, key.Public, key.Warning)
		}
		dir, coded := t.TempDir(), must(t)(key.Detached([]byte(text)))
		raw := must(t)(base64.StdEncoding.DecodeString(string(coded)))
		put(t, filepath.Join(dir, "text"), []byte(text))
		put(t, filepath.Join(dir, "sig"), raw)
		put(t, filepath.Join(dir, "pub.pem"), []byte(public.PEM()))
		if name == "Ed25519" {
			run(t, dir, "", "openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "pub.pem", "-rawin", "-in", "text", "-sigfile", "sig")
		} else if out := run(t, dir, "", "openssl", "dgst", "-sha256", "-verify", "pub.pem", "-signature", "sig", "text"); !strings.Contains(out, "Verified OK") {
			t.Errorf("%s: %s", name, out)
		}
		if err := public.VerifyDetached([]byte(text), append(coded, '\n')); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := public.VerifyDetached([]byte(text+" "), coded); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: another text: %v", name, err)
		}
		for other, k := range keys(t) {
			p, err := newPublic(k.Public())
			if err != nil {
				t.Fatal(err)
			}
			if err := p.VerifyDetached([]byte(text), coded); !errors.Is(err, ErrSignature) {
				t.Errorf("%s: another key of %s: %v", name, other, err)
			}
		}
	}
}

// TestMinisignAndSignify: those programs verify the forms of theirs, with keys of minisign and with
// others.
func TestMinisignAndSignify(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run(t, dir, "", "minisign", "-G", "-W", "-p", "own.pub", "-s", "own.key")
	own, err := Load(filepath.Join(dir, "own.key"), none)
	if err != nil {
		t.Fatal(err)
	}
	other, _ := load(t, encode("PRIVATE KEY", pkcs(t, keys(t)["Ed25519"])), none)
	put(t, filepath.Join(dir, "other.pub"), []byte("untrusted comment: a key\n"+other.Public.Minisign()+"\n"))
	put(t, filepath.Join(dir, "text"), []byte(text))
	for name, key := range map[string]*Key{"own.pub": own, "other.pub": other} {
		mini, signify := must(t)(key.Minisign([]byte(text), "release 1.0")), must(t)(key.Signify([]byte(text)))
		put(t, filepath.Join(dir, "text.minisig"), mini)
		put(t, filepath.Join(dir, "text.signify"), signify)
		out := run(t, dir, "", "minisign", "-V", "-H", "-p", name, "-m", "text")
		if !strings.Contains(out, "Trusted comment: release 1.0") {
			t.Errorf("%s: %s", name, out)
		}
		run(t, dir, "", "minisign", "-V", "-H", "-P", key.Public.Minisign(), "-m", "text")
		run(t, dir, "", "signify-openbsd", "-V", "-p", name, "-x", "text.signify", "-m", "text")
		public, err := LoadPublic(filepath.Join(dir, name))
		if err != nil || !public.Equal(key.Public) || public.ID != key.Public.ID {
			t.Fatalf("%v, %v", public, err)
		}
		if comment, err := public.VerifyMinisign([]byte(text), mini); err != nil || comment != "release 1.0" {
			t.Errorf("%q, %v", comment, err)
		}
		if err := public.VerifySignify([]byte(text), signify); err != nil {
			t.Error(err)
		}
		if _, err := public.VerifyMinisign([]byte(text), bytes.Replace(mini, []byte("release 1.0"), []byte("release 2.0"), 1)); !errors.Is(err, ErrSignature) {
			t.Errorf("another trusted comment: %v", err)
		}
	}
	public, err := LoadPublic(filepath.Join(dir, "own.pub"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := public.VerifyMinisign([]byte(text), must(t)(other.Minisign([]byte(text), ""))); !errors.Is(err, ErrSignature) || !strings.Contains(err.Error(), "it is of the key") {
		t.Errorf("the signature of another key: %v", err)
	}
	if err := public.VerifySignify([]byte(text), must(t)(other.Signify([]byte(text)))); !errors.Is(err, ErrSignature) {
		t.Errorf("the signature of another key: %v", err)
	}
	// A signature that minisign makes, in both of its forms.
	for _, form := range [][]string{nil, {"-l"}} {
		run(t, dir, "", "minisign", append([]string{"-S", "-s", "own.key", "-m", "text", "-t", "its own"}, form...)...)
		if comment, err := public.VerifyMinisign([]byte(text), must(t)(os.ReadFile(filepath.Join(dir, "text.minisig")))); err != nil || comment != "its own" {
			t.Errorf("%v: %q, %v", form, comment, err)
		}
	}
}

// TestSignifyKey: a public key and a signature of signify are understood.
func TestSignifyKey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run(t, dir, "", "signify-openbsd", "-G", "-n", "-p", "k.pub", "-s", "k.sec")
	put(t, filepath.Join(dir, "text"), []byte(text))
	run(t, dir, "", "signify-openbsd", "-S", "-s", "k.sec", "-m", "text")
	public, err := LoadPublic(filepath.Join(dir, "k.pub"))
	if err != nil {
		t.Fatal(err)
	}
	if err := public.VerifySignify([]byte(text), must(t)(os.ReadFile(filepath.Join(dir, "text.sig")))); err != nil {
		t.Error(err)
	}
	if _, err := Load(filepath.Join(dir, "k.sec"), none); fault.Of(err) != fault.BadInput {
		t.Errorf("a private key of signify: %v", err)
	}
}

func TestEnvelope(t *testing.T) {
	t.Parallel()
	for name, private := range keys(t) {
		key, public := load(t, encode("PRIVATE KEY", pkcs(t, private)), none)
		e := must(t)(key.Envelope("a/b", []byte(text)))
		if got, err := public.OpenEnvelope("a/b", e); err != nil || string(got) != text {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if _, err := public.OpenEnvelope("a/c", e); err == nil {
			t.Errorf("%s: another type is taken", name)
		}
		wrong := bytes.Replace(e, []byte(base64.StdEncoding.EncodeToString([]byte(text))), []byte(base64.StdEncoding.EncodeToString([]byte("0124  image\n"))), 1)
		if _, err := public.OpenEnvelope("a/b", wrong); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: another payload: %v", name, err)
		}
	}
}

// TestFormsOfKeys reads keys as OpenSSL, cosign and minisign keep them, encrypted and not.
func TestFormsOfKeys(t *testing.T) {
	t.Parallel()
	all, dir := keys(t), t.TempDir()
	curve, factors := all["ECDSA"].(*ecdsa.PrivateKey), all["RSA"].(*rsa.PrivateKey)
	sec, err := x509.MarshalECPrivateKey(curve)
	if err != nil {
		t.Fatal(err)
	}
	plain := put(t, filepath.Join(dir, "plain"), encode("PRIVATE KEY", pkcs(t, curve)))
	run(t, dir, "", "openssl", "pkcs8", "-topk8", "-in", plain, "-out", "openssl", "-passout", "pass:word")
	run(t, dir, "", "openssl", "pkcs8", "-topk8", "-scrypt", "-in", plain, "-out", "scrypt", "-passout", "pass:word")
	boxed, err := encrypted.Encrypt(pkcs(t, curve), []byte("word"))
	if err != nil {
		t.Fatal(err)
	}
	ours, err := pkcs8.MarshalPrivateKey(all["Ed25519"], []byte("word"), nil)
	if err != nil {
		t.Fatal(err)
	}
	run(t, dir, "word\nword\n", "minisign", "-G", "-p", "mini.pub", "-s", "mini.key")
	read := func(name string) []byte { return must(t)(os.ReadFile(filepath.Join(dir, name))) }
	for name, data := range map[string][]byte{
		"SEC 1": encode("EC PRIVATE KEY", sec), "PKCS #1": encode("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(factors)),
		"parameters before it": append(encode("EC PARAMETERS", []byte{6, 0}), encode("EC PRIVATE KEY", sec)...),
		"openssl":              read("openssl"), "scrypt": read("scrypt"), "cosign": encode("ENCRYPTED SIGSTORE PRIVATE KEY", boxed),
		"Ed25519": encode("ENCRYPTED PRIVATE KEY", ours), "minisign": read("mini.key"),
	} {
		key, public := load(t, data, phrase("word"))
		if err := public.Verify([]byte(text), must(t)(key.Sign([]byte(text)))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		file := put(t, filepath.Join(dir, "again"), data)
		if !strings.Contains(string(data), "ENCRYPTED") && name != "minisign" {
			continue
		}
		if _, err := Load(file, none); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "PV_SIGN_PASSPHRASE has its passphrase") {
			t.Errorf("%s without its passphrase: %v", name, err)
		}
		if name == "minisign" {
			continue // each attempt takes seconds and 1 GiB
		}
		if _, err := Load(file, phrase("other")); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "PV_SIGN_PASSPHRASE") {
			t.Errorf("%s with another passphrase: %v", name, err)
		}
	}
}

func TestKeysThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	weak, err1 := rsa.GenerateKey(rand.Reader, 1024)
	large, err2 := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key")
	for want, data := range map[string][]byte{
		"neither a PEM file nor":          []byte("hello"),
		"no PEM block PRIVATE KEY":        encode("PUBLIC KEY", []byte{1}),
		"RSA key of 1024 bits":            encode("PRIVATE KEY", pkcs(t, weak)),
		"curve P-384":                     encode("PRIVATE KEY", pkcs(t, large)),
		"block OPENSSH PRIVATE KEY is":    encode("OPENSSH PRIVATE KEY", []byte{1}),
		"openssl pkcs8 -topk8":            []byte("-----BEGIN RSA PRIVATE KEY-----\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"),
		"reading the private key " + file: encode("PRIVATE KEY", []byte{1}),
	} {
		if _, err := Load(put(t, file, data), none); err == nil || !strings.Contains(err.Error(), want) || fault.Of(err) != fault.BadInput && fault.Of(err) != fault.Unsupported {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for want, data := range map[string][]byte{
		"it has a private key": encode("PRIVATE KEY", []byte{1}), "neither a PEM file": []byte("x"), "first PEM block is a DH": encode("DH", nil),
	} {
		if _, err := LoadPublic(put(t, file, data)); err == nil || !strings.Contains(err.Error(), want) || fault.Of(err) != fault.BadInput {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none"), none); fault.Of(err) != fault.Missing {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := Load(t.TempDir(), none); fault.Of(err) != fault.BadInput {
		t.Errorf("a directory: %v", err)
	}
	put(t, file, encode("PRIVATE KEY", pkcs(t, keys(t)["ECDSA"])))
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if k, err := Load(file, none); err != nil || !strings.Contains(k.Warning, "can be read by others (mode 0644)") {
		t.Errorf("%+v, %v", k, err)
	}
}

func TestCertificate(t *testing.T) {
	t.Parallel()
	for name, key := range keys(t) {
		c := &x509.Certificate{SerialNumber: big.NewInt(1)}
		der := must(t)(x509.CreateCertificate(rand.Reader, c, c, key.Public(), key))
		p, err := LoadPublic(put(t, filepath.Join(t.TempDir(), "c.pem"), encode("CERTIFICATE", der)))
		if err != nil || p.Algorithm() != name || p.Verify(nil, nil) == nil {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
}

// command returns the key of a program that has one of the keys.
func command(t *testing.T, ctx context.Context, line, in string, key crypto.Signer) (*Key, error) {
	t.Helper()
	p, err := newPublic(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return Command(ctx, Program{Line: line, Input: in, Public: p})
}

// TestPrograms lets OpenSSL sign, with each kind of key and of input.
func TestPrograms(t *testing.T) {
	t.Parallel()
	oracle.Need(t, "openssl")
	all, dir := keys(t), t.TempDir()
	for name, key := range all {
		put(t, filepath.Join(dir, name), encode("PRIVATE KEY", pkcs(t, key)))
	}
	for _, c := range []struct{ key, in, line string }{
		{"ECDSA", "", "openssl pkeyutl -sign -inkey KEY"},
		{"ECDSA", "digest", "openssl pkeyutl -sign -inkey KEY"},
		{"ECDSA", "message", "openssl dgst -sha256 -sign KEY"},
		{"RSA", "message", "openssl dgst -sha256 -sign KEY"},
		{"RSA", "", "openssl pkeyutl -sign -pkeyopt digest:sha256 -inkey KEY"},
		{"RSA", "digest-info", "openssl pkeyutl -sign -inkey KEY"},
		{"Ed25519", "", "f=$(mktemp) && cat >$f && openssl pkeyutl -sign -rawin -in $f -inkey KEY && rm $f"},
	} {
		key, err := command(t, t.Context(), strings.Replace(c.line, "KEY", filepath.Join(dir, c.key), 1), c.in, all[c.key])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := key.Sign([]byte(text)); err != nil {
			t.Errorf("%s, %q: %v", c.key, c.in, err)
		}
	}
}

func TestProgramsThatDoNotSign(t *testing.T) {
	t.Parallel()
	all := keys(t)
	for line, want := range map[string]string{
		"echo no token >&2; exit 3":    "exit status 3; it says: no token",
		"echo garbage":                 "8 bytes, is not a signature of the ECDSA key",
		"head -c 64 /dev/zero":         "64 bytes, is not a signature",
		"head -c 100000 /dev/zero":     "a bare signature is expected",
		":":                            "0 bytes, is not a signature",
		"/nowhere/program that is not": "exit status 127",
	} {
		key, err := command(t, t.Context(), line, "", all["ECDSA"])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := key.Sign([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
	if _, err := command(t, t.Context(), "x", "digest", all["Ed25519"]); fault.Of(err) != fault.BadInput {
		t.Errorf("a digest for Ed25519: %v", err)
	}
	if _, err := command(t, t.Context(), "x", "hash", all["RSA"]); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "want message, digest or digest-info") {
		t.Errorf("an unknown input: %v", err)
	}
}

// TestProgramThatHangs: one that waits ends with the context, with what it has started.
func TestProgramThatHangs(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	key, err := command(t, ctx, "sleep 30; true", "", keys(t)["ECDSA"])
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, cancel)
	begin := time.Now()
	if _, err := key.Sign([]byte(text)); fault.Of(err) != fault.Cancelled || time.Since(begin) > 15*time.Second {
		t.Errorf("after %v: %v", time.Since(begin), err)
	}
}

// FuzzSignatures: no text of a signature is taken, whatever it is, that the key did not make.
func FuzzSignatures(f *testing.F) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	p, err := newPublic(private.Public())
	if err != nil {
		f.Fatal(err)
	}
	key := &Key{Public: p, signer: private}
	for _, make := range []func() ([]byte, error){
		func() ([]byte, error) { return key.Minisign([]byte("another"), "c") },
		func() ([]byte, error) { return key.Signify([]byte("another")) },
		func() ([]byte, error) { return key.Detached([]byte("another")) },
		func() ([]byte, error) { return key.Envelope("other", []byte(text)) },
	} {
		seed, err := make()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, sig []byte) {
		if _, err := p.VerifyMinisign([]byte(text), sig); err == nil {
			t.Error("minisign")
		}
		if p.VerifySignify([]byte(text), sig) == nil || p.VerifyDetached([]byte(text), sig) == nil {
			t.Error("signify, detached")
		}
		if _, err := p.OpenEnvelope("a/b", sig); err == nil {
			t.Error("envelope")
		}
	})
}
