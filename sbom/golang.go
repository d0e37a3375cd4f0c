package sbom

import (
	"path"
	"runtime/debug"
	"strings"
)

// GoModule describes a module that a Go program was built of: the one in whose place another was put
// is not in it. A module of a working copy, "(devel)" or a directory on the build machine, has no version.
func GoModule(m *debug.Module) Package {
	if m.Replace != nil && m.Replace.Version != "" {
		m = m.Replace
	}
	version := m.Version
	if strings.HasPrefix(version, "(") || m.Replace != nil {
		version = ""
	}
	p := Package{Name: m.Path, Version: version, Purpose: Library, PURL: GoPURL(m.Path, version)}
	switch {
	case m.Replace != nil:
		p.Comment = "a directory on the build machine is in the place of its " + m.Version
	case m.Sum != "":
		p.Comment = "go.sum: " + m.Sum
	}
	return p
}

// GoProgram returns the package URL of a program, whose import path is that of its module or below it.
func GoProgram(module, version, program string) string {
	purl := GoPURL(module, version)
	if below, ok := strings.CutPrefix(program, module+"/"); ok {
		purl += "#" + below
	}
	return purl
}

// GoStandardLibrary describes the standard library of a release of Go, as programs and
// runtime.Version have it: "go1.26.0 X:nodwarf5".
func GoStandardLibrary(release string) Package {
	version := GoRelease(release)
	return Package{Name: "stdlib", Version: version, Purpose: Library, PURL: GoPURL("stdlib", version), Declared: "BSD-3-Clause"}
}

// GoRelease returns the number of a release of Go, without the settings of the tool chain behind it.
func GoRelease(release string) string {
	number, _, _ := strings.Cut(strings.TrimPrefix(release, "go"), " ")
	return number
}

// GoPURL returns the package URL of a Go module (purl-spec: types/golang).
func GoPURL(module, version string) string {
	namespace, name := path.Split(module)
	return PURL("golang", namespace, name, version)
}
