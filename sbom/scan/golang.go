package scan

import (
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"path"
	"runtime/debug"
	"strings"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/sbom"
)

const (
	// minProgram is the smallest Go program, in bytes: the runtime alone is larger.
	minProgram = 256 << 10
	maxProgram = 1 << 30
	// maxSpooled bounds a program that can only be read from its start, in bytes.
	maxSpooled = 128 << 20
	maxModules = 10_000 // of one program
)

// golang adds the modules of Go programs, from the build information in them. Programs are the
// executable files with the magic number of ELF, also those of packages.
func (s *scanner) golang() error {
	for i := range s.files.entries {
		e := &s.files.entries[i]
		if !e.regular() || e.mode&0o111 == 0 && path.Ext(e.name) != ".so" || e.size < minProgram || e.size > maxProgram || e.open == nil {
			continue
		}
		if err := s.ctx.Err(); err != nil {
			return err
		}
		info, err := s.program(e)
		if err != nil {
			return err
		}
		if info != nil {
			s.goProgram(e, info)
		}
	}
	return nil
}

// program returns the build information of a Go program; nil for all others.
func (s *scanner) program(e *entry) (*buildinfo.BuildInfo, error) {
	magic, err := e.start(4)
	if err != nil || string(magic) != "\x7fELF" {
		return nil, err
	}
	r, at, err := e.random()
	if errors.As(err, new(bounded.LimitError)) {
		s.note("%s has %d bytes: whether it is a Go program was not looked for", e.name, e.size)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer r.Close()
	info, err := buildinfo.Read(at)
	if err != nil {
		return nil, nil //nolint:nilerr // it is not a Go program, or one that was made not to tell
	}
	return info, nil
}

// start returns the first bytes of a file.
func (e *entry) start(n int) ([]byte, error) {
	r, err := e.open()
	if err != nil {
		return nil, fmt.Errorf("reading %.200q: %w", e.name, err)
	}
	defer r.Close()
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("reading %.200q: %w", e.name, err)
	}
	return b, nil
}

// goProgram adds a program with its modules and the standard library.
func (s *scanner) goProgram(e *entry, info *buildinfo.BuildInfo) {
	in := s.container(e.name)
	main := info.Main
	if main.Path == "" {
		main.Path = info.Path
	}
	if main.Path == "" {
		main.Path = path.Base(e.name)
	}
	p := module(&main)
	p.PURL = sbom.GoProgram(main.Path, p.Version, info.Path)
	p.Purpose, p.Paths, p.Comment = sbom.Application, []string{s.prefix + shown(e.name)}, settings(info)
	id := s.add(p, in, e.name)
	if id == "" {
		return
	}
	s.own(id, e.name)
	deps := info.Deps
	if len(deps) > maxModules {
		s.note("%s has %d modules: those after %d are not described", e.name, len(deps), maxModules)
		deps = deps[:maxModules]
	}
	for _, m := range deps {
		if dep := s.add(module(m), in, e.name); dep != "" {
			s.relate(id, sbom.DependsOn, dep)
		}
	}
	if std := s.add(sbom.GoStandardLibrary(info.GoVersion), in, e.name); std != "" {
		s.relate(id, sbom.DependsOn, std)
	}
}

// settings are what the build information says of a program's source.
func settings(info *buildinfo.BuildInfo) string {
	var out []string
	for _, x := range info.Settings {
		switch x.Key {
		case "vcs.revision", "vcs.time", "vcs.modified":
			if valid(x.Value) {
				out = append(out, x.Key+"="+x.Value)
			}
		}
	}
	return strings.Join(out, " ")
}

// module describes a module of a program that may be anything.
func module(m *debug.Module) sbom.Package {
	p := sbom.GoModule(m)
	if !valid(strings.ReplaceAll(p.Comment, " ", "")) {
		p.Comment = ""
	}
	return p
}
