package workspace

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/build/options"
	"github.com/pantavisor/pantavisor/ci/releases"
	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

// releases runs Release and returns what it prints.
func releaseDirs(t *testing.T, w *Workspace, s Signing, version string, names ...string) ([]Released, error) {
	t.Helper()
	var out bytes.Buffer
	w.JSON, w.Stdout, w.Signing, w.OutDir = true, &out, s, ""
	err := w.Release(t.Context(), names, version)
	var all []Released
	if err == nil {
		if err := json.Unmarshal(out.Bytes(), &all); err != nil {
			t.Fatalf("%v: %s", err, out.String())
		}
	}
	return all, err
}

// below lists the files of a directory.
func entries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range list {
		out = append(out, e.Name())
	}
	return out
}

func TestRelease(t *testing.T) {
	t.Setenv("PV_CACHE_DIR", t.TempDir())
	keys := t.TempDir()
	w := At(t.TempDir(), &options.Options{Epoch: build.Epoch})
	var said bytes.Buffer
	w.Stderr = &said
	define(t, w, "plain", plain)
	define(t, w, "other", plain)
	key, public := pairOfKeys(t, keys, "key", true)
	other, _ := pairOfKeys(t, keys, "other", false)

	all, err := releaseDirs(t, w, Signing{}, "1.0", "plain")
	if err != nil || len(all) != 1 || all[0].Signed != nil || all[0].Kept {
		t.Fatalf("%+v, %v\n%s", all, err, said.String())
	}
	if !strings.Contains(said.String(), "the release is not signed") {
		t.Errorf("%s", said.String())
	}
	dir := all[0].Directory
	if want := filepath.Join(w.Root, "out/release/plain-1.0"); dir != want {
		t.Errorf("%s, want %s", dir, want)
	}
	want := []string{"SHA256SUMS", "index.json", "plain.tgz", "report.json", "report.txt", "sbom.json"}
	if got := entries(t, dir); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	program(t, dir, "sha256sum", "-c", "--strict", "SHA256SUMS")
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	var index releases.Index
	text, err := os.ReadFile(filepath.Join(dir, releases.IndexName))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &index); err != nil || index.Format != "pantavisor-release@1" || index.Target != "plain" || index.Version != "1.0" || index.Board.Arch != "amd64" {
		t.Errorf("%+v, %v", index, err)
	}
	sum, err := build.SumFile(t.Context(), filepath.Join(dir, "plain.tgz"))
	if f := index.Files; err != nil || len(f) != 2 || f[1].Kind != "sbom" || f[0].Name != "plain.tgz" || f[0].Kind != "package" || f[0].SHA256 != sum || f[0].Bytes == 0 {
		t.Errorf("%+v, %v", f, err)
	}

	// The same again changes nothing; with a key it is signed, and then signed already.
	before, err := os.Stat(filepath.Join(dir, "plain.tgz"))
	if err != nil {
		t.Fatal(err)
	}
	if all, err = releaseDirs(t, w, Signing{}, "1.0", "plain"); err != nil || !all[0].Kept {
		t.Fatalf("%+v, %v", all, err)
	}
	if all, err = releaseDirs(t, w, Signing{Key: key}, "1.0", "plain"); err != nil || !all[0].Kept || all[0].Signed == nil {
		t.Fatalf("%+v, %v", all, err)
	}
	if all, err = releaseDirs(t, w, Signing{Key: key}, "1.0", "plain"); err != nil || !all[0].Kept || all[0].Signed == nil || !all[0].Signed.Kept || len(all[0].Signed.Files) != 5 {
		t.Fatalf("%+v, %v", all, err)
	}
	if after, err := os.Stat(filepath.Join(dir, "plain.tgz")); err != nil || !os.SameFile(before, after) || !before.ModTime().Equal(after.ModTime()) {
		t.Errorf("the release was made again: %v", err)
	}
	v, err := verifies(t, w, dir, public)
	if err != nil || len(v.Files) != 5 {
		t.Errorf("%+v, %v", v, err)
	}
	if got := v.Provenance.Subject; len(got) != 2 || got[0].Name != "plain.tgz" {
		t.Errorf("the provenance is about %v", got)
	}
	if v, err := verifies(t, w, filepath.Join(dir, "plain.tgz"), public); err != nil || len(v.Files) != 1 {
		t.Errorf("%+v, %v", v, err)
	}
	w.JSON = true
	if v, err := verified(t, w, VerifyOptions{Image: filepath.Join(dir, "plain.tgz"), Key: public}); err != nil || !v.Same || v.Signed == nil {
		t.Errorf("built again from the record of the release: %+v, %v", v, err)
	}
	if _, err := releaseDirs(t, w, Signing{Key: other}, "1.0", "plain"); fault.Of(err) != fault.Digest || !strings.Contains(err.Error(), "is not signed by the") {
		t.Errorf("another key: %v", err)
	}
	// A result that was changed there, a file that is not its own.
	if err := os.WriteFile(filepath.Join(dir, "more"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := releaseDirs(t, w, Signing{}, "1.0", "plain"); fault.Of(err) != fault.Different || !strings.Contains(err.Error(), "more is there, and is not signed") {
		t.Errorf("%v", err)
	}
	// Two at once, of another version, with what a killed process has left.
	left := filepath.Join(w.Root, "out/release/.plain-1.1.tmp-123")
	if err := os.MkdirAll(left, 0o755); err != nil {
		t.Fatal(err)
	}
	all, err = releaseDirs(t, w, Signing{Key: key}, "1.1", "plain", "other")
	if err != nil || len(all) != 2 || all[0].Signed == nil || all[1].Target != "other" {
		t.Fatalf("%+v, %v", all, err)
	}
	if got := entries(t, filepath.Join(w.Root, "out/release")); !slices.Equal(got, []string{".lock", "other-1.1", "plain-1.0", "plain-1.1"}) {
		t.Errorf("%v", got)
	}
	if _, err := verifies(t, w, all[1].Directory, public); err != nil {
		t.Error(err)
	}
	// Other results under the same version.
	w.Options.Epoch++
	if _, err := releaseDirs(t, w, Signing{}, "1.1", "plain"); fault.Of(err) != fault.Different || !strings.Contains(err.Error(), "a version is released once") {
		t.Errorf("%v", err)
	}
	if err := os.Mkdir(filepath.Join(w.Root, "out/release/plain-1.2"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := releaseDirs(t, w, Signing{}, "1.2", "plain"); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "is not a release") {
		t.Errorf("%v", err)
	}
	// Signing that fails leaves nothing.
	if _, err := releaseDirs(t, w, Signing{Command: "exit 9", Public: public}, "1.3", "plain"); err == nil {
		t.Error("a program that fails signs")
	}
	if got := entries(t, filepath.Join(w.Root, "out/release")); slices.ContainsFunc(got, func(n string) bool { return strings.Contains(n, "1.3") }) {
		t.Errorf("half a release is left: %v", got)
	}
}

// certificate writes a certificate with a name, of a key of Ed25519 or of RSA with so many bits.
func certificate(t *testing.T, name string, bits int) string {
	t.Helper()
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	var key any = edwards
	var public any = edwards.Public()
	if bits > 0 {
		k, wrong := rsa.GenerateKey(rand.Reader, bits)
		key, public, err = k, k.Public(), errors.Join(err, wrong)
	}
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, public, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "c.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestNotReleased: all that must be mended is told at once, before anything is built.
func TestNotReleased(t *testing.T) {
	w, _ := empty(t)
	define(t, w, "plain", plain)
	define(t, w, "shell", plain+"debug: true\n")
	define(t, w, "open", strings.Replace(plain, "platform: appengine", "platform: open", 1))
	config := filepath.Join(w.Root, "config/open/pantavisor.config")
	err := errors.Join(os.MkdirAll(filepath.Dir(config), 0o755), os.WriteFile(config, []byte("PV_DEBUG_SHELL=1\nPV_DEBUG_SSH=1\n"), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	w.Options.MergeSource = ""
	w.Options.Certificate = certificate(t, "pv-developer-01", 0)
	_, err = releaseDirs(t, w, Signing{}, "", "plain", "shell", "open", "plain")
	for _, want := range []string{
		"there is no version: --version=V or PV_VERSION",
		"shell: debug: true in its target.yaml",
		"open: PV_DEBUG_SHELL is on, in config/open/pantavisor.config",
		"open: PV_DEBUG_SSH is on",
		`plain: the image trusts "pv-developer-01" of ` + w.Options.Certificate + ", whose private key is published: make keys of your own",
		"plain is named twice",
	} {
		if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "plain: PV_DEBUG") || strings.Contains(err.Error(), "shell: PV_DEBUG") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(filepath.Join(w.Root, "out")); err == nil {
		t.Error("something was built")
	}
	w.Options.Debug, w.Options.MergeSource, w.Options.Certificate = true, "https://me:secret@example.test/d", ""
	wrong := strings.Join(w.settingsOfReleases(), "\n")
	if !strings.Contains(wrong, "PANTAVISOR_DEBUG=yes") || !strings.Contains(wrong, "PVR_MERGE_SRC has a user or password") {
		t.Errorf("%s", wrong)
	}
	if _, err := releaseDirs(t, w, Signing{}, "a b", "plain"); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "--version") {
		t.Errorf("%v", err)
	}
	if _, err := releaseDirs(t, w, Signing{Key: "none"}, "1", "plain"); fault.Of(err) != fault.Missing {
		t.Errorf("%v", err)
	}
}

func TestThrowawayKeys(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]bool{"Pantavisor Dev CA": true, "pv-developer-02": true, "DO NOT TRUST - Test PK": true, "snakeoil": true, "Acme Test Systems CA": false, "Pantavisor Dev CA of Acme": false} {
		if got := throwaway("ca-certificates.crt", certificate(t, name, 0)); (len(got) > 0) != bad {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got := throwaway("ca-certificates.crt", certificate(t, "Acme", 1024)); len(got) != 1 || !strings.Contains(got[0], "an RSA key of 1024 bits") {
		t.Errorf("%v", got)
	}
	if got := throwaway("ca-certificates.crt", filepath.Join(t.TempDir(), "none")); len(got) != 1 {
		t.Errorf("%v", got)
	}
}

// TestShells looks for the settings of a debug shell in each place that may have them.
func TestShells(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		conf, policy string
		words        []string
		want         string
	}{
		{"", "", nil, ""},
		{"PV_DEBUG_SHELL=0\n", "", nil, ""},
		{"PV_DEBUG_SHELL=1\n", "", nil, "PV_DEBUG_SHELL is on, in pantavisor.config"},
		{"PV_DEBUG_SHELL_AUTOLOGIN=1\n", "", nil, "PV_DEBUG_SHELL_AUTOLOGIN is on, in pantavisor.config"},
		{"debug.shell=1\n", "", nil, "PV_DEBUG_SHELL is on"},
		{"PV_DEBUG_SHELL=1\nPV_POLICY=p\n", "PV_DEBUG_SHELL=0\n", nil, ""},
		{"PV_POLICY=p\n", "PV_DEBUG_SHELL=1\n", nil, "PV_DEBUG_SHELL is on, in defaults/policies/p.config"},
		{"PV_POLICY=q\n", "PV_DEBUG_SHELL=1\n", nil, ""},
		{"", "", []string{"quiet", "PV_DEBUG_SHELL=1"}, "PV_DEBUG_SHELL is on, in kernel.arguments"},
		{"", "", []string{"pv_debug"}, ""}, // the file goes before it
	} {
		dir := t.TempDir()
		conf := filepath.Join(dir, "pantavisor.config")
		err := errors.Join(os.Mkdir(filepath.Join(dir, "policies"), 0o755), os.WriteFile(conf, []byte(c.conf), 0o644),
			os.WriteFile(filepath.Join(dir, "policies/p.config"), []byte(c.policy), 0o644))
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(shells(&targets.Target{Kernel: &targets.Kernel{Arguments: c.words}}, images.Config{
			Runtime: build.Source{Name: "pantavisor.config", Path: conf}, Defaults: build.Source{Name: "defaults", Path: dir},
			Derived: []images.Setting{{Key: "PV_DEBUG_SHELL", Value: "0"}, {Key: "PV_DEBUG_SSH", Value: "0"}},
		}), "\n")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
