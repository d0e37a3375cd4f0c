package gobinary

import (
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/build/gosource"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/licences"
	"github.com/pantavisor/pantavisor/sbom"
)

// licencesFile in the output has the licences of the modules that the program is made of, by import
// path: it is made while the modules are there.
const licencesFile = "licences.json"

// maxLicences bounds that file, in bytes.
const maxLicences = 1 << 20

// writeLicences writes the licences of a program's modules beside it.
func (s *Step) writeLicences(program, to string) error {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "reading what %s is made of", s.binary())
	}
	found := map[string]string{}
	own, err := licences.Expression(s.Module.Root())
	if err != nil {
		return err
	}
	found[info.Main.Path] = own
	for _, m := range info.Deps {
		if found[m.Path], err = s.licence(m); err != nil {
			return fault.Wrap(fault.IO, err, "looking for the licence of %s", m.Path)
		}
	}
	text, err := json.Marshal(found)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "writing the licences of %s", s.binary())
	}
	return os.WriteFile(to, text, 0o644)
}

// licence returns the licence expression of a module, "" when it is not known.
func (s *Step) licence(m *debug.Module) (string, error) {
	name, version := m.Path, m.Version
	if m.Replace != nil {
		name, version = m.Replace.Path, m.Replace.Version
	}
	dirs := []string{filepath.Join(s.Module.Root(), "vendor", filepath.FromSlash(m.Path))}
	if version == "" { // a directory beside the module
		dirs = append(dirs, filepath.Join(s.Module.Root(), filepath.FromSlash(name)), name)
	} else if dir := gosource.Downloaded(name, version); dir != "" {
		dirs = append(dirs, dir)
	}
	for _, dir := range dirs {
		text, err := licences.Expression(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		return text, err
	}
	return "", nil
}

// Supplies is the program, with the modules that it is made of.
func (s *Step) Supplies(in func(build.Step) string) ([]sbom.Supply, error) {
	var found map[string]string
	text, err := bounded.ReadRegular(filepath.Join(in(s), licencesFile), maxLicences)
	if err == nil {
		err = json.Unmarshal(text, &found)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "reading the licences of %s", s.binary())
	}
	p := sbom.Package{Name: s.binary(), Version: ReleaseName(s.Release), Purpose: sbom.Application}
	return []sbom.Supply{{Package: p, Program: s.File(), Licences: found}}, nil
}
