package modules

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// Settings are what the user of a kernel wants of its modules, in the forms of kmod
// (modprobe.d(5), modprobe(8)).
type Settings struct {
	// Options are the parameters of modules by their names.
	Options map[string]string
	// Blacklist are the names of modules that are not loaded for devices, only by name or
	// because another module needs them.
	Blacklist map[string]bool
}

// Read reads settings from all *.conf files of a directory, lines "options MODULE PARAMETERS"
// and "blacklist MODULE", and from the file with the kernel's command line, whose parameters
// come after the others, so that they win. A missing directory is an empty one.
func Read(dir, cmdline string) (Settings, error) {
	s := Settings{Options: map[string]string{}, Blacklist: map[string]bool{}}
	files, _ := filepath.Glob(filepath.Join(dir, "*.conf")) // the pattern is well-formed
	var errs []error
	for _, f := range files {
		errs = append(errs, eachLine(f, s.line))
	}
	line, err := os.ReadFile(cmdline)
	for _, word := range strings.Fields(string(line)) {
		s.word(word)
	}
	return s, errors.Join(append(errs, err)...)
}

// line takes a line of a file; one of another kind is left out.
func (s Settings) line(line []byte) {
	w := strings.Fields(string(line))
	switch {
	case len(w) > 2 && w[0] == "options":
		s.option(w[1], strings.Join(w[2:], " "))
	case len(w) == 2 && w[0] == "blacklist":
		s.Blacklist[name(w[1])] = true
	}
}

// word takes a word of the kernel's command line: MODULE.PARAMETER=VALUE, of which the kernel
// itself takes only those of what is built in, or modprobe.blacklist=MODULE,MODULE.
func (s Settings) word(word string) {
	key, value, _ := strings.Cut(word, "=")
	if key == "modprobe.blacklist" {
		for m := range strings.SplitSeq(value, ",") {
			s.Blacklist[name(m)] = true
		}
		return
	}
	module, parameter, ok := strings.Cut(key, ".")
	if !ok || module == "" || parameter == "" {
		return
	}
	if value != "" {
		parameter += "=" + value
	}
	s.option(module, parameter)
}

func (s Settings) option(module, parameters string) {
	n := name(module)
	s.Options[n] = strings.TrimSpace(s.Options[n] + " " + parameters)
}
