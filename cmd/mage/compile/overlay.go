package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/magefile/mage/mage"
	"github.com/magefile/mage/mg"
	"golang.org/x/mod/modfile"

	"github.com/pantavisor/pantavisor/cmd/mage/internal/record"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// overlay is the environment variable that makes this program the go command for mage: it
// names the file that go build's -overlay takes.
const overlay = "MAGE_COMPILE_OVERLAY"

// invoke has mage compile the magefiles of dir to a program. Mage writes a source file
// beside the magefiles; it works on copies of them in the directory tmp, and an overlay
// shows that file to the compiler in its place, so that dir may be read only.
func invoke(dir, tmp, program string) error {
	names, err := magefiles(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := copyFile(filepath.Join(tmp, name), filepath.Join(dir, name)); err != nil {
			return fault.Wrap(fault.IO, err, "copying magefiles")
		}
	}
	cache, err := goOutput(context.Background(), dir, "env", "GOMODCACHE")
	if err != nil {
		return fault.Wrap(fault.Missing, err, "asking the go command for its settings")
	}
	command := mg.GoCmd()
	if within(dir, strings.TrimSpace(string(cache))) {
		err = standIn(dir, tmp)
	} else if err = show(dir, tmp, filepath.Dir(names[0])); err == nil {
		defer func() { _ = os.Unsetenv(overlay) }()
		command, err = os.Executable()
	}
	if err != nil {
		return fault.Wrap(fault.IO, err, "preparing to compile the magefiles in %s", dir)
	}
	code := mage.Invoke(mage.Invocation{
		Dir: tmp, WorkDir: dir, CompileOut: program, Force: true, Multiline: mg.Multiline(), GoCmd: command,
		Ldflags: "-s -w", Stdout: os.Stderr, Stderr: os.Stderr,
	})
	if code != 0 { // it has said why
		return fault.New(fault.BadInput, "compiling the magefiles in %s", dir)
	}
	return nil
}

// standIn makes tmp a module that requires what the one in dir requires, and that one. The
// go command allows no overlay in its module cache.
func standIn(dir, tmp string) error {
	text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return err
	}
	mod, err := modfile.Parse("go.mod", text, nil)
	if err != nil {
		return err
	}
	path := mod.Module.Mod.Path
	for _, t := range slices.Clone(mod.Tool) {
		err = errors.Join(err, mod.DropTool(t.Path))
	}
	err = errors.Join(err, mod.AddModuleStmt("magefile"), mod.AddRequire(path, "v0.0.0-00010101000000-000000000000"), mod.AddReplace(path, "", dir, ""))
	if err != nil {
		return err
	}
	mod.Cleanup()
	if text, err = mod.Format(); err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(tmp, "go.mod"), text, 0o600), copyFile(filepath.Join(tmp, "go.sum"), filepath.Join(dir, "go.sum")))
}

// show writes an overlay that shows mage's file in tmp to the compiler in the directory at
// of dir, and tells goCommand of it.
func show(dir, tmp, at string) error {
	text, err := json.Marshal(replaced{Replace: map[string]string{
		filepath.Join(dir, at, record.Generated): filepath.Join(tmp, at, record.Generated),
	}})
	if err != nil {
		return err
	}
	list := filepath.Join(tmp, "overlay.json")
	if err := os.WriteFile(list, text, 0o600); err != nil {
		return err
	}
	return os.Setenv(overlay, list)
}

func copyFile(to, from string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o600)
}

// replaced is the file of -overlay (go help build): paths that the compiler asks for, and
// the files that it gets.
type replaced struct{ Replace map[string]string }

// goCommand becomes the go command. Mage's build gets the overlay in the file list, and
// runs in the directory of the magefiles.
func goCommand(list string, args []string) error {
	path, err := exec.LookPath(mg.GoCmd())
	if err != nil {
		return fault.Wrap(fault.Missing, err, "looking for the go command")
	}
	if len(args) > 0 && args[0] == "build" {
		if err := enter(list); err != nil {
			return fault.Wrap(fault.IO, err, "opening the directory of the magefiles")
		}
		args = slices.Insert(slices.Clone(args), 1, "-overlay="+list)
	}
	err = errors.Join(os.Unsetenv(overlay), syscall.Exec(path, append([]string{mg.GoCmd()}, args...), os.Environ()))
	return fault.Wrap(fault.Internal, err, "starting the go command")
}

// enter changes to the directory of the file that an overlay replaces.
func enter(list string) error {
	text, err := os.ReadFile(list)
	if err != nil {
		return err
	}
	var shown replaced
	if err := json.Unmarshal(text, &shown); err != nil {
		return err
	}
	for path := range shown.Replace {
		return os.Chdir(filepath.Dir(path))
	}
	return errors.New("the overlay is empty")
}
