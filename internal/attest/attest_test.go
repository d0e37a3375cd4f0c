package attest

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/internal/signing"
)

func put(t *testing.T, file, text string) string {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	return file
}

// run runs a program in a directory.
func run(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(oracle.Program(t, name), args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s %v: %v\n%s", name, args, err, out)
	}
}

// fails checks that a program, which has accepted the directory, does not accept it any more.
func fails(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(oracle.Program(t, name), args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Errorf("%s %v accepts what was changed: %s", name, args, out)
	}
}

// keys returns a new key of each kind.
func keys(t *testing.T) map[string]*signing.Key {
	t.Helper()
	_, edwards, err1 := ed25519.GenerateKey(rand.Reader)
	curve, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	factors, err3 := rsa.GenerateKey(rand.Reader, 2048)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	out := map[string]*signing.Key{}
	for _, k := range []any{edwards, curve, factors} {
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		key, err := signing.Load(put(t, filepath.Join(t.TempDir(), "key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))), nil)
		if err != nil {
			t.Fatal(err)
		}
		out[key.Public.Algorithm()] = key
	}
	return out
}

const lock = `requests: [{name: kernel, suite: bookworm, arch: amd64, packages: [libc++1]}]
packages:
  - package: libc++1
    version: "1:2.3+dfsg~a-1"
    arch: amd64
    suite: bookworm
    path: pool/main/l/l.deb
    sha256: ` + sum1 + `
    size: 7
    for: [kernel/amd64]
`

const (
	sum1 = "1111111111111111111111111111111111111111111111111111111111111111"
	sum2 = "2222222222222222222222222222222222222222222222222222222222222222"
)

// results makes a directory of results, and its report.
func results(t *testing.T) (dir string, r *build.Report) {
	t.Helper()
	dir = t.TempDir()
	put(t, filepath.Join(dir, "b.img"), "image")
	put(t, filepath.Join(dir, "a.pvr.tgz"), "export")
	put(t, filepath.Join(dir, "tezi", "image.json"), "{}")
	put(t, filepath.Join(dir, "tezi", "x", "y"), "y")
	put(t, filepath.Join(dir, build.ReportName), "{ }")
	put(t, filepath.Join(dir, ".build", "lock"), "")
	r = &build.Report{
		Target: "board", Finished: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Wall: 5,
		Recipe: &build.Recipe{
			Settings: map[string]string{"PV_VERSION": "1.0", "PVR_MERGE_SRC": "https://me:secret@example.test/device"}, Secrets: map[string]string{"PV_FACTORY_AUTOTOK": sum1},
			Files: map[string]build.RecipeFile{"PV_PART_TPL": {Path: "/home/me/tpl", SHA256: sum2}, "PV_PART_DIR": {Path: "/home/me/dir"}}, Lock: lock, Go: "go1.26",
		},
	}
	for _, name := range []string{"b.img", "a.pvr.tgz"} {
		sum, err := build.SumFile(t.Context(), filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		r.Artefacts = append(r.Artefacts, build.Published{Path: name, SHA256: sum})
	}
	r.Artefacts = append(r.Artefacts, build.Published{Path: "tezi"})
	return dir, r
}

// sign signs a directory of results.
func sign(t *testing.T, dir string, r *build.Report, key *signing.Key) *build.Signed {
	t.Helper()
	files, err := Artefacts(t.Context(), dir, r.Artefacts)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewStatement(r, files, Origin{Sources: []Resource{{Name: "source", URI: "git+https://example.test/x", Digest: map[string]string{"gitCommit": "0123"}}}, Invocation: "42"})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := Sign(dir, key, files, s, "board 1.0")
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// TestOtherProgramsVerify: sha256sum, OpenSSL, minisign and signify accept what is written.
func TestOtherProgramsVerify(t *testing.T) {
	t.Parallel()
	for name, key := range keys(t) {
		t.Run(name, func(t *testing.T) {
			dir, r := results(t)
			signed := sign(t, dir, r, key)
			work := t.TempDir()
			pub := put(t, filepath.Join(work, "pub.pem"), key.Public.PEM())
			run(t, dir, "sha256sum", "-c", "--strict", build.SumsName)
			if name == "Ed25519" {
				mini := put(t, filepath.Join(work, "mini.pub"), "untrusted comment: release key\n"+signed.Minisign+"\n")
				run(t, dir, "minisign", "-V", "-H", "-p", mini, "-m", build.SumsName)
				run(t, dir, "signify-openbsd", "-V", "-p", mini, "-x", build.SignifyName, "-m", build.SumsName)
			}
			text, err := os.ReadFile(filepath.Join(dir, build.DetachedName))
			if err != nil {
				t.Fatal(err)
			}
			raw, err := base64.StdEncoding.DecodeString(string(text))
			if err != nil {
				t.Fatal(err)
			}
			sig := put(t, filepath.Join(work, "sig"), string(raw))
			if name == "Ed25519" {
				run(t, dir, "openssl", "pkeyutl", "-verify", "-pubin", "-inkey", pub, "-rawin", "-in", build.SumsName, "-sigfile", sig)
			} else {
				run(t, dir, "openssl", "dgst", "-sha256", "-verify", pub, "-signature", sig, build.SumsName)
			}
			put(t, filepath.Join(dir, "b.img"), "imagf")
			fails(t, dir, "sha256sum", "-c", "--strict", build.SumsName)
		})
	}
}

// TestCosign: cosign accepts the signature of the list, and the provenance of each result. It asks a
// server for keys that it does not need, and goes on without an answer.
func TestCosign(t *testing.T) {
	t.Parallel()
	oracle.Need(t, "cosign")
	for _, key := range keys(t) {
		dir, r := results(t)
		sign(t, dir, r, key)
		pub := put(t, filepath.Join(t.TempDir(), "pub.pem"), key.Public.PEM())
		blob := []string{"verify-blob", "--key", pub, "--signature", build.DetachedName, "--insecure-ignore-tlog=true", build.SumsName}
		attestation := func(file string) []string {
			return []string{"verify-blob-attestation", "--key", pub, "--signature", build.ProvenanceName, "--type", "slsaprovenance1", "--insecure-ignore-tlog=true", file}
		}
		run(t, dir, "cosign", blob...)
		run(t, dir, "cosign", attestation("b.img")...)
		run(t, dir, "cosign", attestation("tezi/x/y")...)
		fails(t, dir, "cosign", attestation("report.json")...)
		put(t, filepath.Join(dir, "b.img"), "imagf")
		fails(t, dir, "cosign", attestation("b.img")...)
		put(t, filepath.Join(dir, build.SumsName), sum1+"  b.img\n")
		fails(t, dir, "cosign", blob...)
	}
}

func TestStatement(t *testing.T) {
	t.Parallel()
	dir, r := results(t)
	sign(t, dir, r, keys(t)["RSA"])
	text, err := os.ReadFile(filepath.Join(dir, build.ProvenanceName))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(text), "\n") != 1 || !strings.HasSuffix(string(text), "\n") {
		t.Error("the envelope is not one line")
	}
	var e struct {
		PayloadType, Payload string
		Signatures           []struct{ KeyID *string }
	}
	if err := json.Unmarshal(text, &e); err != nil {
		t.Fatal(err)
	}
	if e.PayloadType != "application/vnd.in-toto+json" || len(e.Signatures) != 1 || e.Signatures[0].KeyID == nil || *e.Signatures[0].KeyID != "" {
		t.Errorf("%+v", e)
	}
	payload, err := base64.StdEncoding.DecodeString(e.Payload)
	if err != nil {
		t.Fatal(err)
	}
	recipe, err := recipeSum(r.Recipe)
	if err != nil {
		t.Fatal(err)
	}
	sum := func(name string) string {
		s, err := build.SumFile(t.Context(), filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	type object = map[string]any
	var got, want any
	wanted, err := json.Marshal(object{
		"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://slsa.dev/provenance/v1",
		"subject": []object{
			{"name": "b.img", "digest": object{"sha256": sum("b.img")}}, {"name": "a.pvr.tgz", "digest": object{"sha256": sum("a.pvr.tgz")}},
			{"name": "tezi/image.json", "digest": object{"sha256": sum("tezi/image.json")}}, {"name": "tezi/x/y", "digest": object{"sha256": sum("tezi/x/y")}},
		},
		"predicate": object{
			"buildDefinition": object{
				"buildType": BuildType,
				"externalParameters": object{
					"target": "board", "settings": object{"PV_VERSION": "1.0", "PVR_MERGE_SRC": "https://example.test/device"}, "files": object{"PV_PART_TPL": sum2, "PV_PART_DIR": ""},
				},
				"internalParameters": object{"go": "go1.26", "recipe_sha256": recipe},
				"resolvedDependencies": []object{
					{"name": "source", "uri": "git+https://example.test/x", "digest": object{"gitCommit": "0123"}},
					{"name": "libc++1", "uri": "pkg:deb/debian/libc%2B%2B1@1:2.3%2Bdfsg~a-1?arch=amd64&distro=bookworm", "digest": object{"sha256": sum1}},
					{"name": "PV_PART_TPL", "digest": object{"sha256": sum2}},
				},
			},
			"runDetails": object{"builder": object{"id": LocalBuilder}, "metadata": object{"invocationId": "42", "startedOn": "2026-01-02T03:04:00Z", "finishedOn": "2026-01-02T03:04:05Z"}},
		},
	})
	if err := errors.Join(err, json.Unmarshal(wanted, &want), json.Unmarshal(payload, &got)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, secret := range []string{"me:secret", "/home/me", "AUTOTOK"} {
		if strings.Contains(string(payload), secret) {
			t.Errorf("the statement has %s", secret)
		}
	}
}

// stamps returns the modification times of the files that sign.
func stamps(t *testing.T, dir string) map[string]time.Time {
	t.Helper()
	out := map[string]time.Time{}
	for _, name := range build.SignatureNames() {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil {
			out[name] = info.ModTime()
		}
	}
	return out
}

// TestSignedAgainWhenNeeded changes, one by one, what is signed, and what signs.
func TestSignedAgainWhenNeeded(t *testing.T) {
	t.Parallel()
	all := keys(t)
	dir, r := results(t)
	key := all["Ed25519"]
	if s := sign(t, dir, r, key); s.Kept || len(s.Files) != 5 {
		t.Errorf("%+v", s)
	}
	for _, c := range []struct {
		what   string
		change func()
		kept   bool
	}{
		{"nothing", func() {}, true},
		{"the time", func() { r.Finished, r.Wall = r.Finished.Add(time.Hour), 9 }, true},
		{"a setting", func() { r.Recipe.Settings["PV_VERSION"] = "1.1" }, false},
		{"a result", func() { r.Artefacts[0].SHA256 = sum2 }, false},
		{"a lost signature", func() { os.Remove(filepath.Join(dir, build.SignifyName)) }, false},
		{"a damaged signature", func() { put(t, filepath.Join(dir, build.DetachedName), "AAAA") }, false},
		{"a damaged list", func() { put(t, filepath.Join(dir, build.SumsName), "") }, false},
		{"another key", func() { key = all["ECDSA"] }, false},
		{"a signature that it cannot have made", func() { put(t, filepath.Join(dir, build.MinisignName), "") }, false},
		{"nothing again", func() {}, true},
	} {
		before := stamps(t, dir)
		c.change()
		s := sign(t, dir, r, key)
		if s.Kept != c.kept || c.kept != maps.Equal(before, stamps(t, dir)) {
			t.Errorf("%s: %+v", c.what, s)
		}
		if got := slices.Sorted(maps.Keys(stamps(t, dir))); len(got) != len(s.Files) {
			t.Errorf("%s: there are %v", c.what, got)
		}
	}
}

// TestSigningIsInterrupted: the digests of a directory that was not signed are still there, and
// signing it again mends it.
func TestSigningIsInterrupted(t *testing.T) {
	t.Parallel()
	key := keys(t)["Ed25519"]
	dir, r := results(t)
	files, err := Artefacts(t.Context(), dir, r.Artefacts)
	if err == nil {
		err = List(dir, files)
	}
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, build.SignifyName, "in the way"), "")
	s, err := NewStatement(r, files, Origin{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Sign(dir, key, files, s, "board 1.0"); err == nil {
		t.Fatal("a directory was replaced by a signature")
	}
	if err := os.RemoveAll(filepath.Join(dir, build.SignifyName)); err != nil {
		t.Fatal(err)
	}
	if got, err := Check(t.Context(), dir); err != nil || len(got) != 4 {
		t.Errorf("%v, %v", got, err)
	}
	sign(t, dir, r, key)
	if _, err := Verify(t.Context(), dir, "", key.Public); err != nil {
		t.Error(err)
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	all, others := keys(t), keys(t)
	for name, key := range all {
		dir, r := results(t)
		sign(t, dir, r, key)
		v, err := Verify(t.Context(), dir, "", key.Public)
		if err != nil || len(v.Files) != 4 || v.Provenance.Predicate.BuildDefinition.ExternalParameters.Target != "board" || v.CheckRecipe(r) != nil {
			t.Fatalf("%s: %+v, %v", name, v, err)
		}
		if want := map[string]int{"Ed25519": 4, "ECDSA": 2, "RSA": 2}[name]; len(v.Signatures) != want {
			t.Errorf("%s: %v", name, v.Signatures)
		}
		for _, other := range others {
			if _, err := Verify(t.Context(), dir, "", other.Public); err == nil || !strings.Contains(err.Error(), "is not signed by the "+other.Public.Algorithm()+" key") && fault.Of(err) != fault.Missing {
				t.Errorf("%s: another key: %v", name, err)
			}
		}
	}
	key := all["Ed25519"]
	for _, c := range []struct {
		what   string
		change func(dir string)
		file   string // "" is all of the directory
		kind   fault.Kind
		want   string
	}{
		{"one file", func(string) {}, "b.img", 0, ""},
		{"a file in a directory", func(string) {}, "tezi/x/y", 0, ""},
		{"another one was changed", func(dir string) { put(t, filepath.Join(dir, "a.pvr.tgz"), "x") }, "b.img", 0, ""},
		{"a changed file", func(dir string) { put(t, filepath.Join(dir, "b.img"), "imagf") }, "", fault.Digest, "b.img was changed after it was signed"},
		{"that file", func(dir string) { put(t, filepath.Join(dir, "b.img"), "imagf") }, "b.img", fault.Digest, "b.img was changed after it was signed"},
		{"a missing file", func(dir string) { os.Remove(filepath.Join(dir, "b.img")) }, "", fault.Missing, "b.img is signed, and is not there"},
		{"two of them", func(dir string) {
			os.Remove(filepath.Join(dir, "b.img"))
			os.Remove(filepath.Join(dir, "tezi/x/y"))
		}, "", fault.Missing, "b.img, tezi/x/y are signed, and are not there"},
		{"a directory in its place", func(dir string) {
			os.Remove(filepath.Join(dir, "b.img"))
			os.Mkdir(filepath.Join(dir, "b.img"), 0o755)
		}, "", fault.Missing, "b.img"},
		{"another file", func(dir string) { put(t, filepath.Join(dir, "more/c.img"), "") }, "", fault.Different, "more/c.img is there, and is not signed"},
		{"a name that a terminal would obey", func(dir string) { put(t, filepath.Join(dir, "\x1b[2J\nx"), "") }, "", fault.Different, `\x1b[2J\nx is there`},
		{"that file", func(dir string) { put(t, filepath.Join(dir, "c.img"), "") }, "c.img", fault.Different, "c.img in"},
		{"no list", func(dir string) { os.Remove(filepath.Join(dir, build.SumsName)) }, "", fault.Missing, "is not signed: it has no SHA256SUMS"},
		{"no provenance", func(dir string) { os.Remove(filepath.Join(dir, build.ProvenanceName)) }, "", fault.Missing, "has no provenance.intoto.jsonl"},
		{"no signature", func(dir string) {
			for _, name := range build.SignatureNames()[1:4] {
				os.Remove(filepath.Join(dir, name))
			}
		}, "", fault.Missing, "has no signature of SHA256SUMS"},
		{"a changed list", func(dir string) { put(t, filepath.Join(dir, build.SumsName), sum1+"  b.img\n") }, "", fault.Digest, "these signatures do not fit, and others do\nSHA256SUMS.sig: the signature does not fit\nSHA256SUMS.minisig: the signature does not fit\nSHA256SUMS.signify"},
		{"a changed signature", func(dir string) { put(t, filepath.Join(dir, build.DetachedName), "?") }, "", fault.Digest, "SHA256SUMS.sig: it is not a signature in Base64"},
		{"a changed provenance", func(dir string) { put(t, filepath.Join(dir, build.ProvenanceName), "{}") }, "", fault.Digest, "provenance.intoto.jsonl: it is a DSSE envelope of the type \"\""},
		{"the provenance of others", func(dir string) {
			text, err := envelope(key, &Statement{Type: StatementType, PredicateType: PredicateType, Subject: []Resource{{Name: "b.img", Digest: sha(sum1)}}})
			if err != nil {
				t.Fatal(err)
			}
			put(t, filepath.Join(dir, build.ProvenanceName), string(text))
		}, "", fault.Digest, "is about another b.img than SHA256SUMS signs"},
		{"a statement of another kind", func(dir string) {
			text, err := envelope(key, &Statement{Type: StatementType, PredicateType: "x"})
			if err != nil {
				t.Fatal(err)
			}
			put(t, filepath.Join(dir, build.ProvenanceName), string(text))
		}, "", fault.Digest, "want SLSA's provenance v1"},
	} {
		dir, r := results(t)
		sign(t, dir, r, key)
		c.change(dir)
		_, err := Verify(t.Context(), dir, c.file, key.Public)
		if fault.Of(err) != c.kind || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v (%v), want %q", c.what, err, fault.Of(err), c.want)
		}
	}
}

func TestRecipe(t *testing.T) {
	t.Parallel()
	dir, r := results(t)
	key := keys(t)["ECDSA"]
	sign(t, dir, r, key)
	v, err := Verify(t.Context(), dir, "", key.Public)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Save(dir); err != nil {
		t.Fatal(err)
	}
	back, err := build.LoadReport(filepath.Join(dir, build.ReportName))
	if err != nil || v.CheckRecipe(back) != nil {
		t.Errorf("the report that was saved: %v, %v", err, v.CheckRecipe(back))
	}
	back.Recipe.Settings["PV_VERSION"] = "2.0"
	if err := v.CheckRecipe(back); fault.Of(err) != fault.Digest || !strings.Contains(err.Error(), "is not the one that was signed") {
		t.Errorf("another recipe: %v", err)
	}
	if err := v.CheckRecipe(&build.Report{}); fault.Of(err) != fault.Missing {
		t.Errorf("no recipe: %v", err)
	}
}

func TestSums(t *testing.T) {
	t.Parallel()
	text, err := listSums([]File{{"b c", sum1}, {"a/x", sum2}})
	if err != nil || string(text) != sum2+"  a/x\n"+sum1+"  b c\n" {
		t.Errorf("%q, %v", text, err)
	}
	files, err := parseSums(text)
	if diff := cmp.Diff([]File{{"a/x", sum2}, {"b c", sum1}}, files); err != nil || diff != "" {
		t.Error(diff, err)
	}
	for _, name := range []string{"../x", "/x", "", ".", "a\nb", `a\b`, "x\x7f"} {
		if _, err := listSums([]File{{name, sum1}}); err == nil {
			t.Errorf("%q is listed", name)
		}
		if _, err := parseSums([]byte(sum1 + "  " + name + "\n")); err == nil {
			t.Errorf("%q is read", name)
		}
	}
	if _, err := listSums([]File{{"x", sum1}, {"x", sum2}}); err == nil {
		t.Error("one name is listed twice")
	}
	for _, text := range []string{"", "x\n", strings.ToUpper("a"+sum1[1:]) + "  x\n", sum1 + " *x\n", sum1[1:] + "  x\n", sum1 + "  x\n" + sum1 + "  x\n", "\n" + sum1 + "  x\n"} {
		if _, err := parseSums([]byte(text)); err == nil {
			t.Errorf("%q is read", text)
		}
	}
}

func FuzzSums(f *testing.F) {
	f.Add(sum1 + "  a\n" + sum2 + "  b c/d\n")
	f.Fuzz(func(t *testing.T, text string) {
		files, err := parseSums([]byte(text))
		if err != nil {
			return
		}
		again, err := listSums(files)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := parseSums(again); err != nil || len(back) != len(files) {
			t.Errorf("%q: %v", again, err)
		}
	})
}

// TestCallsOfPrograms: a token is asked as often as the documentation says, and not at all when
// nothing has changed.
func TestCallsOfPrograms(t *testing.T) {
	t.Parallel()
	oracle.Need(t, "openssl")
	for name, want := range map[string]int{"ECDSA": 2, "Ed25519": 5} {
		dir, r := results(t)
		work := t.TempDir()
		line := "echo >> " + work + "/calls; openssl pkeyutl -sign -inkey " + work + "/key"
		run(t, work, "openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "key")
		if name == "Ed25519" {
			line = "cat > " + work + "/text; " + line + " -rawin -in " + work + "/text"
			run(t, work, "openssl", "genpkey", "-algorithm", "ed25519", "-out", "key")
		}
		run(t, work, "openssl", "pkey", "-in", "key", "-pubout", "-out", "pub")
		public, err := signing.LoadPublic(filepath.Join(work, "pub"))
		if err != nil {
			t.Fatal(err)
		}
		key, err := signing.Command(t.Context(), signing.Program{Line: line, Public: public})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			sign(t, dir, r, key)
			if calls, err := os.ReadFile(filepath.Join(work, "calls")); err != nil || len(calls) != want {
				t.Errorf("%s: %d calls, %v", name, len(calls), err)
			}
		}
	}
}

func TestUnsignable(t *testing.T) {
	t.Parallel()
	dir, r := results(t)
	if err := os.Symlink("y", filepath.Join(dir, "tezi", "x", "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := Artefacts(t.Context(), dir, r.Artefacts); fault.Of(err) != fault.Unsupported || !strings.Contains(err.Error(), "x/link is neither") {
		t.Errorf("%v", err)
	}
}

// TestDocumented: who reads a provenance finds what its parameters mean.
func TestDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/release.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range append(build.SignatureNames(), StatementType, PredicateType, BuildType, LocalBuilder) {
		if !strings.Contains(string(text), want) {
			t.Errorf("docs/release.md does not have %s", want)
		}
	}
}
