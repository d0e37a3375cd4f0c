package scan

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/scan/rpmdb"
)

// rpmDirs are where rpm has its database; the later ones are links to the first in some systems.
var rpmDirs = []string{"usr/lib/sysimage/rpm", "var/lib/rpm", "usr/share/rpm"}

// rpmFiles are the names of the database, by form.
var rpmFiles = []string{"rpmdb.sqlite", "Packages.db", "Packages"}

// maxRPM bounds the database, in bytes.
const maxRPM = 1 << 30

// rpm adds the packages that rpm has installed.
func (s *scanner) rpm() error {
	for _, dir := range rpmDirs {
		for _, name := range rpmFiles {
			e := s.files.find(join(dir, name))
			if e == nil || e.size == 0 {
				continue
			}
			if wal := s.files.find(join(dir, name+"-wal")); wal != nil && wal.size > 0 {
				s.note("%s: the last changes are in %s, which is not read", e.name, wal.name)
			}
			return s.rpmDatabase(e)
		}
	}
	return nil
}

// rpmDatabase reads a database. One that is damaged is a note.
func (s *scanner) rpmDatabase(e *entry) error {
	if e.size > maxRPM {
		s.note("%s has %d bytes, more than %d: its packages are not described", e.name, e.size, maxRPM)
		return nil
	}
	r, at, err := e.random()
	if errors.As(err, new(bounded.LimitError)) {
		s.note("%s has %d bytes: its packages are not described", e.name, e.size)
		return nil
	}
	if err != nil {
		return err
	}
	defer r.Close()
	count := 0
	err = rpmdb.Read(at, e.size, func(p *rpmdb.Package) error {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		if count++; count > maxPackages {
			return errEnough
		}
		s.rpmPackage(p, e.name)
		return nil
	})
	if errors.Is(err, errEnough) {
		s.note("%s has more than %d packages: the others are not described", e.name, maxPackages)
		return nil
	}
	if err != nil && s.ctx.Err() == nil {
		s.note("%s: %v; %d packages were read", e.name, err, count)
		return nil
	}
	return err
}

func (s *scanner) rpmPackage(p *rpmdb.Package, where string) {
	if p.Name == "gpg-pubkey" {
		return // a key that rpm keeps as a package
	}
	version, epoch := p.Full(), ""
	if p.Epoch >= 0 {
		epoch = strconv.FormatInt(p.Epoch, 10)
	}
	supplier := s.distro.supplier()
	if printable(p.Vendor) {
		supplier = "Organization: " + p.Vendor
	}
	d := sbom.Package{
		Name: p.Name, Version: version, Purpose: sbom.Library, Supplier: supplier,
		PURL: sbom.PURL("rpm", s.distro.namespace(""), p.Name, version,
			"arch", p.Arch, "distro", s.distro.distro(), "epoch", epoch),
		Declared: s.declared(p.Name, p.Licence),
	}
	if name, sourceVersion := rpmSource(p.SourceName); valid(name) && valid(sourceVersion) {
		d.SourceName, d.SourceVersion = name, sourceVersion
	}
	id := s.add(d, s.root, where)
	for _, f := range p.Files {
		s.own(id, f)
	}
}

// rpmSource splits NAME-VERSION-RELEASE.src.rpm.
func rpmSource(file string) (name, version string) {
	file, ok := strings.CutSuffix(strings.TrimSuffix(file, ".rpm"), ".src")
	if !ok {
		return "", ""
	}
	release := strings.LastIndexByte(file, '-')
	if release < 0 {
		return "", ""
	}
	at := strings.LastIndexByte(file[:release], '-')
	if at < 0 {
		return "", ""
	}
	return file[:at], file[at+1:]
}

// random opens a file for reading anywhere in it. One that can only be read from its start is read into
// memory, up to a limit.
func (e *entry) random() (io.Closer, io.ReaderAt, error) {
	r, err := e.open()
	if err != nil {
		return nil, nil, fmt.Errorf("reading %.200q: %w", e.name, err)
	}
	if at, ok := r.(io.ReaderAt); ok {
		return r, at, nil
	}
	data, err := bounded.ReadSized(r, min(e.size, maxSpooled), maxSpooled)
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, nil, fmt.Errorf("reading %.200q: %w", e.name, err)
	}
	return io.NopCloser(nil), bytes.NewReader(data), nil
}
