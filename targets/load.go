package targets

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/spelling"
	"github.com/pantavisor/pantavisor/internal/yamlfile"
)

//go:embed */target.yaml
var own embed.FS

// FileName is the name of a target's file in its directory.
const FileName = "target.yaml"

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// Builtin returns the targets that this module ships.
func Builtin() fs.FS { return own }

// In holds the targets of directories, "<dir>/<name>/target.yaml", and the built-in ones.
// A target replaces those with the same name in later directories and the built-in one.
func In(dirs ...string) fs.FS {
	all := overlay{}
	for _, dir := range dirs {
		all = append(all, os.DirFS(dir))
	}
	return append(all, own)
}

// overlay is several file systems; the first one that has a file wins.
type overlay []fs.FS

// Open implements fs.FS for files.
func (o overlay) Open(name string) (fs.File, error) {
	for _, layer := range o {
		f, err := layer.Open(name)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// Stat implements fs.StatFS for files, which are not opened.
func (o overlay) Stat(name string) (fs.FileInfo, error) {
	for _, layer := range o {
		info, err := fs.Stat(layer, name)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return info, err
		}
	}
	return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
}

// Glob implements fs.GlobFS, so that the names in all layers are found.
func (o overlay) Glob(pattern string) ([]string, error) {
	var all []string
	for _, layer := range o {
		found, err := fs.Glob(layer, pattern)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

var (
	_ fs.GlobFS = overlay(nil)
	_ fs.StatFS = overlay(nil)
)

// Names lists the targets in fsys with their builds, sorted.
func Names(fsys fs.FS) ([]string, error) {
	names, err := definitions(fsys)
	if err != nil {
		return nil, err
	}
	for _, d := range slices.Clone(names) {
		for _, b := range further(fsys, d).builds {
			names = append(names, d+"-"+b)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// definitions lists the directories with a target's file, sorted.
func definitions(fsys fs.FS) ([]string, error) {
	found, err := fs.Glob(fsys, "*/"+FileName)
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "listing targets")
	}
	names := make([]string, 0, len(found))
	for _, f := range found {
		if name := path.Dir(f); nameForm.MatchString(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// otherNames are the names that a target's file gives besides its directory's.
type otherNames struct{ aliases, builds []string }

// further reads the other names of a definition; a file that is wrong has none.
func further(fsys fs.FS, definition string) otherNames {
	data, err := yamlfile.Text(fsys, definition+"/"+FileName)
	if err != nil || !bytes.Contains(data, []byte("\nbuilds:")) && !bytes.Contains(data, []byte("\naliases:")) {
		return otherNames{}
	}
	t := &Target{}
	yamlfile.Read(FileName, kind, data, t)
	return otherNames{t.Aliases, slices.Sorted(maps.Keys(t.Builds))}
}

// place is a definition, or one of its builds.
type place struct{ definition, build string }

// String is the place's own name.
func (p place) String() string { return strings.TrimSuffix(p.definition+"-"+p.build, "-") }

// resolve returns what a name that is not a directory's stands for: a build, or the target
// with that alias. Of several the one in the first layer is taken; two in one layer are a
// fault.BadInput.
func resolve(fsys fs.FS, name string) (found place, ok bool, err error) {
	names, err := definitions(fsys)
	if err != nil {
		return place{}, false, err
	}
	builds, of := map[string][]string{}, map[string][]string{}
	for _, d := range names {
		o := further(fsys, d)
		for _, n := range append(o.aliases, d) {
			builds[n], of[n] = append(builds[n], o.builds...), append(of[n], d)
		}
	}
	var all []place
	for _, d := range of[name] {
		all = append(all, place{d, ""})
	}
	if n, build, is := split(slices.Sorted(maps.Keys(of)), builds, name); is {
		for _, d := range of[n] {
			if build == defaultBuild || slices.Contains(further(fsys, d).builds, build) {
				all = append(all, place{d, build})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b place) int { return layer(fsys, a.definition) - layer(fsys, b.definition) })
	if len(all) > 1 && layer(fsys, all[0].definition) == layer(fsys, all[1].definition) {
		return place{}, false, fault.New(fault.BadInput, "target %q is another name of %s and of %s: change the aliases of one of them", name, all[0], all[1])
	}
	if len(all) == 0 {
		return place{}, false, nil
	}
	return all[0], true, nil
}

// layer returns the number of the layer that a definition is taken from.
func layer(fsys fs.FS, definition string) int {
	layers, _ := fsys.(overlay)
	return slices.IndexFunc(layers, func(l fs.FS) bool {
		_, err := fs.Stat(l, definition+"/"+FileName)
		return err == nil
	})
}

// aliases returns the check that no alias is hidden by the name of a target, unless that one
// is in an earlier layer and replaces it.
func aliases(fsys fs.FS) Check {
	return func(t *Target, f *yamlfile.File) {
		for i, a := range t.Aliases {
			_, err := fs.Stat(fsys, a+"/"+FileName)
			if err == nil && layer(fsys, a) >= layer(fsys, t.Definition) {
				f.Wrong(fmt.Sprintf("aliases[%d]", i), "%q is the name of a target itself: leave it out", a)
			}
		}
	}
}

// Load reads, checks and completes one target of fsys; nil means [Builtin]. An
// unknown name is a fault.BadInput with the nearest names; a wrong file is a
// [yamlfile.Problems] with all its mistakes, those that the further checks add included.
func Load(fsys fs.FS, name string, further ...Check) (*Target, error) {
	if fsys == nil {
		fsys = own
	}
	return load(fsys, name, "", further)
}

// Check adds the mistakes that it finds in a target to those of its file. The target may
// have others.
type Check func(*Target, *yamlfile.File)

// load is Load for a target that others, users, have as their base.
func load(fsys fs.FS, name, build string, further []Check, users ...string) (*Target, error) {
	if !nameForm.MatchString(name) {
		return nil, unknown(fsys, name)
	}
	file := name + "/" + FileName
	data, err := yamlfile.Text(fsys, file)
	if errors.Is(err, fs.ErrNotExist) {
		found, ok, err := resolve(fsys, name)
		switch {
		case err != nil:
			return nil, err
		case !ok || build != "":
			return nil, unknown(fsys, name)
		}
		return load(fsys, found.definition, found.build, further, users...)
	}
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "reading target %s", name)
	}
	if slices.Contains(users, name) {
		return nil, fault.New(fault.BadInput, "%q has this target as its base itself", name)
	}
	users = append(users, name)
	return parseBuild("targets/"+file, name, build, data, func(base string) (*Target, error) {
		return load(fsys, base, "", nil, users...)
	}, append(slices.Clip(further), aliases(fsys))...)
}

// LoadAll loads every target of fsys. It returns the valid ones and one error for all
// others.
func LoadAll(fsys fs.FS) ([]*Target, error) {
	names, err := Names(fsys)
	if err != nil {
		return nil, err
	}
	var all []*Target
	var errs []error
	told := map[string]bool{} // the mistakes of a definition are those of each of its builds
	for _, name := range names {
		t, err := Load(fsys, name)
		if err != nil {
			if !told[err.Error()] {
				errs = append(errs, err)
			}
			told[err.Error()] = true
			continue
		}
		all = append(all, t)
	}
	return all, errors.Join(errs...)
}

// unknown is the error for a name that no target has. It suggests targets and their aliases,
// and builds for a name that begins as theirs.
func unknown(fsys fs.FS, name string) error {
	if info, err := fs.Stat(fsys, name+"/"+FileName); err == nil && !info.IsDir() {
		return fault.New(fault.BadInput, "target %q: its directory's name is not possible; want lower-case letters, digits and . _ -, beginning with a letter or digit", name)
	}
	definitions, err := definitions(fsys)
	if err != nil {
		return err
	}
	var known []string
	for _, d := range definitions {
		also := further(fsys, d)
		for _, n := range append(also.aliases, d) {
			known = append(known, n)
			if !strings.HasPrefix(name, n+"-") {
				continue
			}
			for _, b := range also.builds {
				known = append(known, n+"-"+b)
			}
		}
	}
	if len(spelling.Nearest(name, known)) > 0 {
		return spelling.Unknown("target", name, known)
	}
	return fault.New(fault.BadInput, "target %q: unknown; \"mage targets\" lists those that there are", name)
}
