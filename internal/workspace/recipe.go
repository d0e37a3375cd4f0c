package workspace

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/build/options"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// recipe describes what a job is made of besides the source tree.
func (w *Workspace) recipe(j *job) (*build.Recipe, error) {
	lock, err := j.lock.Bytes()
	if err != nil {
		return nil, err
	}
	r := &build.Recipe{Lock: string(lock), Go: runtime.Version()}
	var files map[string]string
	r.Settings, r.Secrets, files = w.Options.Variables()
	for name, path := range files {
		if r.Files == nil {
			r.Files = map[string]build.RecipeFile{}
		}
		path = w.path(path)
		sum, err := digestFile(j.Cache.Memory(), path)
		if err != nil {
			return nil, fault.Wrap(fault.IO, err, "reading the file of %s", name)
		}
		r.Files[name] = build.RecipeFile{Path: path, SHA256: sum}
	}
	return r, nil
}

// digestFile returns the SHA-256 of a file, "" of a directory.
func digestFile(memory *build.StatCache, path string) (string, error) {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return "", err
	}
	return memory.Digest(path, info)
}

// environment returns the variables that give another process the settings of a recipe. Files
// are looked for where this process has them, or else where the recipe says; secrets must be in
// the environment of this process.
func environment(ctx context.Context, r *build.Recipe) ([]string, error) {
	if err := checkRecipe(r); err != nil {
		return nil, err
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(r.Settings)) {
		out = append(out, name+"="+r.Settings[name])
	}
	for _, name := range slices.Sorted(maps.Keys(r.Files)) {
		f := r.Files[name]
		if own := os.Getenv(name); own != "" {
			path, err := filepath.Abs(own)
			if err != nil {
				return nil, fault.Wrap(fault.IO, err, "looking for the file of %s", name)
			}
			f.Path = path
		} else if f.SHA256 == "" { // it could be any of this machine
			return nil, fault.New(fault.Missing, "the record of the build has no digest of %s, which was %s: set the variable to where that is", name, f.Path)
		}
		if err := checkFile(ctx, name, f); err != nil {
			return nil, err
		}
		out = append(out, name+"="+f.Path)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Secrets)) {
		value := os.Getenv(name)
		if sum := sha256.Sum256([]byte(value)); hex.EncodeToString(sum[:]) != r.Secrets[name] {
			return nil, fault.New(fault.Missing, "the build had a secret in %s, of which its record has the digest %.12s: set the variable to the same", name, r.Secrets[name])
		}
		out = append(out, name+"="+value)
	}
	return out, nil
}

// checkRecipe checks that a recipe sets nothing but settings of a build: it may come with an image
// of somebody else, and other variables make programs run others.
func checkRecipe(r *build.Recipe) error {
	names := slices.Concat(slices.Collect(maps.Keys(r.Settings)), slices.Collect(maps.Keys(r.Files)), slices.Collect(maps.Keys(r.Secrets)))
	slices.Sort(names)
	for _, name := range names {
		if !options.IsVariable(name) {
			return fault.New(fault.BadInput, "the record of the build sets %.100q, which is not a setting of a build: remove it from the record", name)
		}
		if strings.ContainsRune(r.Settings[name]+r.Files[name].Path, 0) {
			return fault.New(fault.BadInput, "the record of the build sets %s to a value with a NUL", name)
		}
	}
	return nil
}

// checkFile compares a file with what a recipe says of it.
func checkFile(ctx context.Context, name string, f build.RecipeFile) error {
	info, err := os.Stat(f.Path)
	if err != nil {
		return fault.New(fault.Missing, "the build had the file %s of %s: %w; set the variable to where it is", f.Path, name, err)
	}
	if f.SHA256 == "" { // a directory, which the user has named
		return nil
	}
	if info.IsDir() {
		return fault.New(fault.BadInput, "%s of %s is a directory, and was a file in the build", f.Path, name)
	}
	sum, err := build.SumFile(ctx, f.Path)
	if err != nil {
		return fault.Wrap(fault.IO, err, "reading the file of %s", name)
	}
	if sum != f.SHA256 {
		return fault.New(fault.Digest, "the file %s of %s has the digest %.12s, the build had one with %.12s", f.Path, name, sum, f.SHA256)
	}
	return nil
}

// differingRecipes returns a line for each thing that two recipes do not have in common.
func differingRecipes(a, b *build.Recipe) (out []string) {
	if a == nil || b == nil {
		return nil
	}
	if a.Go != b.Go {
		out = append(out, fmt.Sprintf("Go %s → %s", a.Go, b.Go))
	}
	for _, name := range slices.Sorted(maps.Keys(a.Settings)) {
		if v := b.Settings[name]; v != a.Settings[name] {
			out = append(out, fmt.Sprintf("%s %q → %q", name, a.Settings[name], v))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b.Settings)) {
		if _, ok := a.Settings[name]; !ok {
			out = append(out, fmt.Sprintf("%s → %q", name, b.Settings[name]))
		}
	}
	return append(out, differingLocks(a.Lock, b.Lock)...)
}

// differingLocks returns a line for each package of which two locks have not the same file.
func differingLocks(a, b string) []string {
	la, errA := debian.ParseLock([]byte(a))
	lb, errB := debian.ParseLock([]byte(b))
	if errA != nil || errB != nil {
		return []string{"the locks cannot be compared"}
	}
	out := lb.Moved(la)
	sums := map[string]string{}
	for _, e := range la.Packages {
		sums[e.String()+" "+e.Suite] = e.SHA256
	}
	for _, e := range lb.Packages {
		if sum, ok := sums[e.String()+" "+e.Suite]; ok && sum != e.SHA256 {
			out = append(out, fmt.Sprintf("%s with the digest %.12s instead of %.12s", e, e.SHA256, sum))
		}
	}
	return out
}
