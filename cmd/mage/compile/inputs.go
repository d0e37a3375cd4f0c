package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/magefile/mage/mage"
	"github.com/magefile/mage/mg"

	"github.com/pantavisor/pantavisor/cmd/mage/internal/record"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// inputs is what enters a program.
type inputs struct {
	key     string // digest of all content, without the places where it lies
	record  record.Record
	settled bool // nothing of it was touched in the last moments
}

// racy is how much older than now a file's times must be for its next change to show in
// them: the coarsest clock of a file system, FAT's, ticks every two seconds.
const racy = 2 * time.Second

// goPackage is what "go list -json" says of a package (go help list).
type goPackage struct {
	Dir, ImportPath string
	Standard        bool
	Module          *struct {
		Path, GoMod string
		Main        bool
	}
	EmbedPatterns []string
	EmbedFiles    []string

	GoFiles, CgoFiles, CFiles, CXXFiles, MFiles, HFiles, FFiles, SFiles, SwigFiles, SwigCXXFiles, SysoFiles []string
}

// main reports whether the package is in the module of the magefiles.
func (p *goPackage) main() bool { return p.Module != nil && p.Module.Main }

func (p *goPackage) sources() []string {
	return slices.Concat(p.GoFiles, p.CgoFiles, p.CFiles, p.CXXFiles, p.MFiles, p.HFiles, p.FFiles, p.SFiles,
		p.SwigFiles, p.SwigCXXFiles, p.SysoFiles, p.EmbedFiles)
}

// list asks the go command what enters the program of the magefiles in dir.
func list(ctx context.Context, dir string) (*inputs, error) {
	files, err := magefiles(dir)
	if err != nil {
		return nil, err
	}
	env := map[string]string{}
	text, err := goOutput(ctx, dir, "env", "-json")
	if err == nil {
		err = json.Unmarshal(text, &env)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Missing, err, "asking the go command for its settings")
	}
	text, err = goOutput(ctx, dir, append([]string{"list", "-deps", "-json"}, files...)...)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "listing what the magefiles in %s import", dir)
	}
	l := &lister{dir: dir, env: env, sum: sha256.New(), in: &inputs{settled: true}, seen: map[string]bool{}, now: time.Now()}
	l.in.record = record.Record{Dir: dir, Settings: record.Settings()}
	l.settings()
	for d := json.NewDecoder(bytes.NewReader(text)); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fault.Wrap(fault.Internal, err, "reading what the go command lists")
		}
		if err := l.add(&p); err != nil {
			return nil, fault.Wrap(fault.IO, err, "reading what enters the magefiles in %s", dir)
		}
	}
	if err := l.around(); err != nil {
		return nil, fault.Wrap(fault.IO, err, "reading the settings of the magefiles in %s", dir)
	}
	l.in.key = hex.EncodeToString(l.sum.Sum(nil))
	return l.in, nil
}

// magefiles returns the names of the magefiles. They may lie in a directory of their own,
// as mage has it.
func magefiles(dir string) ([]string, error) {
	paths, err := mage.Magefiles(dir, "", "", false)
	own := filepath.Join(dir, mage.MagefilesDirName)
	if _, missing := os.Stat(own); err == nil && len(paths) == 0 && missing == nil {
		paths, err = mage.Magefiles(own, "", "", true)
	}
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "looking for magefiles")
	}
	names := make([]string, 0, len(paths))
	for _, p := range paths {
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return nil, fault.Wrap(fault.Internal, err, "looking for magefiles")
		}
		names = append(names, rel)
	}
	if len(names) == 0 {
		return nil, fault.New(fault.BadInput, "%s has no magefile: a .go file with the line //go:build mage", dir)
	}
	return names, nil
}

func goOutput(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, mg.GoCmd(), args...)
	cmd.Dir = dir
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s", mg.GoCmd(), args[0], err, bytes.TrimSpace(said.Bytes()))
	}
	return out, nil
}

// lister adds up the inputs.
type lister struct {
	dir  string
	env  map[string]string // go env
	sum  hash.Hash
	in   *inputs
	seen map[string]bool // files in the record
	now  time.Time
}

// settings are those of the go command that decide on its result, mage's version and
// option. Where things lie decides on nothing.
func (l *lister) settings() {
	_, _ = fmt.Fprintf(l.sum, "magefile 1 %v\n", mg.Multiline())
	for _, name := range []string{
		"GOVERSION", "GOOS", "GOARCH", "GOFLAGS", "GOEXPERIMENT", "GOFIPS140", "GOAMD64", "GOARM", "GOARM64", "GO386", "GOMIPS",
		"GOMIPS64", "GOPPC64", "GORISCV64", "CGO_ENABLED", "CC", "CXX", "CGO_CFLAGS", "CGO_CPPFLAGS", "CGO_CXXFLAGS", "CGO_LDFLAGS",
	} {
		_, _ = fmt.Fprintf(l.sum, "%s=%q\n", name, l.env[name])
	}
	// Programs of a go command's workspace know where this module is by their own paths.
	_, _ = fmt.Fprintf(l.sum, "GOWORK=%q\n", l.env["GOWORK"])
}

// add takes a package, unless its content is pinned: the standard library by the tool
// chain's version, modules in the module cache by go.sum.
func (l *lister) add(p *goPackage) error {
	if p.Standard || !p.main() && within(p.Dir, l.env["GOMODCACHE"]) {
		return nil
	}
	_, _ = fmt.Fprintf(l.sum, "package %s\n", p.ImportPath)
	for _, name := range slices.Sorted(slices.Values(p.sources())) {
		if err := l.content(filepath.Join(p.Dir, name), name); err != nil {
			return err
		}
	}
	if p.Module != nil && p.Module.GoMod != "" {
		if err := l.module(p.Module.GoMod); err != nil {
			return err
		}
	}
	return l.watch(p)
}

// module takes the files that pin what a module imports.
func (l *lister) module(goMod string) error {
	for _, path := range []string{goMod, strings.TrimSuffix(goMod, ".mod") + ".sum"} {
		if err := l.optional(path); err != nil {
			return err
		}
	}
	return nil
}

// watch notes where a further file of the package would lie, and the files that its
// build constraints leave out.
func (l *lister) watch(p *goPackage) error {
	names, err := record.Names(p.Dir, false)
	if err != nil {
		return err
	}
	l.in.record.Lists = append(l.in.record.Lists, record.List{Path: p.Dir, Names: names})
	for _, name := range names {
		if err := l.note(filepath.Join(p.Dir, name)); err != nil {
			return err
		}
	}
	if len(p.EmbedPatterns) == 0 {
		return nil
	}
	return filepath.WalkDir(p.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		names, err := record.Names(path, true)
		l.in.record.Lists = append(l.in.record.Lists, record.List{Path: path, All: true, Names: names})
		return err
	})
}

// around takes what decides on the list of packages: the workspace of the go command, its
// file of settings, vendored modules, magefiles in a directory of their own.
func (l *lister) around() error {
	places := []string{l.env["GOENV"], filepath.Join(l.dir, mage.MagefilesDirName)}
	if work := l.env["GOWORK"]; filepath.IsAbs(work) {
		places = append(places, work, work+".sum")
	}
	for dir := l.dir; ; dir = filepath.Dir(dir) {
		places = append(places, filepath.Join(dir, "go.work"), filepath.Join(dir, "go.mod"), filepath.Join(dir, "vendor", "modules.txt"))
		if dir == filepath.Dir(dir) {
			break
		}
	}
	for _, path := range places {
		if err := l.optional(path); err != nil {
			return err
		}
	}
	return l.module(l.env["GOMOD"])
}

// optional takes a file that may be absent.
func (l *lister) optional(path string) error {
	if l.seen[path] || !filepath.IsAbs(path) {
		return nil
	}
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrInvalid):
		l.seen[path] = true
		l.in.record.Absent = append(l.in.record.Absent, path)
		return nil
	case err != nil:
		return err
	case !st.Mode().IsRegular():
		return l.note(path)
	}
	return l.content(path, filepath.Base(path))
}

// content takes a file into the key, under a name that does not say where it lies.
func (l *lister) content(path, name string) error {
	if err := l.note(path); err != nil {
		return err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(l.sum, "%s %d\n%s", name, len(data), data)
	return nil
}

// note takes a file into the record.
func (l *lister) note(path string) error {
	if l.seen[path] {
		return nil
	}
	l.seen[path] = true
	id, err := record.ID(path)
	if err != nil {
		return err
	}
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	changed := time.Unix(st.Sys().(*syscall.Stat_t).Ctim.Unix())
	l.in.settled = l.in.settled && st.ModTime().Before(l.now.Add(-racy)) && changed.Before(l.now.Add(-racy))
	l.in.record.Files = append(l.in.record.Files, record.File{Path: path, ID: id})
	return nil
}

func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && dir != "" && filepath.IsLocal(rel)
}
