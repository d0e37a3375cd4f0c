package buildroot

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the licences of the packages")

// programs are the packages of the tree by the program that each is made from.
var programs = []string{"pantavisor", "pvcompose", "pvr"}

// licence is a file with a licence, by its path in the source with vendored modules.
type licence struct {
	name, spdx, sum string
}

// TestLicences compares the licences in the packages with those of the modules that the programs
// are made of.
func TestLicences(t *testing.T) {
	if testing.Short() {
		t.Skip("asks for the modules of three programs")
	}
	t.Parallel()
	for _, name := range programs {
		found := licencesOf(t, name)
		mk, hash := "package/"+name+"/"+name+".mk", "package/"+name+"/"+name+".hash"
		text := read(t, mk)
		want := licenceBlock.ReplaceAllLiteralString(text, licenceLines(name, found))
		if !licenceBlock.MatchString(text) {
			t.Fatalf("%s has no licences", mk)
		}
		compare(t, mk, text, want)
		var old string
		if !*update {
			old = read(t, hash)
		}
		compare(t, hash, old, hashLines(found))
	}
}

// compare compares a file with what it should be, and writes that with -update.
func compare(t *testing.T, name, got, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s is not what the modules' licences are (go test ./integration/buildroot -run TestLicences -update; -want +got):\n%s", name, diff)
	}
}

var licenceBlock = regexp.MustCompile(`(?m)^[A-Z_]+_LICENSE = .*\n[A-Z_]+_LICENSE_FILES = (?:.*\\\n)*.*\n`)

func licenceLines(name string, found []licence) string {
	kinds := map[string]bool{}
	names := []string{}
	for _, l := range found {
		if l.spdx != "" {
			kinds[l.spdx] = true
		}
		if l.name != "" {
			names = append(names, l.name)
		}
	}
	prefix := strings.ToUpper(name)
	return fmt.Sprintf("%s_LICENSE = %s\n%s_LICENSE_FILES = \\\n\t%s\n", prefix, strings.Join(slices.Sorted(maps.Keys(kinds)), ", "),
		prefix, strings.Join(names, " \\\n\t"))
}

func hashLines(found []licence) string {
	out := "# Locally calculated\n"
	for _, l := range found {
		if l.name == "" {
			continue
		}
		out += fmt.Sprintf("sha256  %s  %s\n", l.sum, l.name)
	}
	return out
}

// licencesOf returns the files with licences of a program, ours first.
func licencesOf(t *testing.T, program string) []licence {
	t.Helper()
	out := []licence{licenceFile(t, "../../LICENSE", "LICENSE")}
	for _, m := range modulesOf(t, program) {
		modPath, dir, _ := strings.Cut(m, " ")
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		n := len(out)
		for _, e := range entries {
			file := filepath.Join(dir, e.Name())
			switch {
			case !e.Type().IsRegular():
			case legal.MatchString(e.Name()):
				out = append(out, licenceFile(t, file, path.Join("vendor", modPath, e.Name())))
			case e.Name() == "UNLICENSE": // go mod vendor leaves it behind, and it demands nothing
				out = append(out, licence{spdx: licenceFile(t, file, e.Name()).spdx})
			}
		}
		if len(out) == n {
			t.Errorf("%s: module %s has no file with its licence", program, modPath)
		}
	}
	return out
}

// legal matches the names of files with licences that go mod vendor copies (Go:
// cmd/go/internal/modcmd/vendor.go, metaPrefixes).
var legal = regexp.MustCompile(`^(COPYING|LICENSE|LICENCE|NOTICE|PATENTS)`)

// kinds are words of licences, the most special first.
var kinds = []struct {
	spdx  string
	words []string
}{
	{"Apache-2.0", []string{"Apache License", "Version 2.0"}},
	{"MPL-2.0", []string{"Mozilla Public License", "2.0"}},
	{"CC0-1.0", []string{"Creative Commons CC0 1.0"}},
	{"CC-BY-SA-4.0", []string{"Attribution-ShareAlike 4.0 International"}},
	{"Unlicense", []string{"free and unencumbered software released into the public domain"}},
	{"ISC", []string{"Permission to use, copy, modify, and", "distribute this software for any"}},
	{"MIT", []string{"Permission is hereby granted, free of charge"}},
	{"BSD-3-Clause", []string{"Redistribution and use in source and binary forms", "endorse or promote"}},
	{"BSD-2-Clause", []string{"Redistribution and use in source and binary forms"}},
}

// licenceFile reads a file with a licence.
func licenceFile(t *testing.T, file, name string) licence {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	l := licence{name: name, sum: fmt.Sprintf("%x", sha256.Sum256(text))}
	plain := strings.Join(strings.Fields(string(text)), " ")
	for _, k := range kinds {
		if !slices.ContainsFunc(k.words, func(w string) bool { return !strings.Contains(plain, w) }) {
			l.spdx = k.spdx
			break
		}
	}
	if base := path.Base(name); l.spdx == "" && !strings.HasPrefix(base, "NOTICE") && !strings.HasPrefix(base, "PATENTS") {
		t.Errorf("%s: its licence is not known here: add it to kinds", name)
	}
	return l
}

// modulesOf returns path and directory of the modules that a program is made of, on all CPUs for
// which there is a runtime.
func modulesOf(t *testing.T, program string) []string {
	t.Helper()
	found := map[string]bool{}
	for _, arch := range []string{"amd64", "arm", "mips"} { // the others differ in no import
		cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", `{{with .Module}}{{if not .Main}}{{.Path}} {{.Dir}}{{end}}{{end}}`, "./cmd/"+program)
		cmd.Dir = "../.."
		cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0")
		text, err := cmd.Output()
		if err != nil {
			t.Fatalf("asking for the modules of %s: %v", program, err)
		}
		for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
			if line != "" {
				found[line] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
