// Package licences finds the licences of the modules that a program is made of, for packages and
// recipes of build systems, which have to name them. It asks the go command for the modules.
package licences

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// File is a file with a licence.
type File struct {
	// Name is its path in the source with vendored modules; "" for a file that go mod vendor leaves
	// behind, of which only the identifier can be named.
	Name string
	// SPDX is the licence's identifier; "" for a notice, or a grant of patents.
	SPDX string
	// Text is the file.
	Text []byte
}

// Of returns the files with licences of a program, cmd/NAME of the repository at root, the
// repository's own first. A module without one, or with one that is not known here, is an error.
func Of(ctx context.Context, root, program string) ([]File, error) {
	own, err := read(filepath.Join(root, "LICENSE"), "LICENSE")
	if err != nil {
		return nil, err
	}
	modules, err := modulesOf(ctx, root, program)
	if err != nil {
		return nil, err
	}
	out := []File{own}
	var problems []error
	for _, m := range modules {
		modPath, dir, _ := strings.Cut(m, " ")
		found, err := ofModule(modPath, dir)
		if err == nil && len(found) == 0 {
			err = fault.New(fault.Missing, "%s: module %s has no file with its licence", program, modPath)
		}
		problems, out = append(problems, err), append(out, found...)
	}
	return out, errors.Join(problems...)
}

// ofModule returns the files of a module.
func ofModule(modPath, dir string) (out []File, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "looking for licences")
	}
	for _, e := range entries {
		left := leftBehind[e.Name()]
		if !e.Type().IsRegular() || !left && !legal.MatchString(e.Name()) {
			continue
		}
		f, err := read(filepath.Join(dir, e.Name()), path.Join("vendor", modPath, e.Name()))
		if err != nil {
			return nil, err
		}
		if left {
			f.Name = ""
		}
		out = append(out, f)
	}
	return out, nil
}

// Names returns the identifiers of the licences, sorted.
func Names(files []File) []string {
	found := map[string]bool{}
	for _, f := range files {
		if f.SPDX != "" {
			found[f.SPDX] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// legal matches the names of files with licences that go mod vendor copies (Go:
// cmd/go/internal/modcmd/vendor.go, metaPrefixes).
var legal = regexp.MustCompile(`^(COPYING|LICENSE|LICENCE|NOTICE|PATENTS)`)

// leftBehind are names of files with licences that it does not copy.
var leftBehind = map[string]bool{"UNLICENSE": true, "license": true}

// kinds are words of licences, the most special first.
var kinds = []struct {
	spdx  string
	words []string
}{
	{"Apache-2.0", []string{"Apache License", "Version 2.0"}},
	{"MPL-2.0", []string{"Mozilla Public License", "2.0"}},
	{"CC0-1.0", []string{"Creative Commons CC0 1.0"}},
	{"CC-BY-SA-4.0", []string{"Attribution-ShareAlike 4.0 International"}},
	{"CC-BY-4.0", []string{"Attribution 4.0 International"}},
	{"Unlicense", []string{"free and unencumbered software released into the public domain"}},
	{"ISC", []string{"Permission to use, copy, modify, and", "distribute this software for any"}},
	{"MIT", []string{"Permission is hereby granted, free of charge"}},
	{"BSD-3-Clause", []string{"Redistribution and use in source and binary forms", "endorse or promote"}},
	{"BSD-2-Clause", []string{"Redistribution and use in source and binary forms"}},
}

// read reads a file with a licence.
func read(file, name string) (File, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return File{}, fault.Wrap(fault.IO, err, "reading a licence")
	}
	f := File{Name: name, Text: text}
	plain := strings.Join(strings.Fields(string(text)), " ")
	for _, k := range kinds {
		if !slices.ContainsFunc(k.words, func(w string) bool { return !strings.Contains(plain, w) }) {
			f.SPDX = k.spdx
			return f, nil
		}
	}
	if base := path.Base(name); !strings.HasPrefix(base, "NOTICE") && !strings.HasPrefix(base, "PATENTS") {
		return f, fault.New(fault.Unsupported, "%s: its licence is not known here: add it to kinds in internal/licences", name)
	}
	return f, nil
}

// modulesOf returns path and directory of the modules that a program is made of, on all CPUs for
// which there is a runtime.
func modulesOf(ctx context.Context, root, program string) ([]string, error) {
	found := map[string]bool{}
	for _, arch := range []string{"amd64", "arm", "mips"} { // the others differ in no import
		cmd := exec.CommandContext(ctx, "go", "list", "-deps", "-f", `{{with .Module}}{{if not .Main}}{{.Path}} {{.Dir}}{{end}}{{end}}`, "./cmd/"+program)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0")
		text, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("asking for the modules of %s: %w", program, err)
		}
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); line != "" {
				found[line] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// Expression returns the SPDX licence expression of the module in a directory, "" when it has no
// file with a licence that is known here.
func Expression(dir string) (string, error) {
	found, err := ofModule("", dir)
	if err != nil && fault.Of(err) != fault.Unsupported {
		return "", err
	}
	if err != nil {
		return "", nil
	}
	return strings.Join(Names(found), " AND "), nil
}
