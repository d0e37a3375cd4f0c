package debian

import (
	"cmp"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/pantavisor/pantavisor/debian/deb"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/sbom"
)

// Licence returns the path, in the package, of the text that says under which licences it is (Debian
// Policy 12.5).
func (f *Fetch) Licence() string { return path.Join("usr/share/doc", f.Entry.Package, "copyright") }

// Supply describes the package for a bill of materials. fetched is the output of the step, unpacked a
// directory with files of the package at their own paths: where Licence is not there, because a
// package shares the directory of another one, the licence is not known.
func (f *Fetch) Supply(fetched, unpacked string) ([]sbom.Supply, error) {
	p, err := f.billed(fetched)
	if err != nil {
		return nil, err
	}
	s := sbom.Supply{Package: p, Tree: true}
	if info, err := os.Lstat(filepath.Join(unpacked, filepath.FromSlash(f.Licence()))); err == nil && info.Mode().IsRegular() {
		s.Licence = f.Licence()
	}
	return []sbom.Supply{s}, nil
}

// binaryUpload is the suffix of a package that was built again from the same source (Debian
// Developer's Reference 5.10.2.1).
var binaryUpload = regexp.MustCompile(`\+b[0-9]+$`)

// Bill returns the package for a bill of materials, as far as it is known without the package itself.
func (e Entry) Bill() sbom.Package {
	return sbom.Package{
		Name: e.Package, Version: e.Version, Purpose: sbom.Archive, PURL: e.purl(), Supplier: "Organization: Debian",
		SourceName:    path.Base(path.Dir(e.Path)), // the archive's directories are those of source packages
		SourceVersion: binaryUpload.ReplaceAllString(e.Version, ""), FileName: path.Base(e.Path), SHA256: e.SHA256,
	}
}

// billed returns the package with what its control file says of the source.
func (f *Fetch) billed(fetched string) (sbom.Package, error) {
	e := f.Entry
	file, err := os.Open(filepath.Join(fetched, packageFile))
	if err != nil {
		return sbom.Package{}, fault.Wrap(fault.IO, err, "reading %s", e)
	}
	defer file.Close()
	fields, err := deb.Control(file)
	if err != nil {
		return sbom.Package{}, fault.Wrap(fault.BadInput, err, "reading %s", e)
	}
	// Source: NAME (VERSION), both only where they differ from those of the package.
	name, version, _ := strings.Cut(fields["Source"], " ")
	p := e.Bill()
	p.SourceName, p.SourceVersion = cmp.Or(name, e.Package), cmp.Or(strings.Trim(version, "()"), p.SourceVersion)
	return p, nil
}

// purl returns the package URL (purl-spec: types/deb).
func (e Entry) purl() string {
	return sbom.PURL("deb", "debian", e.Package, e.Version, "arch", e.Arch, "distro", e.Suite)
}
