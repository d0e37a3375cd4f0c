package vulns

import (
	"archive/zip"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/sbom"
)

// put writes files below a new directory.
func put(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, ".zip") {
			zipped(t, file, map[string]string{"x.json": text, "README": "no record"})
			continue
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func zipped(t *testing.T, file string, entries map[string]string) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(f)
	for name, text := range entries {
		w, err := z.Create(name)
		if err == nil {
			_, err = w.Write([]byte(text))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// kernelPackage is Debian's, with its modules.
var kernelPackage = sbom.Package{
	Name: "linux-image-6.1.0-40-arm64", Version: "6.1.153-1", SourceName: "linux-signed-arm64", SourceVersion: "6.1.153+1",
	PURL: "pkg:deb/debian/linux-image-6.1.0-40-arm64@6.1.153-1?arch=arm64&distro=bookworm", CPE: "cpe:2.3:o:linux:linux_kernel:6.1.153:*:*:*:*:*:*:*",
	Paths: []string{"kernel/drivers/net/virtio_net.ko.xz", "kernel/fs/ext4/ext4.ko", "kernel/arch/arm64/crypto/aes-ce-blk.ko", "kernel/drivers/net/usb/cdc-phonet.ko"},
}

// bill makes a bill of materials about packages.
func bill(name string, packages ...sbom.Package) *sbom.Document {
	d := &sbom.Document{Name: name}
	root := d.AddPackage(sbom.Package{Name: name, Purpose: sbom.Container})
	d.Roots = []string{root}
	for _, p := range packages {
		d.AddPackage(p)
	}
	d.Seal()
	return d
}

// system is a revision with a BSP and a container.
func system() []Part {
	deb := func(name, version, source string) sbom.Package {
		return sbom.Package{Name: name, Version: version, SourceName: source, PURL: "pkg:deb/debian/" + name + "@" + version + "?arch=arm64&distro=bookworm"}
	}
	return []Part{
		{Name: "image", Document: bill("board")},
		{Name: "bsp", Document: bill("bsp of board", kernelPackage, sbom.Package{Name: "golang.org/x/net", Version: "v0.17.0", PURL: "pkg:golang/golang.org/x/net@v0.17.0"})},
		{Name: "web", Document: bill(
			"web", deb("libssl3", "3.0.11-1~deb12u2", "openssl"), deb("curl", "7.88.1-10+deb12u5", ""),
			sbom.Package{Name: "Django", Version: "4.2.1", PURL: "pkg:pypi/django@4.2.1"},
			sbom.Package{Name: "log4j", Version: "2.14", PURL: "pkg:maven/org.apache/log4j@2.14"},
			sbom.Package{Name: "own", Version: "1", Purpose: sbom.Application},
		)},
	}
}

const trackerText = `{
"openssl": {
 "CVE-2024-0001": {"description": "x", "scope": "remote", "releases": {"bookworm": {"status": "resolved", "repositories": {"bookworm": "3.0.15"}, "fixed_version": "3.0.15-1~deb12u1", "urgency": "high**"}, "trixie": {"status": "open", "urgency": "low"}}},
 "CVE-2023-0002": {"releases": {"bookworm": {"status": "resolved", "fixed_version": "3.0.9-1", "urgency": "not yet assigned"}}},
 "CVE-2024-0003": {"releases": {"bookworm": {"status": "open", "urgency": "unimportant", "nodsa_reason": "ignored"}}},
 "CVE-2024-0004": {"releases": {"bookworm": {"status": "resolved", "fixed_version": "0"}}},
 "TEMP-0000005-ABCDEF": {"releases": {"bookworm": {"status": "undetermined"}}},
 "CVE-2024-0006": {"releases": {"trixie": {"status": "open"}}}
},
"other": {"CVE-2024-9999": {"releases": {"bookworm": {"status": "open"}}}},
"curl": {"CVE-2024-0007": {"releases": {"bookworm": {"status": "resolved", "fixed_version": "7.88.1-10+deb12u14"}}}},
"linux": {
 "CVE-2024-1001": {"releases": {"bookworm": {"status": "open", "urgency": "medium"}}},
 "CVE-2024-1002": {"releases": {"bookworm": {"status": "open"}}},
 "CVE-2024-1003": {"releases": {"bookworm": {"status": "resolved", "fixed_version": "6.1.155-1"}}},
 "CVE-2024-1004": {"releases": {"bookworm": {"status": "open"}}},
 "CVE-2024-1005": {"releases": {"bookworm": {"status": "resolved", "fixed_version": "6.1.100-1"}}}
}}`

// cveText is a record of the kernel.
func cveText(id, file string) string {
	return `{"dataType":"CVE_RECORD","dataVersion":"5.1","cveMetadata":{"cveId":"` + id + `","state":"PUBLISHED","dateUpdated":"2026-05-04T03:02:01.123Z"},
	"containers":{"cna":{"affected":[
	 {"product":"Linux","vendor":"Linux","defaultStatus":"unaffected","programFiles":["` + file + `"],"versions":[{"version":"1da177e4","lessThan":"abcdef","status":"affected","versionType":"git"}]},
	 {"product":"Linux","vendor":"Linux","defaultStatus":"affected","programFiles":["` + file + `"],"versions":[
	  {"version":"4.14","status":"affected"},{"version":"0","lessThan":"4.14","status":"unaffected","versionType":"semver"},
	  {"version":"6.1.155","lessThanOrEqual":"6.1.*","status":"unaffected","versionType":"semver"},
	  {"version":"6.12.9","lessThanOrEqual":"6.12.*","status":"unaffected","versionType":"semver"},
	  {"version":"6.13","lessThanOrEqual":"*","status":"unaffected","versionType":"original_commit_for_fix"}]}]}}}`
}

const (
	goText = `{"schema_version":"1.7","id":"GO-2023-2102","modified":"2026-01-02T03:04:05Z","aliases":["CVE-2023-39325","GHSA-4374-p667-p6c8"],
	 "affected":[{"package":{"ecosystem":"Go","name":"golang.org/x/net"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"fixed":"0.18.0"}]}],
	 "ecosystem_specific":{"imports":[{"path":"golang.org/x/net/http2"}]}}]}`
	djangoText = `[{"id":"PYSEC-1","modified":"2026-01-02T03:04:05Z","affected":[{"package":{"ecosystem":"PyPI","name":"Django"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"4.2"},{"fixed":"4.2.7"}]}]}],
	 "severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}]},
	 {"id":"PYSEC-2","modified":"2026-01-02T03:04:05Z","withdrawn":"2026-01-02T03:04:05Z","affected":[{"package":{"ecosystem":"PyPI","name":"django"},"versions":["4.2.1"]}]},
	 {"id":"PYSEC-3","modified":"2026-01-02T03:04:05Z","affected":[{"package":{"ecosystem":"PyPI","name":"django"},"ranges":[{"type":"GIT","events":[{"introduced":"0"}]}]}]}]`
	mavenText = `{"id":"GHSA-x","modified":"2026-01-02T03:04:05Z","affected":[{"package":{"ecosystem":"Maven","name":"org.apache:log4j"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"2.0"},{"fixed":"2.15"}]}]}],"database_specific":{"severity":"CRITICAL"}}`
)

// scanned loads data into a scan of the system.
func scanned(t *testing.T, files map[string]string) *Scan {
	t.Helper()
	s := New(system()...)
	if err := s.Load(t.Context(), put(t, files)); err != nil {
		t.Fatal(err)
	}
	return s
}

// short is a report as lines: state, part, vulnerability, package, fixed version, severity.
func short(r *Report) []string {
	var out []string
	for _, f := range r.Findings {
		out = append(out, strings.TrimSpace(strings.Join([]string{string(f.State), f.Part, f.Vulnerability, f.Package, f.FixedIn, f.Severity}, " ")))
	}
	return out
}

func TestScan(t *testing.T) {
	t.Parallel()
	s := scanned(t, map[string]string{
		"tracker.json": trackerText, "go.json": goText, "PyPI/all.json": djangoText, "Maven/all.zip": mavenText,
		"cve/CVE-2024-1001.json": cveText("CVE-2024-1001", "drivers/net/virtio_net.c"),
		"cve/CVE-2024-1002.json": cveText("CVE-2024-1002", "arch/powerpc/kernel/setup.c"),
		"cve/CVE-2024-1003.json": cveText("CVE-2024-1003", "drivers/gpu/drm/foo/bar.c"),
		"cve/CVE-2024-1005.json": cveText("CVE-2024-1005", "fs/ext4/inode.c"),
		"cve/CVE-2024-1006.json": cveText("CVE-2024-1006", "fs/ext4/inode.c"),
		"cve/other.json":         `{"dataType":"CVE_RECORD","cveMetadata":{"cveId":"CVE-2024-5"},"containers":{"cna":{"affected":[{"vendor":"Other","product":"Other"}]}}}`,
		"index.json":             `[{"path":"x"}]`,
	})
	r := s.Report(false)
	want := []string{
		"affected bsp CVE-2023-39325 golang.org/x/net 0.18.0",
		"affected bsp CVE-2024-1001 linux-image-6.1.0-40-arm64  medium",
		"affected bsp CVE-2024-1006 linux-image-6.1.0-40-arm64 6.1.155",
		"unknown bsp CVE-2024-1003 linux-image-6.1.0-40-arm64 6.1.155-1",
		"unknown bsp CVE-2024-1004 linux-image-6.1.0-40-arm64",
		"not_affected bsp CVE-2024-1002 linux-image-6.1.0-40-arm64",
		"affected web PYSEC-1 Django 4.2.7 critical",
		"affected web CVE-2024-0001 libssl3 3.0.15-1~deb12u1 high",
		"affected web CVE-2024-0007 curl 7.88.1-10+deb12u14",
		"affected web CVE-2024-0003 libssl3  negligible",
		"unknown web GHSA-x log4j  critical",
		"unknown web PYSEC-3 Django",
		"unknown web CVE-2024-0006 libssl3",
		"under_investigation web TEMP-0000005-ABCDEF libssl3",
	}
	if diff := cmp.Diff(want, short(r)); diff != "" {
		t.Error(diff)
	}
	if r.RuledOut != 3 || len(s.Report(true).Findings) != len(want)+3 {
		t.Errorf("%d are ruled out, %d with all; want 3", r.RuledOut, len(s.Report(true).Findings))
	}
	for _, f := range r.Findings {
		if f.Why == "" || len(f.Data) == 0 {
			t.Errorf("%s: why %q, data %q", f.Vulnerability, f.Why, f.Data)
		}
		if want := (f.Vulnerability == "CVE-2024-1002"); want != (f.Justification == "vulnerable_code_not_present") {
			t.Errorf("%s: justification %q", f.Vulnerability, f.Justification)
		}
	}
	var uncovered []string
	for _, u := range r.Uncovered {
		uncovered = append(uncovered, u.Package+": "+u.Why)
	}
	if diff := cmp.Diff([]string{"own: it has no package URL"}, uncovered); diff != "" {
		t.Error(diff)
	}
	if len(r.Data) != 4 { // the tracker, the zip, and the other records by their form
		t.Errorf("%d sources: %+v", len(r.Data), r.Data)
	}
}

// TestOrderOfData gives the same data in another order.
func TestOrderOfData(t *testing.T) {
	t.Parallel()
	dir := put(t, map[string]string{"tracker.json": trackerText, "go.json": goText, "cve.json": cveText("CVE-2024-1001", "drivers/net/virtio_net.c")})
	var results []string
	for _, list := range [][]string{{"tracker.json", "go.json", "cve.json"}, {"cve.json", "go.json", "tracker.json"}} {
		s := New(system()...)
		for _, f := range list {
			if err := s.Load(t.Context(), filepath.Join(dir, f)); err != nil {
				t.Fatal(err)
			}
		}
		text, err := json.Marshal(s.Report(true).Findings)
		if err != nil {
			t.Fatal(err)
		}
		results = append(results, string(text))
	}
	if results[0] != results[1] {
		t.Error(cmp.Diff(results[0], results[1]))
	}
}

func TestUncovered(t *testing.T) {
	t.Parallel()
	r := scanned(t, map[string]string{"go.json": goText}).Report(false)
	var got []string
	for _, u := range r.Uncovered {
		got = append(got, u.Package+": "+u.Why)
	}
	want := []string{
		"linux-image-6.1.0-40-arm64: no data about Debian 12", "Django: no data about PyPI", "curl: no data about Debian 12", "libssl3: no data about Debian 12", "log4j: no data about Maven",
		"own: it has no package URL",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestReleaseIsNotKnown has a package of Debian of which nobody says the release.
func TestReleaseIsNotKnown(t *testing.T) {
	t.Parallel()
	s := New(Part{Name: "image", Document: bill("x", sbom.Package{Name: "openssl", Version: "3.0.11-1", PURL: "pkg:deb/debian/openssl@3.0.11-1"})})
	text := `{"openssl":{"CVE-1-1":{"releases":{"bookworm":{"status":"resolved","fixed_version":"3.0.15-1"},"trixie":{"status":"resolved","fixed_version":"3.5.1-1"}}},
	 "CVE-1-2":{"releases":{"bookworm":{"status":"resolved","fixed_version":"3.0.1-1"},"trixie":{"status":"open"}}}}}`
	if err := s.Load(t.Context(), put(t, map[string]string{"t.json": text})); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"affected image CVE-1-1 openssl", "unknown image CVE-1-2 openssl"}, short(s.Report(false))); diff != "" {
		t.Error(diff)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	r := &Report{Findings: []Finding{{State: Affected, Severity: "medium"}, {State: Unknown}}, Uncovered: []Uncovered{{}}}
	for text, want := range map[string]bool{
		"affected": true, "unknown": true, "under_investigation": false, "high": false, "medium": true, "low": true, "critical,unknown": true, "uncovered": true, "none": false,
	} {
		l, err := ParseLimits(text)
		if err != nil || r.Fails(l) != want {
			t.Errorf("%s: %v, %v; want %v", text, r.Fails(l), err, want)
		}
	}
	unrated := &Report{Findings: []Finding{{State: Affected}}}
	if l, err := ParseLimits("critical"); err != nil || !unrated.Fails(l) {
		t.Errorf("what nobody has rated passes: %v", err)
	}
	for text, want := range map[string]string{
		"afected": "did you mean affected?", "none,affected": "none is alone", "high,low": "give one severity", "": "unknown",
	} {
		if _, err := ParseLimits(text); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
