package scan

import (
	"cmp"
	"path"
	"strings"

	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/copyright"
)

// Where dpkg keeps its data.
const (
	dpkgDir    = "var/lib/dpkg"
	dpkgStatus = dpkgDir + "/status"
	// dpkgParts has the paragraph of each package in a file of its own, with its list in NAME.md5sums:
	// images without a package manager have that.
	dpkgParts = dpkgDir + "/status.d"
)

// dpkg adds the packages that dpkg has installed.
func (s *scanner) dpkg() error {
	text, there, err := s.database(dpkgStatus)
	if err != nil {
		return err
	}
	ids := map[string]string{} // by NAME and NAME:ARCH
	if there {
		if err := s.paragraphs(text, dpkgStatus, func(p map[string]string) error { return s.debian(p, ids, dpkgStatus) }); err != nil {
			return err
		}
	}
	for _, e := range s.files.in(dpkgParts) {
		if path.Ext(e.name) == ".md5sums" || !e.mode.IsRegular() {
			continue
		}
		text, _, err := s.database(e.name)
		if err != nil {
			return err
		}
		err = s.paragraphs(text, e.name, func(p map[string]string) error {
			p["status"] = "install ok installed"
			return s.debian(p, ids, e.name)
		})
		if err != nil {
			return err
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return s.dpkgFiles(ids)
}

// debian adds the package of a paragraph.
func (s *scanner) debian(p map[string]string, ids map[string]string, where string) error {
	if !installed(p["status"]) {
		return nil
	}
	name, version, arch := p["package"], p["version"], p["architecture"]
	source, sourceVersion := debianSource(p)
	declared, holders, err := s.copyright(name, source)
	if err != nil {
		return err
	}
	d := s.distro.namespace("debian")
	id := s.add(sbom.Package{
		Name: name, Version: version, Purpose: sbom.Library, Supplier: s.distro.supplier(), SourceName: source, SourceVersion: sourceVersion,
		PURL:     sbom.PURL("deb", d, name, version, "arch", arch, "distro", s.distro.distro()),
		Declared: declared, Copyright: holders,
	}, s.root, where)
	for _, key := range []string{name, name + ":" + arch} {
		if ids[key] == "" {
			ids[key] = id
		}
	}
	return nil
}

// installed reports whether files of a package are there: "install ok installed", and states on the way
// there (dpkg(1), package states).
func installed(status string) bool {
	words := strings.Fields(status)
	if len(words) != 3 {
		return false
	}
	switch words[2] {
	case "not-installed", "config-files":
		return false
	}
	return true
}

// debianSource returns the source package. "Source: NAME (VERSION)" has only what differs from the package.
func debianSource(p map[string]string) (name, version string) {
	name, version, _ = strings.Cut(p["source"], " ")
	version = strings.Trim(version, "() ")
	if !valid(name) {
		name = ""
	}
	if !valid(version) {
		version = ""
	}
	return cmp.Or(name, p["package"]), cmp.Or(version, p["version"])
}

// copyright returns the licence of a Debian package, which is often not there in small images.
func (s *scanner) copyright(name, source string) (declared, holders string, err error) {
	if !valid(name) || strings.Contains(name, "/") {
		return "", "", nil
	}
	e := s.files.find("usr/share/doc/" + name + "/copyright")
	if e == nil {
		return "", "", nil
	}
	// Packages of one source share the text, and small ones link to the directory of another.
	c := s.copyrights[e.name]
	if c == nil {
		text, err := s.document(e.name, copyright.MaxSize)
		if err != nil {
			return "", "", err
		}
		if c, err = copyright.Parse(source, text); err != nil {
			s.note("%s: %v", e.name, err)
			c = &copyright.Copyright{}
		}
		s.copyrights[e.name] = c
	}
	s.refer(c.Licences)
	return c.Expression, c.Holders, nil
}

// dpkgFiles reads the lists of files.
func (s *scanner) dpkgFiles(ids map[string]string) error {
	moved, err := s.diversions()
	if err != nil {
		return err
	}
	err = s.info(dpkgDir, ids, func(id, name string) {
		if to := moved[name]; to != "" && ids[to] != id {
			name = moved["\x00"+name]
		}
		s.own(id, name)
	})
	if err != nil {
		return err
	}
	for _, e := range s.files.in(dpkgParts) {
		base := path.Base(e.name)
		id := ids[strings.TrimSuffix(base, ".md5sums")]
		s.own(id, e.name)
		if path.Ext(base) != ".md5sums" || id == "" {
			continue
		}
		lines, err := s.list(e.name)
		if err != nil {
			return err
		}
		for _, line := range lines {
			if _, name, ok := strings.Cut(line, "  "); ok {
				s.own(id, name)
			}
		}
	}
	return nil
}

// diversions returns the packages that diverted files of others, by path, and under the path with a NUL
// before it where the file of the others is (dpkg-divert(1): three lines each).
func (s *scanner) diversions() (map[string]string, error) {
	lines, err := s.list(dpkgDir + "/diversions")
	moved := map[string]string{}
	for i := 0; i+2 < len(lines); i += 3 {
		moved[lines[i]], moved["\x00"+lines[i]] = lines[i+2], lines[i+1]
	}
	return moved, err
}

// opkg adds the packages that opkg has installed.
func (s *scanner) opkg() error {
	for _, dir := range []string{"usr/lib/opkg", "var/lib/opkg"} {
		text, there, err := s.database(dir + "/status")
		if err != nil {
			return err
		}
		if !there {
			continue
		}
		ids := map[string]string{}
		err = s.paragraphs(text, dir+"/status", func(p map[string]string) error { return s.opkgPackage(p, ids, dir) })
		if err != nil {
			return err
		}
		if err := s.opkgFiles(ids, dir); err != nil {
			return err
		}
	}
	return nil
}

// opkgPackage adds one package.
func (s *scanner) opkgPackage(p, ids map[string]string, dir string) error {
	name, version := p["package"], p["version"]
	if !installed(p["status"]) {
		return nil
	}
	if err := s.opkgControl(p, dir+"/info/"+name+".control"); err != nil {
		return err
	}
	// Source is the recipe's file in Yocto: zlib_1.3.bb.
	source, _, _ := strings.Cut(strings.TrimSuffix(p["source"], ".bb"), "_")
	if !valid(source) {
		source = ""
	}
	ids[name] = s.add(sbom.Package{
		Name: name, Version: version, Purpose: sbom.Library, Supplier: s.distro.supplier(), SourceName: source,
		PURL:     sbom.PURL("opkg", s.distro.namespace(""), name, version, "arch", p["architecture"], "distro", s.distro.distro()),
		Declared: s.declared(name, p["license"]),
	}, s.root, dir+"/status")
	return nil
}

// opkgControl adds the fields of a package's own control file, which has more of them than the status.
func (s *scanner) opkgControl(p map[string]string, name string) error {
	text, err := s.document(name, maxDocument)
	if err != nil {
		return err
	}
	return s.paragraphs(string(text), name, func(control map[string]string) error {
		for field, value := range control {
			p[field] = cmp.Or(p[field], value)
		}
		return nil
	})
}

// opkgFiles reads the lists of files: names, or with a tab the mode and target of a link behind them.
func (s *scanner) opkgFiles(ids map[string]string, dir string) error {
	return s.info(dir, ids, func(id, line string) {
		file, _, _ := strings.Cut(line, "\t")
		s.own(id, file)
	})
}

// info reads what dpkg or opkg keeps of packages, as their scripts, which is of the package: files
// NAME[:ARCH].KIND. It calls do for the lines of the lists of files.
func (s *scanner) info(dir string, ids map[string]string, do func(id, line string)) error {
	for _, e := range s.files.in(dir + "/info") {
		base := path.Base(e.name)
		kind := path.Ext(base)
		id := ids[strings.TrimSuffix(base, kind)]
		s.own(id, e.name)
		if kind != ".list" || id == "" {
			continue
		}
		lines, err := s.list(e.name)
		if err != nil {
			return err
		}
		for _, line := range lines {
			do(id, line)
		}
	}
	return nil
}

// wanted are the fields that are used, in lower case.
var wanted = map[string]bool{"package": true, "status": true, "version": true, "architecture": true, "source": true, "license": true}

// paragraphs calls do for each paragraph of a database in the form of Debian's control files (deb822(5))
// with the fields that are used, until there are too many.
func (s *scanner) paragraphs(text, where string, do func(map[string]string) error) error {
	fields, count := map[string]string{}, 0
	flush := func() error {
		if len(fields) == 0 {
			return nil
		}
		p := fields
		fields = map[string]string{}
		count++
		return do(p)
	}
	for line := range strings.Lines(text) {
		if count > maxPackages {
			s.note("%s has more than %d packages: the others are not described", where, maxPackages)
			return nil
		}
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) == "" {
			if err := flush(); err != nil {
				return err
			}
			if err := s.ctx.Err(); err != nil {
				return err
			}
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if name = strings.ToLower(name); ok && wanted[name] {
			fields[name] = strings.TrimSpace(value)
		}
	}
	return flush()
}
