package bench

import (
	"archive/zip"
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/vulns"
)

// The measured data: a tracker with as many source packages and vulnerabilities as that of Debian, of
// which a part is the kernel's, and zips of OSV and CVE records.
const (
	trackerSources = 3500
	trackerEach    = 14 // vulnerabilities of a source package
	trackerKernel  = 12_000
	osvRecords     = 50_000
	cveRecords     = 8000
	billPackages   = 1500
)

// rescanned joins the bills of materials of an image with such data.
func rescanned(ctx context.Context, _ string) ([]Row, error) {
	work, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	tracker, osv, cve := filepath.Join(work, "tracker.json"), filepath.Join(work, "osv.zip"), filepath.Join(work, "cve.zip")
	if err := errors.Join(
		written(tracker, writeTracker), written(osv, records(osvRecords, osvRecord)), written(cve, records(cveRecords, kernelRecord)),
	); err != nil {
		return nil, err
	}
	info, err := os.Stat(tracker)
	if err != nil {
		return nil, err
	}
	found := 0
	scan := func(files ...string) func(int) error {
		return func(int) error {
			s := vulns.New(imageBills()...)
			for _, f := range files {
				if err := s.Load(ctx, f); err != nil {
					return err
				}
			}
			r := s.Report(false)
			found = len(r.Findings)
			return r.Text(io.Discard, time.Now())
		}
	}
	alone, _, _, err := repeat(runs, scan(tracker))
	if err != nil {
		return nil, err
	}
	all, wall, peak, err := repeat(runs, scan(tracker, osv, cve))
	if err != nil {
		return nil, err
	}
	note := fmt.Sprintf("%d packages and a kernel; a tracker of %d MB, %d OSV and %d CVE records; %d findings", billPackages, info.Size()/1e6, osvRecords, cveRecords, found)
	return []Row{
		row("`mage vulns` with Debian's tracker", "CPU s", 10, alone, "data made for it, of the tracker's size"),
		row("`mage vulns` with tracker, OSV and CVE records", "CPU s", 10, all, note),
		row("`mage vulns` with tracker, OSV and CVE records", "s wall", 0, wall, ""),
		row("`mage vulns` with tracker, OSV and CVE records", "MiB", 0, peak, "peak of the process"),
	}, nil
}

// written makes a file.
func written(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	return errors.Join(write(w), w.Flush(), f.Close())
}

// writeTracker writes a tracker in the form of Debian's.
func writeTracker(w io.Writer) error {
	for i := range trackerSources + 1 {
		name, n, sep := fmt.Sprintf("source-%d", i), trackerEach, ","
		switch i {
		case 0:
			sep = "{"
		case trackerSources:
			name, n = "linux", trackerKernel
		}
		if _, err := fmt.Fprintf(w, "%s%q: {", sep, name); err != nil {
			return err
		}
		for j := range n {
			if j > 0 {
				sep = ","
			} else {
				sep = ""
			}
			if err := trackerEntry(w, sep, fmt.Sprintf("CVE-%d-%d", 2015+j%10, 1000+i+j*7), j); err != nil {
				return err
			}
		}
		if _, err := io.WriteString(w, "}\n"); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, "}")
	return err
}

func trackerEntry(w io.Writer, sep, id string, j int) error {
	type release struct {
		Status       string            `json:"status"`
		Repositories map[string]string `json:"repositories"`
		FixedVersion string            `json:"fixed_version,omitempty"`
		Urgency      string            `json:"urgency"`
	}
	releases := map[string]release{}
	for k, name := range []string{"bullseye", "bookworm", "trixie", "forky", "sid"} {
		r := release{"resolved", map[string]string{name: "1.0-1", name + "-security": "1.0-1+deb12u1"}, fmt.Sprintf("1.%d-1", (j+k)%5), "not yet assigned"}
		if (j+k)%9 == 0 {
			r.Status, r.FixedVersion = "open", ""
		}
		releases[name] = r
	}
	text, err := json.Marshal(map[string]any{"description": strings.Repeat("what can happen when ", 12), "scope": "remote", "debianbug": 1000 + j, "releases": releases})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n%q: %s", sep, id, text)
	return err
}

// records writes a zip with records.
func records(n int, text func(i int) string) func(io.Writer) error {
	return func(w io.Writer) error {
		z := zip.NewWriter(w)
		for i := range n {
			f, err := z.Create(fmt.Sprintf("%d.json", i))
			if err == nil {
				_, err = io.WriteString(f, text(i))
			}
			if err != nil {
				return err
			}
		}
		return z.Close()
	}
}

func osvRecord(i int) string {
	return fmt.Sprintf(`{"schema_version":"1.7.0","id":"GO-%d","modified":"2026-01-02T03:04:05Z","published":"2026-01-02T03:04:05Z","aliases":["CVE-2030-%d"],"summary":"what","details":%q,
	"affected":[{"package":{"ecosystem":"Go","name":"example.com/module-%d"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"fixed":"1.2.3"}]}],
	"ecosystem_specific":{"imports":[{"path":"example.com/x","symbols":["A","B"]}]},"versions":["1.0.0","1.1.0","1.2.0"]}],"references":[{"type":"WEB","url":"https://example.com/%d"}]}`,
		i, i, strings.Repeat("details of it ", 100), i%20_000, i)
}

func kernelRecord(i int) string {
	return fmt.Sprintf(`{"dataType":"CVE_RECORD","cveMetadata":{"cveId":"CVE-%d-%d","state":"PUBLISHED","dateUpdated":"2026-01-02T03:04:05Z"},"containers":{"cna":{"descriptions":[{"lang":"en","value":%q}],
	"affected":[{"vendor":"Linux","product":"Linux","defaultStatus":"affected","programFiles":["drivers/net/driver_%d.c"],"versions":[{"version":"4.14","status":"affected"},
	{"version":"6.1.155","lessThanOrEqual":"6.1.*","status":"unaffected","versionType":"semver"},{"version":"6.13","lessThanOrEqual":"*","status":"unaffected","versionType":"original_commit_for_fix"}]}]}}}`,
		2015+i%10, 1000+trackerSources+i*7, strings.Repeat("in the kernel ", 100), i%6000)
}

// imageBills are the bills of materials of an image with a kernel and a container.
func imageBills() []vulns.Part {
	kernel := sbom.Package{
		Name: "linux-image", Version: "6.1.153-1", SourceName: "linux", PURL: "pkg:deb/debian/linux-image@6.1.153-1?arch=arm64&distro=bookworm",
		CPE: "cpe:2.3:o:linux:linux_kernel:6.1.153:*:*:*:*:*:*:*",
	}
	for i := range 4000 {
		kernel.Paths = append(kernel.Paths, fmt.Sprintf("kernel/drivers/net/driver_%d.ko", i))
	}
	bsp, app := &sbom.Document{Name: "bsp"}, &sbom.Document{Name: "app"}
	bsp.AddPackage(kernel)
	for i := range billPackages {
		if i%5 == 0 {
			version := fmt.Sprintf("v1.%d.0", i%4)
			app.AddPackage(sbom.Package{Name: "module", Version: version, PURL: sbom.PURL("golang", "example.com", fmt.Sprintf("module-%d", i), version)})
			continue
		}
		p := sbom.Package{Name: fmt.Sprintf("binary-%d", i), SourceName: fmt.Sprintf("source-%d", i), Version: "1.2-1"}
		p.PURL = sbom.PURL("deb", "debian", p.Name, p.Version, "arch", "arm64", "distro", "bookworm")
		app.AddPackage(p)
	}
	return []vulns.Part{{Name: "image", Document: &sbom.Document{Name: "image"}}, {Name: "bsp", Document: bsp}, {Name: "app", Document: app}}
}
