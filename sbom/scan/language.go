package scan

import (
	"encoding/json"
	"path"
	"regexp"
	"strings"

	"github.com/pantavisor/pantavisor/sbom"
)

// python adds the packages of Python: NAME-VERSION.dist-info/METADATA (Core metadata specifications),
// and the older NAME.egg-info, a directory with PKG-INFO or a file.
func (s *scanner) python() error {
	for i := range s.files.entries {
		e := &s.files.entries[i]
		if !e.mode.IsRegular() {
			continue
		}
		dir, base := split(e.name)
		switch {
		case base == "METADATA" && strings.HasSuffix(dir, ".dist-info"), base == "PKG-INFO" && strings.HasSuffix(dir, ".egg-info"):
		case strings.HasSuffix(base, ".egg-info"):
			dir = e.name
		default:
			continue
		}
		if err := s.pythonPackage(e.name, dir); err != nil {
			return err
		}
	}
	return nil
}

// separators are those that names of packages of Python are free in (Simple repository API, normalized
// names).
var separators = regexp.MustCompile(`[-_.]+`)

func (s *scanner) pythonPackage(name, dir string) error {
	text, err := s.document(name, maxDocument)
	if err != nil || text == nil {
		return err
	}
	m := metadata(string(text))
	if m["name"] == "" {
		return nil // a file of another kind
	}
	normal := strings.ToLower(separators.ReplaceAllString(m["name"], "-"))
	licence := m["license-expression"]
	if licence == "" {
		licence = m["license"]
	}
	if licence == "" || strings.EqualFold(licence, "unknown") {
		licence = classified[m["classifier"]]
	}
	in := s.container(name)
	id := s.add(sbom.Package{
		Name: m["name"], Version: m["version"], Purpose: sbom.Library, PURL: sbom.PURL("pypi", "", normal, m["version"]),
		Declared: s.declared(m["name"], licence), Paths: []string{s.prefix + shown(name)},
	}, in, name)
	if id == "" || in != s.root {
		return nil
	}
	return s.pythonFiles(id, dir)
}

// pythonFiles reads which files a package has: RECORD, CSV with paths relative to the directory above, or
// installed-files.txt of the older form, relative to its own.
func (s *scanner) pythonFiles(id, dir string) error {
	parent, _ := split(dir)
	if _, ok := s.files.at[dir]; ok {
		s.below[dir] = id
	}
	s.own(id, dir)
	lines, err := s.list(dir + "/RECORD")
	if err != nil {
		return err
	}
	for _, line := range lines {
		field := line
		if rest, quoted := strings.CutPrefix(line, `"`); quoted {
			field, _, _ = strings.Cut(rest, `"`)
		} else if i := strings.IndexByte(line, ','); i >= 0 {
			field = line[:i]
		}
		s.ownRelative(id, parent, strings.TrimRight(field, "\r"))
	}
	lines, err = s.list(dir + "/installed-files.txt")
	for _, line := range lines {
		s.ownRelative(id, dir, strings.TrimRight(line, "\r"))
	}
	return err
}

func (s *scanner) ownRelative(id, dir, name string) {
	if name == "" || len(name) > maxPath {
		return
	}
	if !path.IsAbs(name) {
		name = path.Join("/", dir, name)
	}
	s.own(id, path.Clean(name))
}

// classified are licences by the classifiers of packages (https://pypi.org/classifiers) that name one
// licence.
var classified = map[string]string{
	"License :: OSI Approved :: MIT License":                                             "MIT",
	"License :: OSI Approved :: Apache Software License":                                 "Apache-2.0",
	"License :: OSI Approved :: ISC License (ISCL)":                                      "ISC",
	"License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)":                    "MPL-2.0",
	"License :: OSI Approved :: Python Software Foundation License":                      "PSF-2.0",
	"License :: OSI Approved :: GNU General Public License v2 (GPLv2)":                   "GPL-2.0-only",
	"License :: OSI Approved :: GNU General Public License v2 or later (GPLv2+)":         "GPL-2.0-or-later",
	"License :: OSI Approved :: GNU General Public License v3 (GPLv3)":                   "GPL-3.0-only",
	"License :: OSI Approved :: GNU General Public License v3 or later (GPLv3+)":         "GPL-3.0-or-later",
	"License :: OSI Approved :: GNU Lesser General Public License v3 (LGPLv3)":           "LGPL-3.0-only",
	"License :: OSI Approved :: GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
}

// metadata reads the header of a file with metadata. Of the classifiers it keeps one about the licence.
func metadata(text string) map[string]string {
	out := map[string]string{}
	last := ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			break
		}
		if line[0] == ' ' || line[0] == '\t' {
			if last == "license" {
				out[last] += "\n" + strings.TrimSpace(line)
			}
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		last, value = strings.ToLower(name), strings.TrimSpace(value)
		if _, again := out[last]; last == "classifier" && classified[value] == "" || again {
			last = ""
			continue
		}
		out[last] = value
	}
	return out
}

// npm adds the packages of npm: package.json in node_modules/NAME and node_modules/@SCOPE/NAME.
func (s *scanner) npm() error {
	for i := range s.files.entries {
		e := &s.files.entries[i]
		dir, base := split(e.name)
		if base != "package.json" || !e.mode.IsRegular() || !isModule(dir) {
			continue
		}
		if err := s.npmPackage(e.name, dir); err != nil {
			return err
		}
	}
	return nil
}

// isModule reports whether a directory is that of a package.
func isModule(dir string) bool {
	parent, name := split(dir)
	above, last := split(parent)
	if strings.HasPrefix(last, "@") {
		_, last = split(above)
	}
	return last == "node_modules" && name != "" && !strings.HasPrefix(name, ".")
}

// packageJSON is what is used of a package.json (docs.npmjs.com, package.json).
type packageJSON struct {
	Name     string          `json:"name"`
	Version  string          `json:"version"`
	License  json.RawMessage `json:"license"`
	Licenses json.RawMessage `json:"licenses"`
}

func (s *scanner) npmPackage(name, dir string) error {
	text, err := s.document(name, maxDocument)
	if err != nil || text == nil {
		return err
	}
	var m packageJSON
	if err := json.Unmarshal(text, &m); err != nil {
		s.note("%s is not valid: %.200v", name, err)
		return nil
	}
	if m.Name == "" || m.Version == "" {
		return nil // it only says how files are to be read
	}
	scope, base := split(m.Name)
	in := s.container(name)
	id := s.add(sbom.Package{
		Name: m.Name, Version: m.Version, Purpose: sbom.Library, PURL: sbom.PURL("npm", scope, base, m.Version),
		Declared: s.declared(m.Name, m.licence()), Paths: []string{s.prefix + shown(name)},
	}, in, name)
	if id != "" {
		// Also where another package manager has installed it: npm updates itself in place.
		s.below[dir] = id
	}
	return nil
}

// licence returns the licence: an expression, or the older forms, an object with the type or a list of
// them.
func (m *packageJSON) licence() string {
	type object struct {
		Type string `json:"type"`
	}
	var text string
	var one object
	var list []object
	for _, raw := range []json.RawMessage{m.License, m.Licenses} {
		switch {
		case len(raw) == 0:
		case json.Unmarshal(raw, &text) == nil:
			if rest, ok := strings.CutPrefix(text, "SEE LICENSE IN "); ok {
				return "see " + rest
			}
			return text
		case json.Unmarshal(raw, &one) == nil:
			return one.Type
		case json.Unmarshal(raw, &list) == nil:
			var names []string
			for _, o := range list {
				names = append(names, o.Type)
			}
			return strings.Join(names, " or ")
		}
	}
	return ""
}
