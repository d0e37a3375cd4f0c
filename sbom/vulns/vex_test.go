package vulns

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/sbom"
)

// openVEXText is a document with statements.
func openVEXText(statements ...string) string {
	return `{"@context":"https://openvex.dev/ns/v0.2.0","@id":"https://example.com/vex","author":"me","timestamp":"2026-03-01T00:00:00Z","version":1,"statements":[` +
		strings.Join(statements, ",") + `]}`
}

// stateOf applies a file of VEX to the system and returns the findings about a vulnerability.
func stateOf(t *testing.T, vulnerability string, files ...string) (*Report, []string) {
	t.Helper()
	s := scanned(t, map[string]string{"tracker.json": trackerText})
	for i, text := range files {
		name := fmt.Sprintf("%d.json", i)
		if err := s.VEX(t.Context(), filepath.Join(put(t, map[string]string{name: text}), name)); err != nil {
			t.Fatal(err)
		}
	}
	r := s.Report(false)
	out := []string{}
	for _, f := range r.Findings {
		if f.Vulnerability == vulnerability {
			out = append(out, strings.TrimSpace(string(f.State)+" "+f.Part+" "+f.Package+" "+f.Justification))
		}
	}
	return r, out
}

func TestVEX(t *testing.T) {
	t.Parallel()
	const at = `"vulnerability":{"name":"CVE-2024-0001"},"status":"not_affected","justification":"component_not_present"`
	for name, c := range map[string]struct {
		statement string
		want      string
	}{
		"package without a version": {`"products":[{"@id":"pkg:deb/debian/libssl3"}]`, "not_affected web libssl3 component_not_present"},
		"package with its version":  {`"products":[{"@id":"pkg:deb/debian/libssl3@3.0.11-1~deb12u2?arch=arm64"}]`, "not_affected web libssl3 component_not_present"},
		"another version":           {`"products":[{"@id":"pkg:deb/debian/libssl3@3.0.11-1"}]`, "affected web libssl3"},
		"another architecture":      {`"products":[{"@id":"pkg:deb/debian/libssl3?arch=amd64"}]`, "affected web libssl3"},
		"the source package":        {`"products":[{"@id":"pkg:deb/debian/openssl"}]`, "not_affected web libssl3 component_not_present"},
		"identifiers":               {`"products":[{"identifiers":{"purl":"pkg:deb/debian/libssl3"}}]`, "not_affected web libssl3 component_not_present"},
		"the container":             {`"products":[{"@id":"web"}]`, "not_affected web libssl3 component_not_present"},
		"the image":                 {`"products":[{"@id":"board"}]`, "not_affected web libssl3 component_not_present"},
		"another container":         {`"products":[{"@id":"bsp of board"}]`, "affected web libssl3"},
		"part of the image":         {`"products":[{"@id":"board","subcomponents":[{"@id":"pkg:deb/debian/libssl3"}]}]`, "not_affected web libssl3 component_not_present"},
		"part of another product":   {`"products":[{"@id":"other","subcomponents":[{"@id":"pkg:deb/debian/libssl3"}]}]`, "affected web libssl3"},
		"another part":              {`"products":[{"@id":"board","subcomponents":[{"@id":"pkg:deb/debian/curl"}]}]`, "affected web libssl3"},
		"the old form":              {`"products":["pkg:deb/debian/libssl3"]`, "not_affected web libssl3 component_not_present"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, got := stateOf(t, "CVE-2024-0001", openVEXText("{"+at+","+c.statement+"}"))
			if diff := cmp.Diff([]string{c.want}, got); diff != "" {
				t.Error(diff)
			}
			if none := slices.Contains([]string{"another version", "another architecture", "part of another product"}, name); none != (len(r.Unapplied) > 0) {
				t.Errorf("unapplied: %q", r.Unapplied)
			}
		})
	}
}

func TestLaterStatementsCount(t *testing.T) {
	t.Parallel()
	statement := func(status, time string) string {
		return `{"vulnerability":{"name":"CVE-2024-0001"},"products":["pkg:deb/debian/libssl3"],"status":"` + status + `","impact_statement":"x","timestamp":"` + time + `"}`
	}
	older, newer := statement("not_affected", "2026-01-01T00:00:00Z"), statement("under_investigation", "2026-02-01T00:00:00Z")
	for _, files := range [][]string{{openVEXText(older, newer)}, {openVEXText(newer, older)}, {openVEXText(newer), openVEXText(older)}} {
		if _, got := stateOf(t, "CVE-2024-0001", files...); !slices.Equal(got, []string{"under_investigation web libssl3"}) {
			t.Errorf("%q", got)
		}
	}
}

func TestStatedAlone(t *testing.T) {
	t.Parallel()
	text := openVEXText(
		`{"vulnerability":{"name":"CVE-2024-7777","aliases":["OWN-1"]},"products":["pkg:deb/debian/curl"],"status":"affected","action_statement":"update"}`,
		`{"vulnerability":{"name":"OWN-2","aliases":["CVE-2024-0001"]},"products":["pkg:deb/debian/libssl3"],"status":"fixed","status_notes":"patched"}`,
	)
	if _, got := stateOf(t, "CVE-2024-7777", text); !slices.Equal(got, []string{"affected web curl"}) {
		t.Errorf("%q", got)
	}
	if _, got := stateOf(t, "CVE-2024-0001", text); !slices.Equal(got, []string{"fixed web libssl3"}) {
		t.Errorf("by an alias: %q", got)
	}
}

func TestCycloneDXVEX(t *testing.T) {
	t.Parallel()
	text := func(analysis, ref string) string {
		return `{"bomFormat":"CycloneDX","specVersion":"1.6","metadata":{"timestamp":"2026-03-01T00:00:00Z"},"components":[{"type":"library","name":"x","bom-ref":"ref-1","purl":"pkg:deb/debian/libssl3"}],
		"vulnerabilities":[{"id":"CVE-2024-0001","analysis":` + analysis + `,"affects":[{"ref":"` + ref + `"}]},{"id":"CVE-2024-0007","affects":[{"ref":"ref-1"}]}]}`
	}
	for _, c := range []struct{ analysis, ref, want string }{
		{`{"state":"not_affected","justification":"code_not_reachable"}`, "pkg:deb/debian/libssl3", "not_affected web libssl3 vulnerable_code_not_in_execute_path"},
		{`{"state":"not_affected","justification":"code_not_present"}`, "ref-1", "not_affected web libssl3 vulnerable_code_not_present"},
		{`{"state":"resolved"}`, "urn:cdx:3e671687-395b-41f5-a30f-a58921a69b79/1#ref-1", "fixed web libssl3"},
		{`{"state":"false_positive"}`, "ref-1", "not_affected web libssl3"},
		{`{"state":"in_triage"}`, "ref-1", "under_investigation web libssl3"},
		{`{"state":"exploitable"}`, "ref-1", "affected web libssl3"},
	} {
		if _, got := stateOf(t, "CVE-2024-0001", text(c.analysis, c.ref)); !slices.Equal(got, []string{c.want}) {
			t.Errorf("%s: %q, want %q", c.analysis, got, c.want)
		}
	}
}

func TestStatementsOfTheDocument(t *testing.T) {
	t.Parallel()
	parts := system()
	web := parts[2].Document
	for _, p := range web.Packages {
		if p.Name == "curl" {
			web.Statements = append(web.Statements, sbom.Statement{Vulnerability: "CVE-2024-0007", Status: "not_affected", Justification: "component_not_present", Packages: []string{p.ID}, Origin: "vendor.json"})
		}
	}
	s := New(parts...)
	if err := s.Load(t.Context(), put(t, map[string]string{"t.json": trackerText})); err != nil {
		t.Fatal(err)
	}
	for _, f := range s.Report(false).Findings {
		if f.Vulnerability == "CVE-2024-0007" && (f.State != NotAffected || !strings.Contains(f.Why, "vendor.json")) {
			t.Errorf("%+v", f)
		}
	}
}

func TestBadVEX(t *testing.T) {
	t.Parallel()
	const name, products = `"vulnerability":{"name":"CVE-1-1"}`, `"products":["pkg:deb/debian/curl"]`
	for want, text := range map[string]string{
		"statements[0]: it names no vulnerability": openVEXText(`{"status":"fixed",` + products + `}`),
		"it names no product":                      openVEXText(`{"status":"fixed",` + name + `}`),
		"neither an identifier nor a digest":       openVEXText(`{"status":"fixed",` + name + `,"products":[{}]}`),
		`"unknown" is not a status`:                openVEXText(`{"status":"unknown",` + name + "," + products + `}`),
		"not_affected needs a justification":       openVEXText(`{"status":"not_affected",` + name + "," + products + `}`),
		`"because" is not a justification`:         openVEXText(`{"status":"not_affected","justification":"because",` + name + "," + products + `}`),
		`the member "status" twice`:                openVEXText(`{"status":"affected","status":"not_affected",` + name + "," + products + `}`),
		"deep in others":                           openVEXText(`{"x":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`),
		"it ends in the middle":                    openVEXText()[:60],
		"it is not of a known form":                `{"a":1}`,
		"it is empty":                              " ",
		`"maybe" is not a state`:                   `{"bomFormat":"CycloneDX","vulnerabilities":[{"id":"CVE-1-1","analysis":{"state":"not_affected"},"affects":[{"ref":"a"}]},` + `{"id":"CVE-1-1","analysis":{"state":"maybe"},"affects":[{"ref":"a"}]}]}`,
		"cannot unmarshal":                         openVEXText(`{"status":1}`),
		"parsing time":                             openVEXText(`{"timestamp":"yesterday"}`),
	} {
		err := New(system()...).VEX(t.Context(), filepath.Join(put(t, map[string]string{"vex.json": text}), "vex.json"))
		if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "vex.json") {
			t.Errorf("%v\nwant %q of\n%s", err, want, text)
		}
	}
}
