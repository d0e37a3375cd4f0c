package workspace

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/spdx2"
	"github.com/pantavisor/pantavisor/sbom/vulns"
)

// billedIn lays a bill of materials with one package of Debian into a directory.
func billedIn(t *testing.T, dir string) {
	t.Helper()
	d := &sbom.Document{Name: "plain"}
	d.Roots = []string{d.AddPackage(sbom.Package{Name: "plain", Purpose: sbom.Device})}
	d.AddPackage(sbom.Package{Name: "libssl3", Version: "3.0.11-1", SourceName: "openssl", PURL: "pkg:deb/debian/libssl3@3.0.11-1?arch=arm64&distro=bookworm"})
	d.Seal()
	var b strings.Builder
	if err := spdx2.Write(&b, d); err != nil {
		t.Fatal(err)
	}
	lay(t, filepath.Join(dir, images.SBOMFile), b.String())
}

func lay(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// notAffected is a statement about openssl.
func notAffected(vulnerability string) string {
	return `{"@context":"https://openvex.dev/ns/v0.2.0","@id":"x","author":"x","timestamp":"2026-01-01T00:00:00Z","version":1,"statements":[{"vulnerability":{"name":"` +
		vulnerability + `"},"products":[{"@id":"pkg:deb/debian/openssl"}],"status":"not_affected","justification":"vulnerable_code_not_present"}]}`
}

const trackerData = `{"openssl":{"CVE-2024-0001":{"releases":{"bookworm":{"status":"resolved","fixed_version":"3.0.15-1","urgency":"medium"}}},"CVE-2024-0002":{"releases":{"bookworm":{"status":"open"}}}}}`

func TestVulns(t *testing.T) {
	w, out := empty(t)
	define(t, w, "plain", plain)
	lay(t, filepath.Join(w.Out("plain"), "report.json"), "{}")
	data := VulnsOptions{Data: "tracker.json"}
	lay(t, filepath.Join(w.Root, "tracker.json"), trackerData)
	if err := w.Vulns(t.Context(), "plain", data); fault.Of(err) != fault.Missing || !strings.Contains(err.Error(), "mage build plain makes it") {
		t.Errorf("a target without a bill of materials: %v", err)
	}
	billedIn(t, w.Out("plain"))
	billedIn(t, filepath.Join(w.Root, "release"))
	lay(t, filepath.Join(w.Root, "release/vex/one.json"), notAffected("CVE-2024-0001"))
	for _, c := range []struct {
		what   string
		change func(o *VulnsOptions)
		kind   fault.Kind
		want   string
	}{
		{"plain", nil, fault.Vulnerable, "plain: 2 affected"},
		{"plain", func(o *VulnsOptions) { o.Markdown = true }, fault.Vulnerable, "` 3.0.15-1 `"},
		{"plain", func(o *VulnsOptions) { o.FailOn = "none" }, 0, "affected"},
		{"plain", func(o *VulnsOptions) { o.FailOn = "high" }, fault.Vulnerable, "--fail-on=high forbids"}, // one is not rated
		{"plain", func(o *VulnsOptions) { o.FailOn = "hihg" }, fault.BadInput, "did you mean high?"},
		{"plain", func(o *VulnsOptions) { o.Data = "" }, fault.BadInput, "PV_VULN_DATA"},
		{"plain", func(o *VulnsOptions) { o.Data = "none.json" }, fault.Missing, "none.json"},
		{"plain", func(o *VulnsOptions) { o.VEX = "release/vex/one.json" }, fault.Vulnerable, "plain: 1 affected, 1 not affected"},
		{"release", nil, fault.Vulnerable, "plain: 1 affected, 1 not affected"},
		{"release/sbom.json", nil, fault.Vulnerable, "plain: 1 affected, 1 not affected"},
		{"plian", nil, fault.Missing, "neither a bill of materials, nor a directory"},
	} {
		out.Reset()
		o := data
		if c.change != nil {
			c.change(&o)
		}
		err := w.Vulns(t.Context(), c.what, o)
		text := out.String()
		if err != nil {
			text += err.Error()
		}
		if fault.Of(err) != c.kind || !strings.Contains(text, c.want) {
			t.Errorf("%s %+v: %v, %q is not in\n%s", c.what, o, fault.Of(err), c.want, text)
		}
	}
	lay(t, filepath.Join(w.Root, "empty.json"), `{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT","name":"x","documentNamespace":"https://example.com/x","dataLicense":"CC0-1.0","creationInfo":{"created":"2026-01-01T00:00:00Z","creators":["Tool: x"]}}`)
	if err := w.Vulns(t.Context(), "empty.json", data); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "lists no packages") {
		t.Errorf("nothing in it: %v", err)
	}
	w.Options.Vulnerabilities, w.JSON = "tracker.json", true
	out.Reset()
	var r vulns.Report
	if err := w.Vulns(t.Context(), "plain", VulnsOptions{}); fault.Of(err) != fault.Vulnerable || json.Unmarshal(out.Bytes(), &r) != nil || len(r.Findings) != 2 {
		t.Errorf("%v\n%s", err, out)
	}
	if err := w.Vulns(t.Context(), "plain", VulnsOptions{Markdown: true}); fault.Of(err) != fault.BadInput {
		t.Errorf("JSON and Markdown: %v", err)
	}
}

// TestVEXOfATarget has statements for every platform, and those of the target's own in place of one.
func TestVEXOfATarget(t *testing.T) {
	w, out := empty(t)
	define(t, w, "plain", plain)
	lay(t, filepath.Join(w.Out("plain"), "report.json"), "{}")
	lay(t, filepath.Join(w.Root, "tracker.json"), trackerData)
	billedIn(t, w.Out("plain"))
	lay(t, filepath.Join(w.Root, "config/generic/vex/all.json"), notAffected("CVE-2024-0001"))
	lay(t, filepath.Join(w.Root, "config/generic/vex/more.json"), notAffected("CVE-2024-0002"))
	o := VulnsOptions{Data: "tracker.json"}
	if err := w.Vulns(t.Context(), "plain", o); err != nil || !strings.Contains(out.String(), "plain: 2 not affected") {
		t.Errorf("%v\n%s", err, out)
	}
	lay(t, filepath.Join(w.Root, "config/plain/vex/more.json"), notAffected("CVE-2024-0009"))
	out.Reset()
	if err := w.Vulns(t.Context(), "plain", o); fault.Of(err) != fault.Vulnerable || !strings.Contains(out.String(), "plain: 1 affected, 1 not affected") {
		t.Errorf("%v\n%s", err, out)
	}
	l, err := w.Sources()
	if err != nil {
		t.Fatal(err)
	}
	board, err := w.load("plain")
	if err != nil {
		t.Fatal(err)
	}
	if warnings := misspelt(l, board); len(warnings) != 0 {
		t.Errorf("%q", warnings)
	}
}
