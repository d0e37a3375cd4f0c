package gobinary

import (
	gobuild "go/build"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/spelling"
)

// Check reports a package that is missing or not a main package, before anything is
// compiled. The error names the nearest main packages.
func (s *Step) Check() error {
	name, err := s.packageName(s.Package)
	switch {
	case err != nil:
		return spelling.Unknown("package", s.Package, s.mains())
	case name != "main":
		return fault.New(fault.BadInput, "package %q: it is package %s and not a program: want package main", s.Package, name)
	}
	return nil
}

// packageName returns the name of the Go package in a directory of the module, as it is
// built for the step's architecture.
func (s *Step) packageName(dir string) (string, error) {
	c := gobuild.Default
	c.GOOS, c.GOARCH, c.CgoEnabled, c.BuildTags = "linux", s.Arch.Go, false, s.Tags
	p, err := c.ImportDir(filepath.Join(s.Module.Root(), filepath.FromSlash(dir)), 0)
	if p != nil && p.Name != "" {
		return p.Name, nil
	}
	return "", err
}

// mains returns the main packages below cmd/ and beside the wanted package.
func (s *Step) mains() []string {
	var out []string
	for _, dir := range []string{"cmd", path.Dir(s.Package)} {
		entries, err := os.ReadDir(filepath.Join(s.Module.Root(), filepath.FromSlash(dir)))
		if err != nil {
			continue // then there is nothing to suggest
		}
		for _, e := range entries {
			pkg := path.Join(dir, e.Name())
			if name, err := s.packageName(pkg); e.IsDir() && err == nil && name == "main" && !slices.Contains(out, pkg) {
				out = append(out, pkg)
			}
		}
	}
	return out
}
