// Command compile makes the program of a directory's magefiles for cmd/mage and keeps it
// by content: "compile DIR" prints its path, "compile DIR force" makes it anew. As "mage
// ARGUMENT..." it is magefile's mage.
//
// The program lies in the cache directory as mage/programs/KEY/mage. KEY is a digest of all
// that enters it, as the go command lists it: sources of this module and of others that
// lie in a directory of the user's (go.sum pins those in the module cache), go.mod, go.sum,
// the go command's version and settings.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/magefile/mage/mage"

	"github.com/pantavisor/pantavisor/cmd/mage/internal/record"
	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/cachedir"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filelock"
)

func main() {
	switch args := os.Args[1:]; {
	case os.Getenv(overlay) != "":
		if err := goCommand(os.Getenv(overlay), args); err != nil {
			fmt.Fprintln(os.Stderr, "Error:", err)
			os.Exit(int(fault.Of(err)))
		}
	case len(args) > 0 && args[0] == "mage":
		os.Exit(mage.ParseAndRun(os.Stdout, os.Stderr, os.Stdin, args[1:]))
	case len(args) == 2 && args[0] == "compile", len(args) == 3 && args[0] == "compile" && args[2] == "force":
		if err := compile(args[1], len(args) == 3); err != nil {
			fmt.Fprintln(os.Stderr, "Error:", err)
			os.Exit(int(fault.Of(err)))
		}
	default:
		fmt.Fprintln(os.Stderr, "usage: compile DIR [force], or mage ARGUMENT...")
		os.Exit(int(fault.BadInput))
	}
}

// compile prints the path of the program of dir. One process at a time works for a
// directory, so that a program is made once.
func compile(dir string, force bool) error {
	cache, err := cachedir.Find()
	if err != nil {
		return fault.New(fault.BadInput, "looking for a cache directory (set %s): %w", cachedir.Variable, err)
	}
	// An interrupt ends the compilers, which are in the group of processes that gets it;
	// then mage removes what it has written.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	lock, err := filelock.Acquire(ctx, dir, filelock.Options{})
	if err != nil {
		return fault.Wrap(fault.IO, err, "locking the directory of the magefiles")
	}
	defer lock.Unlock()
	k := &keeper{dir: dir, programs: filepath.Join(cache, "mage", "programs"), record: record.Place(cache, dir)}
	program, err := k.program(ctx, force)
	if err != nil {
		return err
	}
	fmt.Println(program)
	return nil
}

// keeper keeps the programs of one directory.
type keeper struct {
	dir, programs, record string
}

// attempts bounds how often a program is made because its sources change meanwhile.
const attempts = 3

func (k *keeper) program(ctx context.Context, force bool) (string, error) {
	in, err := list(ctx, k.dir)
	if err != nil {
		return "", err
	}
	for range attempts {
		program := filepath.Join(k.programs, in.key, "mage")
		if _, err := os.Stat(program); err == nil && !force {
			return program, k.note(in, program)
		}
		made, err := k.make()
		if err != nil {
			return "", err
		}
		after, err := list(ctx, k.dir)
		if err == nil && after.key == in.key {
			err = k.keep(made, program)
		}
		err = errors.Join(err, os.RemoveAll(filepath.Dir(made)))
		if err != nil {
			return "", err
		}
		force, in = false, after
	}
	return "", fault.New(fault.BadInput, "compiling the magefiles in %s: their sources change all the time", k.dir)
}

// make compiles the magefiles and returns the program's path, alone in a temporary
// directory. The program's name is in its help.
func (k *keeper) make() (string, error) {
	if err := os.MkdirAll(k.programs, 0o755); err != nil {
		return "", fault.Wrap(fault.IO, err, "making a directory for programs (%s)", cachedir.Variable)
	}
	tmp, err := os.MkdirTemp(k.programs, temporary)
	if err != nil {
		return "", fault.Wrap(fault.IO, err, "making a directory for a program")
	}
	program := filepath.Join(tmp, "mage")
	if err := invoke(k.dir, filepath.Join(tmp, "copies"), program); err != nil {
		return "", errors.Join(err, os.RemoveAll(tmp))
	}
	return program, nil
}

// keep gives a program its name. Who runs the one that had it goes on.
func (k *keeper) keep(made, program string) error {
	if err := os.MkdirAll(filepath.Dir(program), 0o755); err != nil {
		return fault.Wrap(fault.IO, err, "keeping the compiled magefile")
	}
	if err := os.Rename(made, program); err != nil {
		return fault.Wrap(fault.IO, err, "keeping the compiled magefile")
	}
	trim(k.programs)
	return nil
}

// note writes down what the program was made of, unless something of it was touched so
// lately that a further change might not show.
func (k *keeper) note(in *inputs, program string) error {
	r := in.record
	r.Program = program
	text, err := r.Encode()
	if err != nil || !in.settled {
		return nil // the next command asks again
	}
	if err := os.MkdirAll(filepath.Dir(k.record), 0o755); err != nil {
		return fault.Wrap(fault.IO, err, "noting what the program was made of")
	}
	return fault.Wrap(fault.IO, atomicfile.Write(k.record, text, 0o644), "noting what the program was made of")
}
