package scan

import (
	"strings"

	"github.com/pantavisor/pantavisor/sbom"
)

// apk adds the packages that Alpine's package manager has installed (apk-tools: doc/apk-package.5,
// the installed database).
func (s *scanner) apk() error {
	for _, name := range []string{"lib/apk/db/installed", "usr/lib/apk/db/installed"} {
		text, there, err := s.database(name)
		if err != nil {
			return err
		}
		if there {
			return s.apkPackages(text, name)
		}
	}
	return nil
}

// apkPackages reads the database: lines of a letter, a colon and a value, packages separated by empty
// lines. What follows an F line is in that directory.
func (s *scanner) apkPackages(text, where string) error {
	fields := map[byte]string{}
	var files []string
	dir, count := "", 0
	flush := func() {
		if fields['P'] != "" {
			s.apkPackage(fields, files, where)
			count++
		}
		fields, files, dir = map[byte]string{}, nil, ""
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			flush()
			if err := s.ctx.Err(); err != nil {
				return err
			}
			if count > maxPackages {
				s.note("%s has more than %d packages: the others are not described", where, maxPackages)
				return nil
			}
			continue
		}
		if len(line) < 2 || line[1] != ':' {
			continue
		}
		switch value := line[2:]; line[0] {
		case 'F':
			dir = strings.Trim(value, "/")
		case 'R':
			files = append(files, join(dir, value))
		default:
			fields[line[0]] = value
		}
	}
	flush()
	return nil
}

func (s *scanner) apkPackage(fields map[byte]string, files []string, where string) {
	name, version := fields['P'], fields['V']
	p := sbom.Package{
		Name: name, Version: version, Purpose: sbom.Library, Supplier: s.distro.supplier(),
		PURL:     sbom.PURL("apk", s.distro.namespace("alpine"), name, version, "arch", fields['A'], "distro", s.distro.distro()),
		Declared: s.declared(name, apkLicence(fields['L'])),
	}
	if valid(fields['o']) {
		p.SourceName, p.SourceVersion = fields['o'], version
	}
	id := s.add(p, s.root, where)
	for _, f := range files {
		s.own(id, f)
	}
}

// apkLicence returns the licence for [scanner.declared]. Old packages list several with blanks.
func apkLicence(text string) string {
	words := strings.Fields(text)
	for _, w := range words {
		switch strings.ToLower(w) {
		case "and", "or", "with":
			return text
		}
	}
	return strings.Join(words, " and ")
}
