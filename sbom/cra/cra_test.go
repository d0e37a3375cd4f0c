package cra

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/vulns"
)

// bills are those of an image with a container.
func bills() *vulns.Bills {
	image, app := &sbom.Document{Name: "board", Namespace: "urn:x:1"}, &sbom.Document{Name: "app"}
	image.AddPackage(sbom.Package{Name: "board", Purpose: sbom.Device})
	app.AddPackage(sbom.Package{Name: "openssl", Version: "3.0|1", Declared: "Apache-2.0", PURL: "pkg:deb/debian/openssl@3.0", Supplier: "Organization: Debian"})
	app.AddPackage(sbom.Package{Name: "other", Version: "1", Declared: "MIT", Concluded: "Apache-2.0"})
	app.AddPackage(sbom.Package{Name: "many", Version: "1", Declared: strings.Repeat("MIT AND ", 20) + "MIT"})
	app.AddPackage(sbom.Package{Name: "@everyone [x](https://x)\x1b", Version: "2"})
	return &vulns.Bills{
		Parts:   []vulns.Part{{Name: "board", Document: image, File: "sbom.json"}, {Name: "app", Document: app, File: "sbom/app.spdx.zst"}},
		Digests: map[string]string{"sbom.json": "aa", "sbom/app.spdx.zst": "bb"},
		Unread:  []vulns.Uncovered{{Part: "app", Package: "table.csv", Why: "no form"}},
	}
}

// certificate makes a certificate that ends at a time.
func certificate(t *testing.T, end time.Time) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	of := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Acme CA"}, NotBefore: time.Unix(0, 0), NotAfter: end}
	text, err := x509.CreateCertificate(rand.Reader, of, of, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func complete() *File {
	f := &File{
		Format: Format, Product: Product{Target: "board", Release: "1.0", Support: sbom.Support{End: "2031-12-31", Contact: "security@example.com", Manufacturer: "Acme"}},
		Updates: Updates{Tried: true, How: "x", Channels: []string{"y"}}, Reset: Reset{Kept: true, How: []string{"z"}},
	}
	b := bills()
	b.Unread = nil
	f.Contents(b)
	f.Known(&vulns.Report{Data: []vulns.Source{{Path: "tracker.json", FileTime: time.Now()}}, Counts: map[vulns.State]int{vulns.Fixed: 1}})
	return f
}

func TestComplete(t *testing.T) {
	t.Parallel()
	f := complete()
	f.Certificate("ca.crt", certificate(t, time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)), "")
	f.Complete()
	if len(f.Gaps) != 0 {
		t.Errorf("%q", f.Gaps)
	}
	if got, want := f.Licences, []Licence{{"Apache-2.0", 2}, {"", 1}}; len(got) != 3 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("licences %v", got)
	}
	if len(f.Packages) != 4 || f.Bills[1].SHA256 != "bb" || !f.Vulnerabilities.Data[0].FileTime.IsZero() {
		t.Errorf("%+v", f)
	}
}

func TestGaps(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(f *File){
		"nobody is named as the manufacturer":            func(f *File) { f.Product.Support.Manufacturer = "" },
		"there is no contact":                            func(f *File) { f.Product.Support.Contact = "" },
		"the end of the support period is not stated":    func(f *File) { f.Product.Support.End = "" },
		"the product has no version":                     func(f *File) { f.Product.Release = "" },
		"known vulnerabilities were not looked for":      func(f *File) { f.Vulnerabilities = nil },
		"there are vulnerabilities that affect":          func(f *File) { f.Vulnerabilities.Counts[vulns.Affected] = 1 },
		"it is not known whether they affect":            func(f *File) { f.Vulnerabilities.Counts[vulns.Investigation] = 1 },
		"the device trusts no key":                       func(f *File) { f.Keys = nil },
		"does not fall back by itself: x":                func(f *File) { f.Updates.Tried = false },
		"revision 0 may be removed":                      func(f *File) { f.Reset.Kept = false },
		"ways into the device":                           func(f *File) { f.Access = []string{"shell"} },
		"CN=Acme CA of ca.crt: whose key is published":   func(f *File) { f.Keys[0].Problem = "whose key is published" },
		"the bill of materials table.csv of app was not": func(f *File) { f.Contents(bills()) },
	} {
		f := complete()
		f.Certificate("ca.crt", certificate(t, time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)), "")
		change(f)
		f.Complete()
		if len(f.Gaps) != 1 || !strings.Contains(f.Gaps[0], want) {
			t.Errorf("%q, want %q alone", f.Gaps, want)
		}
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	f := complete()
	f.Certificate("ca.crt", certificate(t, time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)), "")
	if f.Keys[0].Problem != "it expires before the support ends" || len(f.Keys[0].SHA256) != 64 {
		t.Errorf("%+v", f.Keys)
	}
	if n := f.PublicKeys("pub.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("key")})); n != 1 || f.Keys[1].SHA256 != "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683" {
		t.Errorf("%d, %+v", n, f.Keys)
	}
	if n := f.PublicKeys("pub.pem", []byte("no key")); n != 0 {
		t.Errorf("%d keys in a text without one", n)
	}
}

func TestForms(t *testing.T) {
	t.Parallel()
	var texts []string
	for range 2 {
		f := complete()
		f.Access, f.Signatures = []string{"a *shell* <b>"}, []string{"SHA256SUMS"}
		f.Vulnerabilities.Findings = []vulns.Finding{{Vulnerability: "CVE-1-1", State: vulns.Affected, Why: "a | b"}}
		f.Vulnerabilities.Uncovered = []vulns.Uncovered{{Why: "no data"}, {Why: "no data"}}
		f.Complete()
		var b bytes.Buffer
		if err := f.Markdown(&b); err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, b.String()+string(data))
	}
	if texts[0] != texts[1] {
		t.Error("the same facts have two texts")
	}
	for _, want := range []string{
		"# Technical file: board\n", "| ` @everyone [x](https://x)\\x1b ` |", "` 3.0\\|1 `", "a \\*shell\\* &lt;b&gt;", "- 2: no data", "| manufacturer | Acme |", "` a \\| b `", "not known", "| many | 1 | number 3 above |",
	} {
		if !strings.Contains(texts[0], want) {
			t.Errorf("%q is not in\n%s", want, texts[0])
		}
	}
	if strings.Contains(texts[0], "\x1b") {
		t.Error("a control character is in a text")
	}
}
