package containers

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/archive"
	"github.com/pantavisor/pantavisor/sbom/container"
)

// indexName is the name of the index of packages in their directory.
const indexName = "packages.json"

// Suffixes of a package and of its bill of materials.
const (
	exportSuffix = ".tgz"
	billSuffix   = ".spdx.json"
)

// indexSpec is the version of the index.
const indexSpec = "pantavisor-packages@1"

// maxIndex bounds an index, in bytes.
const maxIndex = 64 << 20

// Package is an entry of an index: an export for one platform.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	// Build tells builds of a version apart.
	Build string `json:"build,omitempty"`
	// Arch is the name of the platform in names of files, as arm64v8; Platform that for images.
	Arch     string `json:"arch"`
	Platform string `json:"platform"`
	// URL is relative to that of the index.
	URL    string `json:"url"`
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
	// Containers are the parts in it.
	Containers []string `json:"containers,omitempty"`
	// Signed is set when each of the parts has a signature.
	Signed bool `json:"signed,omitempty"`
	// Created is the time of its source.
	Created time.Time `json:"created,omitzero"`
	// SBOM is its bill of materials, SPDX 2.3 as JSON; may be nil.
	SBOM *File `json:"sbom,omitempty"`
}

// File is a file beside an index.
type File struct {
	URL    string `json:"url"`
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

// index is packages.json.
type index struct {
	Spec     string    `json:"#spec"`
	Packages []Package `json:"packages"`
}

// parseIndex reads an index.
func parseIndex(text []byte) ([]Package, error) {
	var x index
	if err := json.Unmarshal(text, &x); err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading the index of packages")
	}
	if x.Spec != indexSpec {
		return nil, fault.New(fault.BadInput, "reading the index of packages: \"#spec\" is %q, want %q", x.Spec, indexSpec)
	}
	for _, p := range x.Packages {
		if p.Name == "" || p.URL == "" || len(p.SHA256) != 2*sha256.Size {
			return nil, fault.New(fault.BadInput, "reading the index of packages: entry %q lacks its name, url or sha256", p.Name+p.URL)
		}
	}
	return x.Packages, nil
}

// readIndex reads the index in a file; nothing when there is none.
func readIndex(path string) ([]Package, error) {
	text, err := bounded.ReadRegular(path, maxIndex)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "reading the index of packages")
	}
	return parseIndex(text)
}

// encodeIndex returns the text of an index, entries sorted.
func encodeIndex(list []Package) ([]byte, error) {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b Package) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Build, b.Build), cmp.Compare(a.Arch, b.Arch), cmp.Compare(a.URL, b.URL))
	})
	text, err := json.MarshalIndent(index{indexSpec, append([]Package{}, list...)}, "", "  ")
	return append(text, '\n'), fault.Wrap(fault.Internal, err, "writing the index of packages")
}

// join returns a list with those of another one, which take the place of entries with the same URL.
func join(old, more []Package) []Package {
	out := slices.DeleteFunc(slices.Clone(old), func(p Package) bool {
		return slices.ContainsFunc(more, func(m Package) bool { return m.URL == p.URL })
	})
	return append(out, more...)
}

// IndexOptions say of what an index is made.
type IndexOptions struct {
	// Dir has the packages, and gets the index.
	Dir string
	// Base is put before the names of files; default nothing, so that they are relative to the index.
	Base string
	// Warn is called for files that are not in the index, and why. May be nil.
	Warn func(file string, why error)
}

// MakeIndex writes the index of the packages in a directory. Packages that it had and that have not changed
// keep what the index says of them, others are told by their names and their content.
func MakeIndex(ctx context.Context, o IndexOptions) ([]Package, error) {
	if err := checkBase(o.Base); err != nil {
		return nil, err
	}
	list, err := listPackages(ctx, o)
	if err != nil {
		return nil, err
	}
	text, err := encodeIndex(list)
	if err != nil {
		return nil, err
	}
	return list, atomicfile.Write(filepath.Join(o.Dir, indexName), text, 0o644)
}

// listPackages returns the packages of a directory.
func listPackages(ctx context.Context, o IndexOptions) ([]Package, error) {
	old, err := readIndex(filepath.Join(o.Dir, indexName))
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(o.Dir)
	if err != nil {
		return nil, fault.Wrap(fault.Missing, err, "looking for packages")
	}
	var list []Package
	for _, e := range entries {
		if !e.Type().IsRegular() || !strings.HasSuffix(e.Name(), exportSuffix) || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		p, err := describePackage(ctx, o.Dir, e.Name(), old)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil && o.Warn == nil:
			continue
		case err != nil:
			o.Warn(e.Name(), err)
			continue
		}
		p.URL = o.Base + p.URL
		if p.SBOM != nil {
			p.SBOM.URL = o.Base + p.SBOM.URL
		}
		list = append(list, *p)
	}
	return list, nil
}

// checkBase checks what is put before names.
func checkBase(base string) error {
	if base == "" {
		return nil
	}
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || !strings.HasSuffix(base, "/") {
		return fault.New(fault.BadInput, "URL %q: an http or https URL that ends in a slash is expected", base)
	}
	return nil
}

// describePackage returns what an index says of a file.
func describePackage(ctx context.Context, dir, name string, old []Package) (*Package, error) {
	f, err := digest(ctx, filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(old, func(p Package) bool { return p.SHA256 == f.SHA256 && baseName(p.URL) == name })
	p := &Package{}
	if at >= 0 {
		*p = old[at]
	} else if p, err = readPackage(ctx, dir, name); err != nil {
		return nil, err
	}
	p.URL, p.SHA256, p.Size = name, f.SHA256, f.Size
	beside := strings.TrimSuffix(name, exportSuffix) + billSuffix
	p.SBOM, err = digest(ctx, filepath.Join(dir, beside))
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	return p, err
}

func baseName(u string) string { return u[strings.LastIndexByte(u, '/')+1:] }

// usualName is that of a package, NAME-VERSION-BUILD, as packages of container-ci have it. The sample of
// the article has one number in BUILD where its text says two.
var usualName = regexp.MustCompile(`^(.+?)-(v?[0-9][0-9A-Za-z._+~]*(?:-[a-z][0-9A-Za-z.]*)*)-((?:[0-9]+-){1,2}g[0-9a-f]{4,64})$`)

// readPackage tells a package by its name and its state.
func readPackage(ctx context.Context, dir, name string) (*Package, error) {
	stem := strings.TrimSuffix(name, exportSuffix)
	dot := strings.LastIndexByte(stem, '.')
	platform, ok := ofDirectory(stem[dot+1:])
	if dot < 0 || !ok {
		return nil, fault.New(fault.BadInput, "its name does not end in .ARCH%s, ARCH a platform as arm64v8", exportSuffix)
	}
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "reading the package")
	}
	defer f.Close()
	st, err := archive.ReadState(ctx, f)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading the package")
	}
	p := &Package{Arch: platform.Dir, Platform: platform.Docker, Containers: container.Software(st)}
	p.Signed = len(p.Containers) > 0
	for _, c := range p.Containers {
		if _, ok := st.Get("_sigs/" + c + ".json"); !ok {
			p.Signed = false
		}
	}
	if m := usualName.FindStringSubmatch(stem[:dot]); m != nil {
		p.Name, p.Version, p.Build = m[1], m[2], m[3]
		return p, nil
	}
	p.Name = stem[:dot]
	for _, c := range p.Containers {
		if version, ok := strings.CutPrefix(p.Name, c+"-"); ok {
			p.Name, p.Version = c, version
		}
	}
	return p, nil
}

// digest returns the name, SHA-256 and size of a file.
func digest(ctx context.Context, path string) (*File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "calculating a digest")
	}
	sum, err := build.SumFile(ctx, path)
	return &File{URL: filepath.Base(path), SHA256: sum, Size: info.Size()}, fault.Wrap(fault.IO, err, "calculating a digest")
}
