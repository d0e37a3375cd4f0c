package step

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/revision/trail"
)

// notes are the files of a revision that are about it and not of its state.
var notes = []string{fileProgress, fileDone, fileMessage}

// Install checks all objects and lays the state out in its directory, the files for the
// boot loader included, so that the revision can be booted. A directory that is right
// already is not touched: the boot loader reads the file system without its journal, and
// what it may boot must stay where it is. Any other is exchanged as a whole. An object that
// is missing or damaged is a [Damage].
func (f *Files) Install(ctx context.Context) error {
	for _, key := range f.State.Keys() {
		if err := f.checkObject(ctx, key); err != nil {
			return err
		}
	}
	right, err := f.laidOut()
	if err != nil || right {
		return err
	}
	if f.steps != nil {
		defer f.steps.Pin()() // the directory in which it is laid out is no garbage
	}
	return trail.Checkout(ctx, f.Dir, f.State, f.Store, trail.Options{ObjectsDir: f.Store.Dir(), Replace: true, Keep: notes})
}

// laidOut reports whether the directory has the files of the state, and for the boot loader
// those of the state alone.
func (f *Files) laidOut() (bool, error) {
	links, err := trail.BootLinks(f.State, nil)
	if err != nil {
		return false, &Damage{err}
	}
	want := map[string]string{} // names in .pv, with the objects
	for _, l := range links {
		want[l.Name], _ = f.State.Object(l.Target)
	}
	have, err := os.ReadDir(filepath.Join(f.Dir, ".pv"))
	if err != nil && !os.IsNotExist(err) {
		return false, err
	}
	for _, e := range have {
		if _, ok := want[e.Name()]; !ok && forLoader(e.Name()) {
			return false, nil
		}
	}
	for name, sum := range want {
		if !f.linked(sum, filepath.Join(f.Dir, ".pv", name)) {
			return false, nil
		}
	}
	for _, key := range f.State.Keys() {
		if !f.inPlace(key) {
			return false, nil
		}
	}
	return true, nil
}

// forLoader reports whether a file in .pv is one that a boot loader looks for.
func forLoader(name string) bool {
	return strings.HasPrefix(name, "pv-") || strings.HasPrefix(name, "pantavisor.") || strings.HasSuffix(strings.TrimSuffix(name, ".gz"), "boot.img")
}

// inPlace reports whether the directory has the file of a key as the state wants it. What a
// container may write to is its own.
func (f *Files) inPlace(key string) bool {
	path := filepath.Join(f.Dir, key)
	if sum, ok := f.State.Object(key); ok {
		if filepath.Ext(key) == ".bind" {
			_, err := os.Stat(path)
			return err == nil
		}
		return f.linked(sum, path)
	}
	text, ok := f.State.Get(key)
	if key == "#spec" || !ok {
		return true
	}
	have, err := os.ReadFile(path)
	return err == nil && bytes.Equal(have, text)
}

// linked reports whether path is a link to an object.
func (f *Files) linked(sum, path string) bool {
	object, err := f.Store.Path(sum)
	return err == nil && sameFile(object, path)
}
