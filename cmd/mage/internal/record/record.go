// Package record notes of which files a compiled magefile was made, so that the next
// command can tell by a look at them whether it is current.
//
// cmd/mage reads records and is itself checked by the go command at every start, which
// costs a millisecond of CPU time for each package that it imports: this package imports
// next to nothing.
package record

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Record is a compiled program with all that it was made of.
type Record struct {
	Dir      string // the magefiles' directory, absolute
	Settings string // what [Settings] returned
	Program  string // path of the program
	Files    []File // what entered, and what would enter if its build constraints changed
	Lists    []List // the directories in which a further file would enter
	Absent   []string
}

// File is a file that has not been touched while its [ID] stays.
type File struct{ Path, ID string }

// List is what a directory contains.
type List struct {
	Path  string
	All   bool // every entry, else Go sources only
	Names []string
}

// Place returns the path of the record of a magefiles' directory below a cache directory.
func Place(cache, dir string) string {
	// FNV-1a: names need not be strong, a record says itself whose it is.
	h := uint64(14695981039346656037)
	for i := range len(dir) {
		h = (h ^ uint64(dir[i])) * 1099511628211
	}
	return filepath.Join(cache, "mage", "records", strconv.FormatUint(h, 16))
}

// Settings returns the part of the environment that the go command heeds, and the tool
// chain that this program was made with.
func Settings() string {
	var kept []string
	for _, v := range os.Environ() {
		for _, prefix := range []string{"GO", "CGO_", "CC=", "CXX=", "PKG_CONFIG=", "MAGEFILE_MULTILINE="} {
			if strings.HasPrefix(v, prefix) {
				kept = append(kept, strconv.Quote(v))
				break
			}
		}
	}
	slices.Sort(kept)
	return runtime.Version() + " " + strings.Join(kept, " ")
}

// Generated is the file that mage makes in the magefiles' directory while it compiles.
const Generated = "mage_output_file.go"

// sources are the endings of files that the go command compiles.
var sources = []string{
	".go", ".s", ".S", ".sx", ".c", ".cc", ".cpp", ".cxx", ".m", ".h", ".hh", ".hpp", ".hxx", ".f", ".F", ".for", ".f90",
	".swig", ".swigcxx", ".syso",
}

// Names returns the sorted names of the sources in a directory without tests, or of all
// that is in it.
func Names(dir string, all bool) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name == Generated || !all && !source(name) })
	slices.Sort(names)
	return names, nil
}

func source(name string) bool {
	return slices.Contains(sources, filepath.Ext(name)) && !strings.HasSuffix(name, "_test.go")
}

// Current reports whether a program made now, in this environment, would be the same.
func (r *Record) Current() bool {
	if r.Settings != Settings() {
		return false
	}
	for _, f := range r.Files {
		if id, err := ID(f.Path); err != nil || id != f.ID {
			return false
		}
	}
	for _, l := range r.Lists {
		if names, err := Names(l.Path, l.All); err != nil || !slices.Equal(names, l.Names) {
			return false
		}
	}
	for _, path := range r.Absent {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			return false
		}
	}
	_, err := os.Stat(r.Program)
	return err == nil
}

// The form is a line for each thing, its fields separated by tabs.
const (
	header = "mage record 1"
	footer = "end"
)

// Encode returns the record as text. It fails when a name has a tab or a line break.
func (r *Record) Encode() ([]byte, error) {
	lines := [][]string{{header}, {"dir", r.Dir}, {"settings", r.Settings}, {"program", r.Program}}
	for _, f := range r.Files {
		lines = append(lines, []string{"file", f.ID, f.Path})
	}
	for _, l := range r.Lists {
		lines = append(lines, append([]string{"list", strconv.FormatBool(l.All), l.Path}, l.Names...))
	}
	for _, path := range r.Absent {
		lines = append(lines, []string{"absent", path})
	}
	var text []byte
	for _, line := range append(lines, []string{footer}) {
		for i, field := range line {
			if strings.ContainsAny(field, "\t\n") {
				return nil, errors.New("a name with a tab or a line break: " + strconv.Quote(field))
			}
			if i > 0 {
				text = append(text, '\t')
			}
			text = append(text, field...)
		}
		text = append(text, '\n')
	}
	return text, nil
}

// Read returns the record kept at path, or nil when there is none for dir or when it is
// damaged: then the program is made again.
func Read(path, dir string) *Record {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	r := &Record{}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(lines) < 2 || lines[0] != header || lines[len(lines)-1] != footer {
		return nil
	}
	for _, line := range lines[1 : len(lines)-1] {
		if !r.add(strings.Split(line, "\t")) {
			return nil
		}
	}
	if r.Dir != dir || r.Program == "" {
		return nil
	}
	return r
}

// add reads one line and reports whether it makes sense.
func (r *Record) add(f []string) bool {
	switch {
	case f[0] == "dir" && len(f) == 2:
		r.Dir = f[1]
	case f[0] == "settings" && len(f) == 2:
		r.Settings = f[1]
	case f[0] == "program" && len(f) == 2:
		r.Program = f[1]
	case f[0] == "file" && len(f) == 3:
		r.Files = append(r.Files, File{Path: f[2], ID: f[1]})
	case f[0] == "list" && len(f) >= 3:
		r.Lists = append(r.Lists, List{Path: f[2], All: f[1] == "true", Names: f[3:]})
	case f[0] == "absent" && len(f) == 2:
		r.Absent = append(r.Absent, f[1])
	default:
		return false
	}
	return true
}
