package debian

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

// repository is an archive on disk, in Debian's layout.
type repository struct {
	t   *testing.T
	dir string
}

func newRepository(t *testing.T) *repository {
	t.Helper()
	oracle.Need(t, aptGet, "dpkg-deb")
	return &repository{t, t.TempDir()}
}

func (r *repository) write(name, text string) {
	r.t.Helper()
	file := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// pack builds a package and returns its paragraph for the index.
func (r *repository) pack(name, version, depends string) string {
	r.t.Helper()
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\nMaintainer: M <m@example.com>\nDescription: d\n", name, version)
	if depends != "" {
		control += "Depends: " + depends + "\n"
	}
	tree := r.t.TempDir()
	if err := os.MkdirAll(filepath.Join(tree, "DEBIAN"), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tree, "DEBIAN/control"), []byte(control), 0o644); err != nil {
		r.t.Fatal(err)
	}
	pool := fmt.Sprintf("pool/main/%s_%s_amd64.deb", name, version)
	r.write(pool, "")
	if out, err := exec.Command("dpkg-deb", "-b", tree, filepath.Join(r.dir, pool)).CombinedOutput(); err != nil {
		r.t.Fatalf("%v: %s", err, out)
	}
	data, err := os.ReadFile(filepath.Join(r.dir, pool))
	if err != nil {
		r.t.Fatal(err)
	}
	return control + fmt.Sprintf("Filename: %s\nSize: %d\nSHA256: %x\n\n", pool, len(data), sha256.Sum256(data))
}

// publish writes the index of a suite. With broken, its Release file belongs to another
// index, as on a mirror in the middle of an update.
func (r *repository) publish(suite string, broken bool, paragraphs ...string) {
	r.t.Helper()
	index := strings.Join(paragraphs, "")
	r.write("dists/"+suite+"/main/binary-amd64/Packages", index)
	if broken {
		index += "\n"
	}
	r.write("dists/"+suite+"/Release", fmt.Sprintf("Origin: T\nSuite: %s\nCodename: %s\nArchitectures: amd64\nComponents: main\n"+
		"Date: %s\nSHA256:\n %x %d main/binary-amd64/Packages\n", suite, suite, time.Now().UTC().Format(time.RFC1123), sha256.Sum256([]byte(index)), len(index)))
}

// apt returns an Apt for a machine that has this repository as its mirror.
func (r *repository) apt(warn func(string)) *Apt {
	r.t.Helper()
	config := r.t.TempDir()
	text := fmt.Sprintf("# a comment\nTypes: deb\nURIs: copy:%s\nSuites: bookworm\nComponents: main\nTrusted: yes\n", r.dir)
	if err := os.MkdirAll(filepath.Join(config, "sources.list.d"), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(config, "sources.list.d/m.sources"), []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
	return &Apt{Dir: r.t.TempDir(), Config: config, Warn: warn, Tries: 2, Pause: time.Millisecond}
}

func names(entries []Entry) []string {
	var out []string
	for _, e := range entries {
		out = append(out, e.Package+" "+e.Version)
	}
	return out
}

// fill publishes two versions of a kernel and a program with libraries.
func (r *repository) fill() {
	r.t.Helper()
	r.publish("bookworm", false,
		r.pack("linux-image-amd64", "6.1.1", "linux-image-6.1.0-1-amd64 (= 6.1.1)"), r.pack("linux-image-6.1.0-1-amd64", "6.1.1", "kmod"),
		r.pack("e2fsprogs", "1.47", "libc6 (>= 2), libext2"), r.pack("libext2", "1", "libc6"), r.pack("libc6", "2.36", ""))
	r.publish("bookworm-updates", false,
		r.pack("linux-image-amd64", "6.1.2", "linux-image-6.1.0-2-amd64 (= 6.1.2)"), r.pack("linux-image-6.1.0-2-amd64", "6.1.2", "kmod"))
}

func TestAptResolves(t *testing.T) {
	r := newRepository(t)
	r.fill()
	a := r.apt(nil)
	before := dpkgState(t)
	kernel, err := a.Resolve(t.Context(), kernelReq)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"linux-image-6.1.0-2-amd64 6.1.2"}, names(kernel)); diff != "" {
		t.Errorf("the meta package (-want +got):\n%s", diff)
	}
	tools, err := a.Resolve(t.Context(), toolReq)
	if err != nil {
		t.Fatal(err)
	}
	l := &Lock{}
	l.replace(toolReq, tools)
	if diff := cmp.Diff([]string{"e2fsprogs 1.47", "libc6 2.36", "libext2 1"}, names(l.Packages)); diff != "" {
		t.Errorf("closure (-want +got):\n%s", diff)
	}
	store := &Store{Dir: t.TempDir(), Archive: a}
	for _, e := range append(kernel, tools...) {
		if _, err := store.Get(t.Context(), e); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff(before, dpkgState(t)); diff != "" {
		t.Errorf("the machine's package state was touched:\n%s", diff)
	}
}

// dpkgState returns when the machine's package state and lists were last written.
func dpkgState(t *testing.T) map[string]time.Time {
	t.Helper()
	out := map[string]time.Time{}
	for _, file := range []string{"/var/lib/dpkg/status", "/var/lib/apt/lists", "/var/lib/apt/extended_states"} {
		if info, err := os.Stat(file); err == nil {
			out[file] = info.ModTime()
		}
	}
	return out
}

// TestUnknownSuite takes what apt says of one (a repository of local files has no such error).
func TestUnknownSuite(t *testing.T) {
	t.Parallel()
	said := errors.New("running apt-get -q: exit status 100: E: The repository 'http://archive.example/debian bokworm Release' does not have a Release file.")
	for suite, want := range map[string]bool{"bokworm": true, "worm": false, "bookworm": false} {
		if got := noSuite(said, suite); got != want {
			t.Errorf("%s: %v", suite, got)
		}
	}
	for suite, want := range map[string]string{"bokworm": `no suite "bokworm"; did you mean bookworm?`, "something-else": `no suite "something-else"`} {
		if err := (&UnknownSuiteError{Suite: suite}).Error(); !strings.HasSuffix(err, want) {
			t.Errorf("%s: %s, want %s", suite, err, want)
		}
	}
}

// TestBrokenIndexDoesNotStopOthers publishes -updates with a wrong Release file.
func TestBrokenIndexDoesNotStopOthers(t *testing.T) {
	r := newRepository(t)
	r.fill()
	r.publish("bookworm-updates", true, "Package: x\n")
	var warned []string
	got, err := r.apt(func(s string) { warned = append(warned, s) }).Resolve(t.Context(), kernelReq)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"linux-image-6.1.0-1-amd64 6.1.1"}, names(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(warned) != 1 || !strings.Contains(warned[0], "bookworm-amd64") {
		t.Errorf("warnings %q", warned)
	}
}

func TestAptFaults(t *testing.T) {
	r := newRepository(t)
	r.fill()
	a := r.apt(nil)
	missing := kernelReq
	missing.Packages = []string{"e2fsprogs", "linux-image-none", "none"}
	_, err := a.Resolve(t.Context(), missing)
	if want := "suite bookworm has no packages linux-image-none, none for amd64"; fault.Of(err) != fault.Missing || err.Error() != want {
		t.Errorf("unknown packages: %v, want %s", err, want)
	}
	gone := entry("gone", "1", "a")
	if err := a.Download(t.Context(), gone, filepath.Join(t.TempDir(), "x")); fault.Of(err) != fault.Missing {
		t.Errorf("a file that left the archive: %v", err)
	}
	found, err := a.Resolve(t.Context(), kernelReq)
	if err != nil {
		t.Fatal(err)
	}
	found[0].SHA256 = strings.Repeat("0", 64)
	if err := a.Download(t.Context(), found[0], filepath.Join(t.TempDir(), "x")); fault.Of(err) != fault.Digest {
		t.Errorf("other content than pinned: %v", err)
	}
	bad := kernelReq
	bad.Suite = "-o"
	if _, err := a.Resolve(t.Context(), bad); fault.Of(err) != fault.BadInput {
		t.Errorf("option as suite: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.apt(nil).Resolve(ctx, kernelReq); fault.Of(err) != fault.Cancelled {
		t.Errorf("cancelled: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(r.dir, "dists")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.apt(nil).Resolve(t.Context(), kernelReq); err == nil {
		t.Error("an archive without an index resolves")
	}
}

func TestWithoutApt(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := (&Apt{Dir: t.TempDir()}).Resolve(t.Context(), kernelReq)
	if fault.Of(err) != fault.Missing || !strings.Contains(err.Error(), "apt-get") {
		t.Errorf("no apt-get: %v", err)
	}
}

func TestSources(t *testing.T) {
	list := "deb [arch=amd64 signed-by=/k/debian-archive-keyring.gpg] http://m/debian bookworm main # c\n" +
		"deb http://third/party bookworm main\ndeb-src http://m/debian bookworm main\n#deb http://off/debian trixie main\ndeb http://p bookworm-pgdg main\n"
	stanza := "Types: deb deb-src\nURIs: http://m/debian-security\nSuites: bookworm-security\nComponents: main\nSigned-By:\n -----BEGIN\n .\n x\n\n" +
		"Enabled: no\nTypes: deb\nURIs: http://n/debian-security\nSuites: bookworm-security\nComponents: main\nSigned-By: /k/debian-archive.gpg\n"
	m, err := findMirrors(append(parseList(list), parseStanzas(stanza)...))
	if err != nil {
		t.Fatal(err)
	}
	want := "Types: deb\nURIs: http://m/debian\nSuites: trixie\nComponents: main contrib non-free non-free-firmware\nArchitectures: arm64\n" +
		"Signed-By: /k/debian-archive-keyring.gpg\n\n"
	got := m.text("trixie", "arm64")
	if !strings.HasPrefix(got, want) {
		t.Errorf("main archive:\n%s", got)
	}
	if !strings.Contains(got, "Suites: trixie-security\n") || !strings.Contains(got, "Signed-By: \n -----BEGIN\n .\n x\n") {
		t.Errorf("security archive with its embedded key:\n%s", got)
	}
	if diff := cmp.Diff([]string{"http://m/debian-security"}, m.bases("pool/updates/main/x.deb")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"http://m/debian"}, m.bases("pool/main/x.deb")); diff != "" {
		t.Error(diff)
	}
	if _, err := findMirrors(parseList("deb http://x/y nodistro main\n")); fault.Of(err) != fault.Missing {
		t.Errorf("a machine without Debian's archive: %v", err)
	}
}

func TestComplaints(t *testing.T) {
	for says, want := range map[string]fault.Kind{
		"E: Failed to fetch http://m/x  404  Not Found":                                  fault.Missing,
		"E: Failed to fetch http://m/x  Could not connect to m:80":                       fault.Unreachable,
		"E: Failed to fetch http://m/x  File has unexpected size (1 != 2). Mirror sync?": fault.Digest,
		"E: You don't have enough free space in /x":                                      fault.NoSpace,
		"E: Unable to locate package x":                                                  fault.Missing,
		"E: something else":                                                              fault.IO,
	} {
		if got := kindOf(complaint("N: note\n" + says + "\n")); got != want {
			t.Errorf("%q is %v, want %v", says, got, want)
		}
	}
}
