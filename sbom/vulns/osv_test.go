package vulns

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/sbom"
)

// osvText is a record with one block about a package.
func osvText(ecosystem, name, block string) string {
	return fmt.Sprintf(`{"id":"X-1","modified":"2026-01-02T03:04:05Z","affected":[{"package":{"ecosystem":%q,"name":%q},%s}]}`, ecosystem, name, block)
}

func events(kind string, pairs ...string) string {
	var list []string
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, fmt.Sprintf(`{%q:%q}`, pairs[i], pairs[i+1]))
	}
	return `"ranges":[{"type":"` + kind + `","events":[` + strings.Join(list, ",") + `]}]`
}

// verdictOf scans one package with one record, and returns state and fixed version.
func verdictOf(t *testing.T, url, text string) string {
	t.Helper()
	s := New(Part{Name: "p", Document: bill("p", sbom.Package{Name: "x", PURL: url})})
	if err := s.Load(t.Context(), put(t, map[string]string{"a.json": text})); err != nil {
		t.Fatal(err)
	}
	r := s.Report(true)
	if len(r.Findings) == 0 {
		return "none"
	}
	return strings.TrimSpace(string(r.Findings[0].State) + " " + r.Findings[0].FixedIn)
}

func TestRanges(t *testing.T) {
	t.Parallel()
	two := events("SEMVER", "introduced", "2.0.0", "fixed", "2.3.0", "introduced", "0", "fixed", "1.5.0") // not in their order
	last := events("SEMVER", "introduced", "1.0.0", "last_affected", "1.4.0")
	limit := events("SEMVER", "introduced", "0", "limit", "2.0.0")
	for _, c := range []struct{ version, block, want string }{
		{"1.4.9", two, "affected 1.5.0"}, {"1.5.0", two, "fixed"}, {"1.9.0", two, "fixed"}, {"2.0.0", two, "affected 2.3.0"}, {"2.3.0", two, "fixed"}, {"0.0.0-0", two, "affected 1.5.0"},
		{"0.9.0", last, "not_affected"}, {"1.4.0", last, "affected"}, {"1.4.1", last, "not_affected"},
		{"1.9.0", limit, "affected"}, {"2.0.0", limit, "not_affected"},
		{"1.0.0", `"versions":["1.0.0"]`, "affected"}, {"1.0.1", `"versions":["1.0.0"]`, "not_affected"},
		{"1.0.0", `"versions":["1.0.0"],` + events("GIT", "introduced", "0"), "affected"},
		{"1.0.0", events("GIT", "introduced", "0"), "unknown"}, {"1.0.0", `"ranges":[]`, "unknown"},
		{"1.0.0", events("SEMVER", "introduced", "0", "fixed", "next"), "unknown"},
		{"latest", two, "unknown"}, {"", two, "unknown"},
	} {
		if got := verdictOf(t, "pkg:npm/x@"+c.version, osvText("npm", "x", c.block)); got != c.want {
			t.Errorf("%q in %s: %s, want %s", c.version, c.block, got, c.want)
		}
	}
}

func TestIdentities(t *testing.T) {
	t.Parallel()
	all := func(v string) string { return events("ECOSYSTEM", "introduced", "0", "fixed", v) }
	for _, c := range []struct{ url, ecosystem, name, fixed, want string }{
		{"pkg:npm/%40scope/x@1.0.0", "npm", "@scope/x", "1.0.1", "affected 1.0.1"},
		{"pkg:npm/x@1.0.0", "npm", "@scope/x", "1.0.1", "none"},
		{"pkg:pypi/Zope.Interface@1.0", "PyPI", "zope-interface", "1.0.post1", "affected 1.0.post1"},
		{"pkg:golang/stdlib@1.21.3", "Go", "stdlib", "1.21.4", "affected 1.21.4"},
		{"pkg:golang/stdlib@go1.21rc2", "Go", "stdlib", "1.21.0-rc.3", "affected 1.21.0-rc.3"},
		{"pkg:golang/example.com/a/b@v1.0.0#sub", "Go", "example.com/a/b", "1.0.1", "affected 1.0.1"},
		{"pkg:cargo/x@1.0.0", "crates.io", "x", "1.0.1", "affected 1.0.1"},
		{"pkg:gem/x@1.0.0", "RubyGems", "x", "1.0.1", "unknown"},
		{"pkg:apk/alpine/x@1.2.3-r0?distro=alpine-3.18.4", "Alpine:v3.18", "x", "1.2.3-r1", "affected 1.2.3-r1"},
		{"pkg:apk/alpine/x@1.2.3-r0?distro=alpine-3.18.4", "Alpine:v3.19", "x", "1.2.3-r1", "none"},
		{"pkg:apk/wolfi/x@1.2.3-r0", "Wolfi", "x", "1.2.3-r1", "affected 1.2.3-r1"},
		{"pkg:deb/debian/x@1.0-1?distro=bookworm", "Debian:12", "x", "1.0-2", "affected 1.0-2"},
		{"pkg:deb/debian/x@1.0-1?distro=debian-12", "Debian:12", "x", "1.0-2", "affected 1.0-2"},
		{"pkg:deb/debian/x@1.0-1?distro=bookworm-security", "Debian:12", "x", "1.0-2", "affected 1.0-2"},
		{"pkg:deb/debian/x@1.0-1?distro=bookworm", "Debian:13", "x", "1.0-2", "none"},
		{"pkg:deb/debian/x@1.0-1%2Bb3?distro=bookworm", "Debian:12", "x", "1.0-1", "fixed"},
		{"pkg:deb/debian/x@1.0-1%2Bdeb12u1", "Debian:12", "x", "1.0-2", "affected 1.0-2"},
		{"pkg:deb/debian/x@1.0-1", "Debian:12", "x", "1.0-2", "unknown 1.0-2"},
		{"pkg:deb/debian/x@1.5-1~bpo12%2B1?distro=bookworm-backports", "Debian:13", "x", "1.5-2", "affected 1.5-2"},
		{"pkg:deb/debian/x@1.5-1~bpo12%2B1?distro=bookworm", "Debian:12", "x", "1.0-2", "none"},
		{"pkg:deb/debian/libx1@1.0-1?distro=bookworm&upstream=x%401.0-0", "Debian:12", "x", "1.0-1", "affected 1.0-1"},
		{"pkg:deb/ubuntu/x@1.0-1?distro=ubuntu-22.04", "Ubuntu:22.04:LTS", "x", "1.0-2", "affected 1.0-2"},
		{"pkg:deb/ubuntu/x@1.0-1?distro=ubuntu-22.04", "Ubuntu:Pro:22.04:LTS", "x", "1.0-2", "none"},
		{"pkg:rpm/rocky/x@1.0-1.el9?epoch=1&distro=rocky-9.3", "Rocky Linux:9", "x", "0:2.0-1.el9", "fixed"},
		{"pkg:rpm/redhat/x@1.0-1.el9?distro=rhel-9.3", "Red Hat:enterprise_linux:9::baseos", "x", "0:1.0-2.el9", "affected 0:1.0-2.el9"},
		{"pkg:rpm/opensuse/x@1.0-1?distro=opensuse-leap-15.4", "openSUSE:Leap 15.4", "x", "1.0-2", "unknown 1.0-2"},
		{"pkg:generic/x@1.0", "Debian:12", "x", "1.0-2", "none"},
		{"x@1.0", "Debian:12", "x", "1.0-2", "none"}, {"pkg:deb", "Debian:12", "x", "1.0-2", "none"}, {"pkg:deb/debian/%zz@1", "Debian:12", "x", "1.0-2", "none"},
	} {
		if got := verdictOf(t, c.url, osvText(c.ecosystem, c.name, all(c.fixed))); got != c.want {
			t.Errorf("%s by %s: %s, want %s", c.url, c.ecosystem, got, c.want)
		}
	}
}

func TestSignedSources(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ source, version, name, want string }{
		{"linux-signed-amd64", "6.1.153-1", "linux", "6.1.153-1"},
		{"linux-signed", "6.1.153-1", "linux", "6.1.153-1"},
		{"grub-efi-amd64-signed", "1+2.06+13+deb12u1", "grub2", "2.06-13+deb12u1"},
		{"openssl", "3.0.1-1", "openssl", "3.0.2-1"},
	} {
		ids := identities(sbom.Package{Name: "b", Version: c.version, SourceName: c.source, SourceVersion: "3.0.2-1", PURL: "pkg:deb/debian/b@" + strings.ReplaceAll(c.version, "+", "%2B") + "?distro=bookworm"})
		if len(ids) != 1 || ids[0].name != c.name || ids[0].version != c.want {
			t.Errorf("%s %s: %+v, want %s %s", c.source, c.version, ids, c.name, c.want)
		}
	}
}

func TestSeverities(t *testing.T) {
	t.Parallel()
	const range0 = `"ranges":[{"type":"SEMVER","events":[{"introduced":"0"}]}]`
	for more, want := range map[string]string{
		`"severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}]`:                    "critical",
		`"severity":[{"type":"CVSS_V3","score":"CVSS:3.0/AV:L/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N"}]`:                    "low",
		`"severity":[{"type":"CVSS_V2","score":"AV:N/AC:L/Au:N/C:C/I:C/A:C"}]`:                                      "critical",
		`"severity":[{"type":"CVSS_V4","score":"CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"}]`: "critical",
		`"severity":[{"type":"Ubuntu","score":"medium"}]`:                                                           "medium",
		`"severity":[{"type":"CVSS_V3","score":"CVSS:3.1/rubbish"}]`:                                                "",
		`"database_specific":{"severity":"MODERATE"}`:                                                               "medium",
		`"ecosystem_specific":{"urgency":"unimportant"}`:                                                            "negligible",
		`"ecosystem_specific":{"urgency":5},"database_specific":["x"]`:                                              "",
		`"ecosystem_specific":{"urgency":"not yet assigned"}`:                                                       "",
	} {
		s := New(Part{Name: "p", Document: bill("p", sbom.Package{Name: "x", PURL: "pkg:npm/x@1.0.0"})})
		if err := s.Load(t.Context(), put(t, map[string]string{"a.json": osvText("npm", "x", range0+","+more)})); err != nil {
			t.Fatal(err)
		}
		if got := s.Report(false).Findings[0].Severity; got != want {
			t.Errorf("%s: %q, want %q", more, got, want)
		}
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	r := scanned(t, map[string]string{"t.json": trackerText}).Report(false)
	r.Findings[0].Why = "\x1b[2J @team [x](https://example.com) | y"
	r.Unapplied = []string{"vex.json: CVE-1-1 of `x`"}
	var text, markdown strings.Builder
	now := time.Now()
	if err := r.Text(&text, now); err != nil {
		t.Fatal(err)
	}
	if err := r.Markdown(&markdown, now); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"board: 3 affected, 5 unknown, 1 under investigation, 3 of other versions", "Debian security tracker, 13 records, 0 days old\n", "\nweb\n  STATE ",
		`\x1b[2J @team`, "packages without data", "statements that concern nothing here",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not in\n%s", want, text.String())
		}
	}
	for _, want := range []string{"<details><summary>web (", "` 3.0.15-1~deb12u1 `", "` \\x1b[2J @team [x](https://example.com) \\| y `"} {
		if !strings.Contains(markdown.String(), want) {
			t.Errorf("%q is not in\n%s", want, markdown.String())
		}
	}
	if strings.Contains(text.String()+markdown.String(), "\x1b") {
		t.Error("a control character is in a text")
	}
	empty := New(system()...).Report(false)
	if diff := cmp.Diff("no vulnerability is known", empty.Summary()); diff != "" {
		t.Error(diff)
	}
}
