// Package product makes the repository of a product: a Go module that has this module as
// its tool, with an example of each thing that a product adds. Nothing of this module is
// copied into it, so that an update is one version in go.mod.
package product

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/ci"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Options say what a repository is made of.
type Options struct {
	// Dir is where it will be. It need not exist; if it does, it must not have any entry that
	// the repository has.
	Dir string
	// Module is the Go module's path. Default: example.com/NAME with the directory's name.
	Module string
	// Tool is the path of the module of the commands, Version its published version.
	Tool, Version string
	// ToolDir is the directory of that module.
	ToolDir string
	// From is ToolDir as the line "replace" of go.mod has it, absolute or relative to Dir; the
	// version is then not used. Default: no such line.
	From string
	// Taken are names that the product's target must not have.
	Taken []string
}

// Repository is a repository that was made.
type Repository struct {
	Dir    string // absolute
	Target string // its example of a target
}

//go:embed files
var files embed.FS

// names maps the templates to the files of a repository. "NAME" stands for the target.
var names = map[string]string{
	"magefile": "magefile.go", "readme": "README.md", "gitignore": ".gitignore", "gitlab": ".gitlab-ci.yml",
	"github": ".github/workflows/build.yml", "target": "targets/NAME/target.yaml",
	"container": "containers/hello/container.yaml", "program": "cmd/hello/main.go", "test": "cmd/hello/main_test.go",
	"config": "config/README.md", "vendors": "vendors/README.md",
}

// pipeline is the template of the product's pipelines.
const pipeline = "product"

// Make makes a repository. It appears as a whole or not at all; in a directory that
// exists its entries appear one after the other.
func Make(ctx context.Context, o Options) (*Repository, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "making %s", o.Dir)
	}
	r := &Repository{Dir: dir, Target: targetName(filepath.Base(dir), o.Taken)}
	if o.Module == "" {
		o.Module = "example.com/" + r.Target
	}
	if err := module.CheckPath(o.Module); err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "naming the Go module (--module)")
	}
	texts, err := r.texts(o)
	if err != nil {
		return nil, err
	}
	if err := r.free(texts); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, fault.Wrap(fault.IO, err, "making %s", dir)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".new-")
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "making %s", dir)
	}
	defer os.RemoveAll(tmp)
	if err := write(tmp, texts); err != nil {
		return nil, fault.Wrap(fault.IO, err, "making %s", dir)
	}
	if err := require(ctx, tmp, o); err != nil {
		return nil, err
	}
	return r, fault.Wrap(fault.IO, place(tmp, dir), "making %s", dir)
}

var notInName = regexp.MustCompile(`[^a-z0-9._-]+`)

// targetName makes a valid name of a target of a directory's name.
func targetName(base string, taken []string) string {
	name := notInName.ReplaceAllString(strings.ToLower(base), "-")
	name = strings.Trim(name[:min(len(name), 48)], "-._")
	if name == "" {
		name = "product"
	}
	if slices.Contains(taken, name) {
		name = "my-" + name
	}
	return name
}

// texts returns the files of the repository by their names, without go.sum.
func (r *Repository) texts(o Options) (map[string][]byte, error) {
	out := map[string][]byte{}
	all, err := template.ParseFS(files, "files/*")
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "reading the files of a repository")
	}
	for from, to := range names {
		var text bytes.Buffer
		if err := all.ExecuteTemplate(&text, from, map[string]string{"Name": r.Target, "Tool": o.Tool, "Module": o.Module}); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "writing %s", to)
		}
		out[strings.ReplaceAll(to, "NAME", r.Target)] = text.Bytes()
	}
	for _, s := range ci.Systems() {
		if out[s.Path(pipeline)], err = s.Text(pipeline); err != nil {
			return nil, err
		}
	}
	out["go.mod"], err = goMod(o)
	return out, err
}

// unpublished is the version of a module that a line "replace" finds in a directory.
const unpublished = "v0.0.0-00010101000000-000000000000"

// goMod returns the go.mod, with the Go version that the tool needs.
func goMod(o Options) ([]byte, error) {
	name := filepath.Join(o.ToolDir, "go.mod")
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fault.Wrap(fault.Missing, err, "reading the sources of %s", o.Tool)
	}
	theirs, err := modfile.ParseLax(name, text, nil)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading %s", name)
	}
	if theirs.Go == nil {
		return nil, fault.New(fault.BadInput, "reading %s: it names no version of Go", name)
	}
	version := o.Version
	if o.From != "" {
		version = unpublished
	}
	mod := &modfile.File{}
	err = errors.Join(mod.AddModuleStmt(o.Module), mod.AddGoStmt(theirs.Go.Version), mod.AddTool(o.Tool+"/cmd/mage"), mod.AddTool(o.Tool+"/cmd/pvci"),
		mod.AddRequire(o.Tool, version))
	if o.From != "" {
		err = errors.Join(err, mod.AddReplace(o.Tool, "", o.From, ""))
	}
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "writing go.mod")
	}
	mod.Cleanup()
	out, err := mod.Format()
	return out, fault.Wrap(fault.Internal, err, "writing go.mod")
}

// free reports what the repository would overwrite.
func (r *Repository) free(texts map[string][]byte) error {
	var there []string
	for _, name := range tops(texts) {
		if _, err := os.Lstat(filepath.Join(r.Dir, name)); err == nil {
			there = append(there, name)
		}
	}
	if len(there) > 0 {
		return fault.New(fault.BadInput, "making a product in %s: it has %s already; nothing is overwritten", r.Dir, strings.Join(there, ", "))
	}
	if info, err := os.Stat(r.Dir); err == nil && !info.IsDir() {
		return fault.New(fault.BadInput, "making a product in %s: it is not a directory", r.Dir)
	}
	return nil
}

// tops returns the entries of the repository's directory, sorted.
func tops(texts map[string][]byte) []string {
	set := map[string]bool{"go.sum": true}
	for name := range texts {
		top, _, _ := strings.Cut(name, "/")
		set[top] = true
	}
	return slices.Sorted(maps.Keys(set))
}

func write(dir string, texts map[string][]byte) error {
	for name, text := range texts {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
	}
	return os.Chmod(dir, 0o755)
}

// require lets the go command complete go.mod and go.sum with what the commands import.
// It begins with the tool's own go.sum: the digests in it have been checked, so that
// nothing has to be asked for that is there.
func require(ctx context.Context, dir string, o Options) error {
	sum, err := os.ReadFile(filepath.Join(o.ToolDir, "go.sum"))
	if err != nil {
		return fault.Wrap(fault.Missing, err, "reading the sources of %s", o.Tool)
	}
	if err := os.WriteFile(filepath.Join(dir, "go.sum"), sum, 0o644); err != nil {
		return fault.Wrap(fault.IO, err, "writing go.sum")
	}
	cmd := exec.CommandContext(ctx, "go", "list", "-mod=mod", "-deps", "-tags=mage", "-f", "{{if .Error}}{{.Error}}{{end}}",
		".", o.Tool+"/cmd/mage", o.Tool+"/cmd/mage/compile", o.Tool+"/cmd/pvci")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "PWD="+dir)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fault.New(fault.Missing, "fetching what the commands of %s import: %w\n%s", o.Tool, err, bytes.TrimSpace(said.Bytes()))
	}
	return nil
}

// place moves a finished repository to its directory.
func place(tmp, dir string) error {
	err := unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, dir, unix.RENAME_NOREPLACE)
	if err == nil || !errors.Is(err, fs.ErrExist) && !errors.Is(err, unix.EINVAL) {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return moveInto(tmp, dir)
}

// moveInto moves all entries into a directory, or none.
func moveInto(tmp, dir string) error {
	entries, err := os.ReadDir(tmp)
	if err != nil {
		return err
	}
	isMod := func(e fs.DirEntry) bool { return e.Name() == "go.mod" } // last: it makes the directory a module
	entries = append(slices.DeleteFunc(slices.Clone(entries), isMod), entries[slices.IndexFunc(entries, isMod)])
	for i, e := range entries {
		from, to := filepath.Join(tmp, e.Name()), filepath.Join(dir, e.Name())
		if err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE); err != nil {
			for _, done := range entries[:i] {
				err = errors.Join(err, os.RemoveAll(filepath.Join(dir, done.Name())))
			}
			return err
		}
	}
	return nil
}
