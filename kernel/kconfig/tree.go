package kconfig

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Definition is where a kernel defines an option.
type Definition struct {
	// File is the path below the tree, Line that of its "config NAME".
	File string
	Line int
	// Depends are the conditions of its own "depends on" lines. Those of the menus around it
	// are not among them.
	Depends []string
	// Hidden means that the option has no question: only other options can turn it on.
	Hidden bool
}

// String is for people.
func (d Definition) String() string {
	text := fmt.Sprintf("%s:%d", d.File, d.Line)
	if d.Hidden {
		text += " has no question for it, other options turn it on"
	}
	if len(d.Depends) > 0 {
		text += " depends on " + strings.Join(d.Depends, " and ")
	}
	return text
}

var (
	entry    = regexp.MustCompile(`^\s*(?:menu)?config\s+([A-Za-z0-9_]+)\s*$`)
	depends  = regexp.MustCompile(`^\s+depends on\s+(.+?)\s*$`)
	question = regexp.MustCompile(`^\s+(?:prompt|bool|tristate|string|int|hex)\s+["']`)
	end      = regexp.MustCompile(`^\s*(?:menu|endmenu|if|endif|choice|endchoice|source|comment)\b`)
)

// find returns where the files Kconfig* of a kernel's tree define the options with the given
// names, for one architecture (the directory below arch/). An option may have several
// definitions, or none.
func find(tree fs.FS, arch string, names []string) (map[string][]Definition, error) {
	found := map[string][]Definition{}
	err := fs.WalkDir(tree, ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir():
			if leftOut(name, arch) {
				return fs.SkipDir
			}
			return nil
		case !e.Type().IsRegular() || !strings.HasPrefix(path.Base(name), "Kconfig"):
			return nil
		}
		return scan(tree, name, names, found)
	})
	return found, err
}

// leftOut reports whether a directory has no options of the architecture.
func leftOut(dir, arch string) bool {
	return dir == "Documentation" || dir == "tools" || path.Dir(dir) == "arch" && path.Base(dir) != arch
}

// maxLine bounds a line of a Kconfig file, in bytes.
const maxLine = 1 << 16

func scan(tree fs.FS, name string, names []string, found map[string][]Definition) error {
	f, err := tree.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewScanner(io.LimitReader(f, 4<<20))
	in.Buffer(nil, maxLine)
	var option string
	for line := 1; in.Scan(); line++ {
		text := in.Text()
		if m := entry.FindStringSubmatch(text); m != nil {
			if option = ""; slices.Contains(names, m[1]) {
				option = m[1]
				found[option] = append(found[option], Definition{File: name, Line: line, Hidden: true})
			}
			continue
		}
		if end.MatchString(text) {
			option = ""
		}
		if option != "" {
			found[option][len(found[option])-1].add(text)
		}
	}
	if errors.Is(in.Err(), bufio.ErrTooLong) {
		return nil
	}
	return in.Err()
}

// add takes a line of the definition.
func (d *Definition) add(text string) {
	if m := depends.FindStringSubmatch(text); m != nil {
		d.Depends = append(d.Depends, m[1])
	}
	if question.MatchString(text) {
		d.Hidden = false
	}
}

// Explain returns one line for each lost option: what was asked for, where, and why the kernel
// may not have it.
func Explain(tree fs.FS, arch string, lost []Option) (string, error) {
	var names []string
	for _, o := range lost {
		names = append(names, o.Name)
	}
	defined, err := find(tree, arch, names)
	if err != nil {
		return "", err
	}
	var lines []string
	for _, o := range lost {
		why := "this kernel has no such option"
		if at := defined[o.Name]; len(at) > 0 {
			why = at[0].String()
			for _, d := range at[1:] {
				why += "; " + d.String()
			}
		}
		lines = append(lines, fmt.Sprintf("%s (%s:%d): %s", o, o.Fragment, o.Line, why))
	}
	return strings.Join(lines, "\n"), nil
}
