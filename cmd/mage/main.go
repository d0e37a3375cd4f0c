// Command mage is what "go tool mage" starts: magefile's mage with a program that is kept.
//
// Mage alone runs the go command at every start to learn whether its compiled magefile is
// current. This program looks at the files that entered it (package record) and, when
// none has changed, starts it at once; else cmd/mage/compile makes it, which is a program
// of its own because the go command checks each package of a tool before it starts it.
//
// In a directory without a magefile it has the commands of this module's own.
//
// It also outlives a SIGTERM and a SIGHUP, as mage does a SIGINT. Mage would die of them
// while its commands still work, and the go command reports a tool that dies of a signal
// as a success (exit code 0): a cancelled build would count as done.
package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/pantavisor/pantavisor/cmd/mage/internal/record"
	"github.com/pantavisor/pantavisor/internal/cachedir"
)

// module is the path of this module, compiler the package in it that makes programs.
const (
	module   = "github.com/pantavisor/pantavisor"
	compiler = module + "/cmd/mage/compile"
)

// unsupported is the exit code of docs/exit-codes.md for what is not possible here.
const unsupported = 3

func main() {
	if runtime.GOOS != "linux" {
		_, _ = os.Stderr.WriteString("Error: firmware is built on Linux, with Debian's tools: start mage on a Linux machine or in a container of one. pvr works on " + runtime.GOOS + " too (mage dist makes it).\n")
		os.Exit(unsupported)
	}
	s := watchSignals()
	code, err := run(s, os.Args[1:])
	if err != nil {
		_, _ = os.Stderr.WriteString("Error: " + err.Error() + "\n")
	}
	os.Exit(code)
}

func run(s *signals, args []string) (code int, err error) {
	c, ok := parse(args)
	if !ok { // mage itself knows what to do
		return s.start(goCommand(), append([]string{"run", compiler, "mage"}, args...), "", os.Environ(), os.Stdout)
	}
	dir, err := filepath.Abs(c.dir)
	if err != nil {
		return 1, err
	}
	program := ""
	if !c.force {
		program = kept(dir)
	}
	if program == "" && c.dir == "." && !hasMagefile(dir) {
		here := dir
		if dir = own(); dir == "" {
			return 1, errors.New(here + " has no magefile, and the sources that this program was made of are gone: start it as \"go run " + module + "/cmd/mage@VERSION\"")
		}
		c.set = append(c.set, moduleVariable+"="+dir)
		if !c.force {
			program = kept(dir)
		}
	}
	if program == "" {
		if program, code, err = compile(s, dir, c.force); code != 0 || err != nil {
			return code, err
		}
	}
	return s.start(program, c.words, c.workDir, c.environment(), os.Stdout)
}

// kept returns the program of the magefiles in dir, or "" when there is none that is
// current.
func kept(dir string) string {
	cache, err := cachedir.Find()
	if err != nil {
		return ""
	}
	if r := record.Read(record.Place(cache, dir), dir); r != nil && r.Current() {
		return r.Program
	}
	return ""
}

// compile makes the program and returns its path, which the compiler prints.
func compile(s *signals, dir string, force bool) (program string, code int, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return "", 1, err
	}
	said := make(chan string)
	go func() {
		text, _ := io.ReadAll(r)
		said <- string(text)
	}()
	args := []string{"run", compiler, "compile", dir}
	if force {
		args = append(args, "force")
	}
	code, err = s.start(goCommand(), args, dir, os.Environ(), w)
	_ = w.Close()
	program = strings.TrimSuffix(<-said, "\n")
	if code == 0 && err == nil && program == "" {
		code = 1
	}
	return program, code, err
}

func goCommand() string {
	if name := os.Getenv("MAGEFILE_GOCMD"); name != "" {
		return name
	}
	return "go"
}
