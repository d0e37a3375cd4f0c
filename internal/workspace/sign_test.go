package workspace

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/build/options"
	"github.com/pantavisor/pantavisor/internal/attest"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

// pair of a key are the files KEY.pem and KEY.pub.
func pairOfKeys(t *testing.T, dir, name string, edwards bool) (private, public string) {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	var a, b any = key, pub
	if !edwards {
		k, wrong := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		a, b, err = k, k.Public(), errors.Join(err, wrong)
	}
	one, err1 := x509.MarshalPKCS8PrivateKey(a)
	two, err2 := x509.MarshalPKIXPublicKey(b)
	private, public = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".pub")
	err = errors.Join(err, err1, err2,
		os.WriteFile(private, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: one}), 0o600),
		os.WriteFile(public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: two}), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	return private, public
}

// program runs a program, which must succeed.
func program(t *testing.T, dir, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(oracle.Program(t, name), args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return out
}

// signs builds the target plain with a key or a program.
func signs(t *testing.T, w *Workspace, s Signing) (*build.Report, error) {
	t.Helper()
	w.Signing, w.JSON = s, false
	return w.Build(t.Context(), "plain")
}

// verifies runs Verify with a key on a directory or a file.
func verifies(t *testing.T, w *Workspace, at, key string) (attest.Verified, error) {
	t.Helper()
	var out bytes.Buffer
	w.JSON, w.Stdout = true, &out
	err := w.Verify(t.Context(), at, VerifyOptions{Key: key})
	var v attest.Verified
	if err == nil {
		if err := json.Unmarshal(out.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
	}
	return v, err
}

// TestSignedBuild builds a target, signs it in several ways, and verifies it.
func TestSignedBuild(t *testing.T) {
	t.Setenv("PV_CACHE_DIR", t.TempDir())
	root, keys := t.TempDir(), t.TempDir()
	w := At(root, &options.Options{Epoch: build.Epoch, Release: "1.0"})
	var said bytes.Buffer
	w.Stdout, w.Stderr = &said, &said
	define(t, w, "plain", plain)
	edwards, edwardsPub := pairOfKeys(t, keys, "edwards", true)
	curve, curvePub := pairOfKeys(t, keys, "curve", false)
	out := w.Out("plain")

	if r, err := signs(t, w, Signing{}); err != nil || r.Signed != nil {
		t.Fatalf("%+v, %v\n%s", r, err, said.String())
	}
	if _, err := verifies(t, w, out, curvePub); fault.Of(err) != fault.Missing || !strings.Contains(err.Error(), "is not signed: it has no SHA256SUMS") {
		t.Errorf("what is not signed: %v", err)
	}
	r, err := signs(t, w, Signing{Key: edwards})
	if err != nil || r.Signed == nil || r.Signed.Kept || len(r.Signed.Files) != 5 || r.Recipe == nil {
		t.Fatalf("%+v, %v", r, err)
	}
	if loaded, err := build.LoadReport(filepath.Join(out, build.ReportName)); err != nil || loaded.Signed.KeySHA256 != r.Signed.KeySHA256 {
		t.Errorf("%+v, %v", loaded, err)
	}
	if !strings.Contains(said.String(), "the results of plain signed with the Ed25519 key") {
		t.Errorf("%s", said.String())
	}
	program(t, out, "sha256sum", "-c", "--strict", build.SumsName)
	if trusted := program(t, out, "minisign", "-V", "-P", r.Signed.Minisign, "-m", build.SumsName); !strings.Contains(string(trusted), "plain 1.0") {
		t.Errorf("%s", trusted)
	}
	v, err := verifies(t, w, out, edwardsPub)
	if err != nil || len(v.Files) != len(r.Artefacts)-1 || len(v.Signatures) != 4 { // the directory of the parts' bills of materials has no file here
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := verifies(t, w, out, curvePub); fault.Of(err) != fault.Digest || !strings.Contains(err.Error(), "is not signed by the ECDSA key") {
		t.Errorf("another key: %v", err)
	}
	file := filepath.Join(out, filepath.FromSlash(r.Artefacts[0].Path))
	if v, err := verifies(t, w, file, edwardsPub); err != nil || len(v.Files) != 1 || v.Files[0].SHA256 != r.Artefacts[0].SHA256 {
		t.Errorf("one file: %+v, %v", v, err)
	}
	var whole Verified
	if v, err := verified(t, w, VerifyOptions{Key: edwardsPub}); err != nil || !v.Same || v.Signed == nil || v.Signed.KeySHA256 != r.Signed.KeySHA256 {
		t.Errorf("rebuilt: %+v, %v", whole, err)
	}

	// Nothing has changed: whoever asks for it gets what is there, and a build without a key leaves it.
	if r, err := signs(t, w, Signing{Key: edwards}); err != nil || !r.Signed.Kept {
		t.Errorf("%+v, %v", r.Signed, err)
	}
	if _, err := signs(t, w, Signing{}); err != nil {
		t.Error(err)
	}
	if _, err := verifies(t, w, out, edwardsPub); err != nil {
		t.Error(err)
	}
	// Another version: the old signatures are not of it.
	w.Options.Release = "1.1"
	if _, err := signs(t, w, Signing{}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(out, build.SumsName)); err == nil {
		t.Error("there are signatures of what was there before")
	}
	t.Setenv("PV_SIGN_PASSPHRASE", "")
	line := "openssl pkeyutl -sign -inkey " + curve
	if r, err := signs(t, w, Signing{Command: line, Public: curvePub}); err != nil || len(r.Signed.Files) != 3 {
		t.Fatalf("%+v, %v", r.Signed, err)
	}
	if _, err := verifies(t, w, out, curvePub); err != nil {
		t.Error(err)
	}
	record := filepath.Join(out, build.ReportName)
	text, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(record, bytes.Replace(text, []byte(`"PV_VERSION": "1.1"`), []byte(`"PV_VERSION": "6.6"`), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := verified(t, w, VerifyOptions{Key: curvePub}); fault.Of(err) != fault.Digest || !strings.Contains(err.Error(), "is not the one that was signed") {
		t.Errorf("a record of somebody else: %v", err)
	}
	// A program that fails leaves nothing signed that is not what is there.
	w.Options.Release = "1.2"
	r, err = signs(t, w, Signing{Command: "exit 7", Public: curvePub})
	if err == nil || !strings.Contains(err.Error(), "exit status 7") || r.Failure == nil || r.Signed != nil {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := os.Stat(filepath.Join(out, build.SumsName)); err == nil {
		t.Error("there are signatures of what was there before")
	}
}

func TestSigningMistakes(t *testing.T) {
	w, _ := empty(t)
	private, public := pairOfKeys(t, w.Root, "key", true)
	define(t, w, "plain", plain)
	for _, c := range []struct {
		s    Signing
		kind fault.Kind
		want string
	}{
		{Signing{Key: "none.pem"}, fault.Missing, "none.pem"},
		{Signing{Key: "key.pub"}, fault.BadInput, "it has no PEM block PRIVATE KEY"},
		{Signing{Key: private, Command: "x"}, fault.BadInput, "leave out one of them"},
		{Signing{Public: public}, fault.BadInput, "belong to --signcmd"},
		{Signing{Command: "x"}, fault.BadInput, "--signpub=FILE or PV_SIGN_PUB"},
		{Signing{Command: "x", Public: private}, fault.BadInput, "it has a private key"},
		{Signing{Command: "x", Public: public, Input: "digest"}, fault.BadInput, "Ed25519 signs messages"},
	} {
		r, err := signs(t, w, c.s)
		if fault.Of(err) != c.kind || !strings.Contains(err.Error(), c.want) || r.Failure == nil || len(r.Steps) > 0 {
			t.Errorf("%+v: %v, %v", c.s, fault.Of(err), err)
		}
	}
	s := Signing{}.or(&options.Options{SignKey: "k", SignPublic: "p"})
	if s != (Signing{Key: "k"}) {
		t.Errorf("%+v", s)
	}
	if s = (Signing{Command: "c"}).or(&options.Options{SignKey: "k", SignPublic: "p", SignInput: "message"}); s != (Signing{Command: "c", Public: "p", Input: "message"}) {
		t.Errorf("%+v", s)
	}
}

func TestVerifyingSignaturesOfNothing(t *testing.T) {
	w, _ := empty(t)
	_, public := pairOfKeys(t, w.Root, "key", true)
	define(t, w, "plain", plain)
	for _, c := range []struct {
		target string
		o      VerifyOptions
		kind   fault.Kind
		want   string
	}{
		{"./none", VerifyOptions{Key: public}, fault.Missing, "none"},
		{".", VerifyOptions{Key: public}, fault.Missing, "is not signed: it has no SHA256SUMS"},
		{"key.pub", VerifyOptions{Key: public}, fault.Missing, "is not signed: it has no SHA256SUMS"},
		{".", VerifyOptions{}, fault.BadInput, "are verified with --key=FILE"},
		{".", VerifyOptions{Key: public, Image: "x"}, fault.BadInput, "want one directory or file"},
		{"plain", VerifyOptions{Key: public}, fault.Missing, "plain"},
		{".", VerifyOptions{Key: "key.pem"}, fault.BadInput, "it has a private key"},
	} {
		if err := w.Verify(t.Context(), c.target, c.o); fault.Of(err) != c.kind || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v", c.target, fault.Of(err), err)
		}
	}
}

// TestCommit: the provenance names the commit, and says what is not in it.
func TestCommit(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("GIT_CONFIG_GLOBAL", "/dev/null")
	if _, ok := commit(t.Context(), dir); ok {
		t.Error("a directory that is no clone has a commit")
	}
	git := func(args ...string) string {
		return strings.TrimSpace(string(program(t, dir, "git", append([]string{"-c", "user.name=a", "-c", "user.email=a@example.test"}, args...)...)))
	}
	git("init", "-q")
	git("commit", "-q", "--allow-empty", "-m", "one")
	git("remote", "add", "origin", "https://me:secret@example.test/x.git")
	r, ok := commit(t.Context(), dir)
	if !ok || r.Digest["gitCommit"] != git("rev-parse", "HEAD") || r.URI != "git+https://example.test/x.git" || r.Annotations != nil {
		t.Errorf("%+v", r)
	}
	if err := os.WriteFile(filepath.Join(dir, "new"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if r, _ = commit(t.Context(), dir); r.Annotations["modified"] != true {
		t.Errorf("%+v", r)
	}
}

// TestTokenSignsBuilds signs with a key in a token of PKCS #11, by the line of the documentation.
func TestTokenSignsBuilds(t *testing.T) {
	oracle.Need(t, "softhsm2-util", "pkcs11-tool")
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "tokens"), 0o700),
		os.WriteFile(filepath.Join(dir, "softhsm2.conf"), []byte("directories.tokendir = "+dir+"/tokens\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", filepath.Join(dir, "softhsm2.conf"))
	t.Setenv("PIN", "1234")
	program(t, dir, "softhsm2-util", "--init-token", "--free", "--label", "products", "--pin", "1234", "--so-pin", "5678")
	of := []string{"--module", "/usr/lib/softhsm/libsofthsm2.so", "--token-label", "products"}
	for _, c := range []struct{ kind, id, mechanism, input string }{
		{"EC:prime256v1", "01", "ECDSA", ""}, {"rsa:2048", "02", "RSA-PKCS", "digest-info"}, {"rsa:2048", "03", "SHA256-RSA-PKCS", "message"}, {"EC:edwards25519", "04", "EDDSA", ""},
	} {
		program(t, dir, "pkcs11-tool", slices.Concat(of, []string{"--login", "--pin", "1234", "--keypairgen", "--key-type", c.kind, "--label", "k" + c.id, "--id", c.id})...)
		der := filepath.Join(dir, "der")
		program(t, dir, "pkcs11-tool", slices.Concat(of, []string{"--read-object", "--type", "pubkey", "--id", c.id, "--output-file", der})...)
		public := filepath.Join(dir, "pub.pem")
		program(t, dir, "openssl", "pkey", "-pubin", "-in", der, "-out", public)
		w := &Workspace{Root: dir, Options: &options.Options{}, Stderr: &bytes.Buffer{}, Signing: Signing{
			Public: public, Input: c.input,
			Command: "pkcs11-tool " + strings.Join(of, " ") + " --login --pin env:PIN --id " + c.id + " --sign --mechanism " + c.mechanism,
		}}
		key, err := w.signingKey(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := key.Detached([]byte("text")); err != nil {
			t.Errorf("%s: %v", c.kind, err)
		}
	}
}
