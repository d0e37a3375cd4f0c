package images

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
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
	_ build.Replacing = (*FilesBlock)(nil)
)

// Name of the step.
func (s *FilesBlock) Name() string { return "initrd/files" }

// Version of the step's logic.
func (s *FilesBlock) Version() int { return 4 }

// Deps are none: everything is in the sources.
func (s *FilesBlock) Deps() []build.Step { return nil }

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
	all, err := s.assemble(ctx)
	if err != nil {
		return err
	}
	entries, err := all.check()
	if err != nil {
		return err
	}
	for which, part := range cut(entries) {
		if err := (block{which, text, s.Epoch}).write(ctx, w, part); err != nil {
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

// Replaces lists the files of skel and of upper directories that replace others.
func (s *FilesBlock) Replaces(ctx context.Context, _ func(build.Step) string) ([]build.Replacement, error) {
	all, err := s.assemble(ctx)
	if err != nil {
		return nil, err
	}
	return all.over.Replaced(), nil
}

// names lists the files in the blocks.
func (s *FilesBlock) names(ctx context.Context, _ func(build.Step) string) ([]string, error) {
	all, err := s.assemble(ctx)
	if err != nil {
		return nil, err
	}
	return all.files.names(), nil
}

// assemble returns the whole tree.
func (s *FilesBlock) assemble(ctx context.Context) (*assembly, error) {
	a := &assembly{files: fileSet{}}
	for _, e := range skeleton() {
		a.put(e, s.Name())
	}
	config, err := runtimeConfig(s.Config, s.Derived)
	if err != nil {
		return nil, err
	}
	a.put(tree.Bytes("etc/pantavisor.config", 0o644, config), s.Name())
	a.put(tree.Bytes("etc/build", 0o644, buildText(s.Release, s.Target, s.Epoch, s.Packages)), s.Name())
	return a, a.configuration(ctx, s.Defaults, s.Trust, s.Skel)
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

func describe(e tree.Entry) string {
	switch {
	case e.Link != "":
		return "a link to " + e.Link
	case e.Mode.IsDir():
		return "a directory"
	}
	return "a file"
}

// names lists the files and links of the tree.
func (t fileSet) names() []string {
	var out []string
	for name, e := range t {
		if !e.Mode.IsDir() {
			out = append(out, name)
		}
	}
	return out
}

// check checks the tree and returns its entries, sorted.
func (a *assembly) check() ([]tree.Entry, error) {
	var errs []error
	for name := range a.files {
		if below(name, modulesDir) || name == runtimeFile {
			errs = append(errs, fault.New(fault.BadInput, "checking the initrd: skel may not contain %s, which the build provides (early_modules in target.yaml)", name))
		}
	}
	out := tree.Set(a.files).Sorted()
	if err := cpio.Validate(out); err != nil {
		errs = append(errs, fault.Wrap(fault.BadInput, err, "checking the initrd"))
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return out, errors.Join(errs...)
}
