package images

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/cpio"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// FilesBlock is the step that packs everything in the initrd except the device binary and
// the modules: directories, links, configuration, policies, certificates and the vendor's
// skel.
type FilesBlock struct {
	// Target is its name.
	Target string
	// Derived are the configuration keys that follow from the target.
	Derived []Setting
	// Trust are certificates and keys by their name in the trust directory.
	Trust []Trust
	// Release is the version of the firmware; may be empty.
	Release string
	// Packages are the pinned packages of the target, for /etc/build.
	Packages []string
	// Epoch is the time of all files.
	Epoch build.Stamp
	// Config is pantavisor.config, Defaults the directory with the policies, Skel that of
	// the vendor; it may be nil.
	Config   build.Source  `json:"-"`
	Defaults build.Source  `json:"-"`
	Skel     *build.Source `json:"-"`
	// Tools provides xz.
	Tools Tools `json:"-"`
}

// Trust is a PEM file that signatures are checked against.
type Trust struct {
	// Name in /etc/pantavisor/pvs/trust, for example "ca-certificates.crt".
	Name string
	// Path on this machine.
	Path string `json:"-"`
}

var (
	_ build.Step      = (*FilesBlock)(nil)
	_ build.Versioned = (*FilesBlock)(nil)
	_ build.Sourced   = (*FilesBlock)(nil)
)

// Name of the step.
func (s *FilesBlock) Name() string { return "initrd/files" }

// Version of the step's logic.
func (s *FilesBlock) Version() int { return 3 }

// Deps are the tools.
func (s *FilesBlock) Deps() []build.Step { return []build.Step{s.Tools} }

// Sources are the configuration, the defaults, the certificates and skel.
func (s *FilesBlock) Sources() ([]build.Source, error) {
	return configSources(s.Config, s.Defaults, s.Trust, s.Skel)
}

// configSources returns the configuration files of an initrd or App Engine; skel may be
// nil.
func configSources(config, defaults build.Source, trust []Trust, skel *build.Source) ([]build.Source, error) {
	out := []build.Source{config, defaults}
	for _, t := range trust {
		out = append(out, build.Source{Name: "trust/" + t.Name, Path: t.Path})
	}
	if skel != nil {
		out = append(out, *skel)
	}
	return out, missing(out)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// missing returns an error that lists the sources that do not exist.
func missing(list []build.Source) error {
	var errs []error
	for _, s := range list {
		if !exists(s.Path) {
			errs = append(errs, fault.New(fault.Missing, "looking for %s: %s is not there", s.Name, s.Path))
		}
	}
	return errors.Join(errs...)
}

// Run writes the three blocks around the modules and the device binary.
func (s *FilesBlock) Run(ctx context.Context, w *build.Work) error {
	if len(s.Trust) == 0 {
		w.Warn("no certificate or key is given (PV_PVS_CERT_PEM, PV_PVS_PUB_PEM, ca/pvs): the device cannot check the signatures of revisions")
	}
	entries, err := s.entries(ctx)
	if err != nil {
		return err
	}
	for which, part := range cut(entries) {
		if err := (block{which, false, s.Epoch}).write(ctx, w, s.Tools, part); err != nil {
			return err
		}
	}
	return nil
}

// cut distributes entries over the blocks that this step makes.
func cut(entries []tree.Entry) map[int][]tree.Entry {
	out := map[int][]tree.Entry{headBlock: nil, middleBlock: nil, tailBlock: nil}
	for _, e := range entries {
		which := tailBlock
		switch {
		case e.Name < modulesDir:
			which = headBlock
		case e.Name < runtimeFile:
			which = middleBlock
		}
		out[which] = append(out[which], e)
	}
	return out
}

// entries returns the whole tree, checked.
func (s *FilesBlock) entries(ctx context.Context) ([]tree.Entry, error) {
	t := skeleton()
	config, err := runtimeConfig(s.Config, s.Derived)
	if err != nil {
		return nil, err
	}
	t["etc/pantavisor.config"] = tree.Bytes("etc/pantavisor.config", 0o644, config)
	t["etc/build"] = tree.Bytes("etc/build", 0o644, buildText(s.Release, s.Target, s.Epoch, s.Packages))
	if err := t.configuration(ctx, s.Defaults, s.Trust, s.Skel); err != nil {
		return nil, err
	}
	return t.check()
}

// buildText returns the text of GET /buildinfo: lines of a word and its value; release
// may be empty.
func buildText(release, target string, epoch build.Stamp, packages []string) []byte {
	var text bytes.Buffer
	if release != "" {
		fmt.Fprintf(&text, "release %s\n", release)
	}
	fmt.Fprintf(&text, "target %s\nepoch %d\n", target, epoch)
	for _, p := range packages {
		fmt.Fprintf(&text, "package %s\n", p)
	}
	return text.Bytes()
}

// fileSet is a tree that is assembled from several sources.
type fileSet tree.Set

// skeleton returns the directories and links that a runtime in embedded mode expects
// (manual: Pantavisor Architecture, Storage).
func skeleton() fileSet {
	t := fileSet{}
	for _, d := range []string{
		"dev", "etc", "etc/pantavisor", "etc/pantavisor/defaults", "etc/pantavisor/policies", "etc/pantavisor/pvs",
		"etc/pantavisor/pvs/trust", "etc/pantavisor/ssh", "exports", "lib", "lib/firmware", "proc", "root", "run", "run/pantavisor",
		"run/pantavisor/configs", "run/pantavisor/media", "run/pantavisor/pv", "storage", "sys", "usr", "usr/bin",
		"usr/lib", "usr/lib/pantavisor", "usr/sbin", "var", "volumes", "writable",
	} {
		t[d] = tree.Dir(d, 0o755)
	}
	t["root"], t["tmp"] = tree.Dir("root", 0o700), tree.Dir("tmp", fs.ModeSticky|0o777)
	for name, to := range map[string]string{
		"init": runtimeFile, "bin": "usr/bin", "sbin": "usr/sbin",
		"usr/bin/pvcontrol": "pantavisor", "usr/bin/pvcurl": "pantavisor", "usr/bin/pventer": "pantavisor",
		"pv": "run/pantavisor/pv", "media": "run/pantavisor/media", "configs": "run/pantavisor/configs", "var/run": "../run",
	} {
		t[name] = tree.Symlink(name, to)
	}
	for name, text := range map[string]string{
		"etc/passwd":      "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
		"etc/group":       "root:x:0:\nnogroup:x:65534:\n",
		"etc/resolv.conf": "nameserver 8.8.8.8\n",
		"etc/hosts":       "127.0.0.1 localhost\n::1 localhost\n",
	} {
		t[name] = tree.Bytes(name, 0o644, []byte(text))
	}
	return t
}

// configuration adds the defaults, the policies, the trusted certificates and keys, and
// the vendor's files; skel may be nil.
func (t fileSet) configuration(ctx context.Context, defaults build.Source, trust []Trust, skel *build.Source) error {
	if err := t.addAll(ctx, defaults, "etc/pantavisor/defaults"); err != nil {
		return err
	}
	t.move("etc/pantavisor/defaults/policies", "etc/pantavisor/policies")
	for _, file := range trust {
		e, err := fileEntry(file.Path, "etc/pantavisor/pvs/trust/"+file.Name)
		if err != nil {
			return err
		}
		t[e.Name] = e
	}
	if skel == nil {
		return nil
	}
	return t.addAll(ctx, *skel, "")
}

// addAll merges the directories of a source.
func (t fileSet) addAll(ctx context.Context, src build.Source, at string) error {
	for _, dir := range src.Dirs() {
		if err := t.add(ctx, dir, at); err != nil {
			return err
		}
	}
	return nil
}

// add merges a directory of this machine; later files replace earlier ones. A README.md
// at the top and .gitkeep files are left out.
func (t fileSet) add(ctx context.Context, dir, at string) error {
	entries, err := collect(ctx, dir, at)
	if err != nil {
		return fault.Wrap(fault.IO, err, "collecting %s", dir)
	}
	for _, e := range entries {
		if e.Name == "README.md" || filepath.Base(e.Name) == ".gitkeep" {
			continue
		}
		old, ok := t[e.Name]
		if ok && e.Mode.IsDir() != old.Mode.IsDir() {
			return fault.New(fault.BadInput, "collecting %s: %s is a directory on one side only; the initrd has %s", dir, e.Name, describe(old))
		}
		if !ok || !e.Mode.IsDir() {
			t[e.Name] = e
		}
	}
	return nil
}

func describe(e tree.Entry) string {
	switch {
	case e.Link != "":
		return "a link to " + e.Link
	case e.Mode.IsDir():
		return "a directory"
	}
	return "a file"
}

// move renames a directory with its content.
func (t fileSet) move(from, to string) {
	for name, e := range t {
		if below(name, from) {
			delete(t, name)
			e.Name = to + strings.TrimPrefix(name, from)
			t[e.Name] = e
		}
	}
}

// check checks the tree and returns its entries, sorted.
func (t fileSet) check() ([]tree.Entry, error) {
	var errs []error
	for name := range t {
		if below(name, modulesDir) || name == runtimeFile {
			errs = append(errs, fault.New(fault.BadInput, "checking the initrd: skel may not contain %s, which the build provides (early_modules in target.yaml)", name))
		}
	}
	out := tree.Set(t).Sorted()
	if err := cpio.Validate(out); err != nil {
		errs = append(errs, fault.Wrap(fault.BadInput, err, "checking the initrd"))
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return out, errors.Join(errs...)
}
