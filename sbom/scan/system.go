package scan

import (
	"strings"

	"github.com/pantavisor/pantavisor/sbom"
)

// osRelease is the operating system of a root file system (os-release(5)).
type osRelease struct {
	id, name, version, pretty, cpe string
}

// namespace is the operating system in package URLs.
func (o osRelease) namespace(other string) string {
	if o.id == "" {
		return other
	}
	return o.id
}

// distro is the qualifier of package URLs: debian-12.
func (o osRelease) distro() string {
	if o.id == "" || o.version == "" {
		return o.id
	}
	return o.id + "-" + o.version
}

// supplier is who distributes packages of the system.
func (o osRelease) supplier() string {
	if o.name == "" {
		return ""
	}
	return "Organization: " + o.name
}

// system reads os-release, and adds the operating system.
func (s *scanner) system() error {
	var text []byte
	var err error
	for _, name := range []string{"etc/os-release", "usr/lib/os-release"} {
		if text, err = s.document(name, maxDocument); err != nil || text != nil {
			break
		}
	}
	if err != nil || text == nil {
		return err
	}
	values := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && !strings.HasPrefix(name, "#") {
			values[name] = unquote(value)
		}
	}
	s.distro = osRelease{values["ID"], values["NAME"], values["VERSION_ID"], values["PRETTY_NAME"], values["CPE_NAME"]}
	if !valid(s.distro.id) {
		s.note("os-release: the ID %.100q is not valid", s.distro.id)
		s.distro = osRelease{}
		return nil
	}
	if s.distro.version != "" && !valid(s.distro.version) {
		s.note("os-release: the VERSION_ID %.100q is not valid", s.distro.version)
		s.distro.version = ""
	}
	if !printable(s.distro.name) {
		s.distro.name = ""
	}
	p := sbom.Package{
		Name: s.distro.id, Version: s.distro.version, Purpose: sbom.OperatingSystem, Supplier: s.distro.supplier(),
		PURL: sbom.PURL("generic", "", s.distro.id, s.distro.version),
	}
	if strings.HasPrefix(s.distro.cpe, "cpe:2.3:") && valid(s.distro.cpe) {
		p.CPE = s.distro.cpe
	}
	if printable(s.distro.pretty) {
		p.Comment = s.distro.pretty
	}
	s.add(p, s.root, "os-release")
	return nil
}

// printable reports whether a text of one line can be shown as it is.
func printable(s string) bool { return s != "" && valid(strings.ReplaceAll(s, " ", "")) }

// unquote removes what a shell would: quotes, and backslashes in double ones.
func unquote(value string) string {
	if len(value) < 2 || value[0] != value[len(value)-1] {
		return value
	}
	switch value[0] {
	case '\'':
		return value[1 : len(value)-1]
	case '"':
		return strings.NewReplacer(`\"`, `"`, `\$`, `$`, "\\`", "`", `\\`, `\`).Replace(value[1 : len(value)-1])
	}
	return value
}
