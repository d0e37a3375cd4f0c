// Package layers finds the files of a build in an ordered list of directories: what a
// product's workspace has wins over what this module ships. Every name that was found is
// remembered with its directory, so that a plan can say where each input came from.
//
// Definitions are found as a whole directory (targets/NAME, containers/NAME), files of
// configuration one by one (config/PLATFORM/FILE), and the directories of vendors
// (vendors/PLATFORM/skel) in every layer, so that their files add up.
package layers

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Workspace is the label of the layer that a user works in.
const Workspace = "workspace"

// Layer is one directory in which files are looked for.
type Layer struct {
	// Label is what people call it: [Workspace], or "module github.com/x/y v1.2.3".
	Label string
	// Dir is its directory, absolute.
	Dir string
}

// Place is where a name was found.
type Place struct {
	// Name is the path below a layer, with slashes: "config/x64-uefi/image.config".
	Name string
	// Path is the file or directory on this machine.
	Path string
	// Layer has it.
	Layer Layer
	// Over is the path of the next layer's file or directory of that name, which is not used
	// because of this one; "" when there is none, or when the files of both add up.
	Over string
}

// Layers is an ordered list of layers. Its methods may be called at the same time.
type Layers struct {
	list []Layer

	mu    sync.Mutex
	found map[Place]bool
}

// New returns layers of which the first wins. A directory that is there twice, as in this
// module's own checkout, counts once.
func New(list ...Layer) *Layers {
	l := &Layers{found: map[Place]bool{}}
	for _, layer := range list {
		if !slices.ContainsFunc(l.list, func(o Layer) bool { return same(o.Dir, layer.Dir) }) {
			l.list = append(l.list, layer)
		}
	}
	return l
}

// same reports whether two paths lead to one directory.
func same(a, b string) bool {
	one, err := os.Stat(a)
	if err != nil {
		return a == b
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}

// Top returns the first layer, the workspace.
func (l *Layers) Top() Layer { return l.list[0] }

// Shipped returns the last layer, this module.
func (l *Layers) Shipped() Layer { return l.list[len(l.list)-1] }

// Dirs returns the directories of a name in all layers, whether they exist or not.
func (l *Layers) Dirs(name string) []string {
	dirs := make([]string, len(l.list))
	for i, layer := range l.list {
		dirs[i] = filepath.Join(layer.Dir, filepath.FromSlash(name))
	}
	return dirs
}

// Find returns where the first layer that has a name has it. The name must have been
// validated. When no layer has it, the place is that in the first layer, where a user
// would make it, and ok is false.
func (l *Layers) Find(name string) (p Place, ok bool) {
	for i, layer := range l.list {
		p, ok := layer.find(name)
		if !ok {
			continue
		}
		for _, below := range l.list[i+1:] {
			if hidden, ok := below.find(name); ok {
				p.Over = hidden.Path
				break
			}
		}
		l.note(p)
		return p, true
	}
	top := l.Top()
	return Place{Name: name, Path: filepath.Join(top.Dir, filepath.FromSlash(name)), Layer: top}, false
}

// Every returns where each layer that has a name has it, the first layer last: files that
// are added in this order replace those of later layers.
func (l *Layers) Every(name string) []Place {
	var out []Place
	for _, layer := range slices.Backward(l.list) {
		if p, ok := layer.find(name); ok {
			l.note(p)
			out = append(out, p)
		}
	}
	return out
}

// Names lists the directories NAME of all layers for which DIR/NAME/FILE exists, sorted.
func (l *Layers) Names(dir, file string) ([]string, error) {
	var names []string
	for _, d := range l.Dirs(dir) {
		entries, err := os.ReadDir(d)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			if exists(filepath.Join(d, e.Name(), file)) {
				names = append(names, e.Name())
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Found returns the places of all names that were found, by name; of one name the place
// that wins comes first.
func (l *Layers) Found() []Place {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Place, 0, len(l.found))
	for p := range l.found {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b Place) int {
		if a.Name != b.Name {
			return strings.Compare(a.Name, b.Name)
		}
		return slices.Index(l.list, a.Layer) - slices.Index(l.list, b.Layer)
	})
	return out
}

func (l *Layers) note(p Place) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.found[p] = true
}

// find looks a name up in one layer.
func (l Layer) find(name string) (Place, bool) {
	for _, at := range l.candidates(name) {
		path := filepath.Join(l.Dir, filepath.FromSlash(at))
		if exists(path) {
			return Place{Name: name, Path: path, Layer: l}, true
		}
	}
	return Place{}, false
}

// candidates returns the paths at which a layer may have a name: vendors/ may be called
// vendor/ where there is no go.mod, which gives that name a meaning of its own.
func (l Layer) candidates(name string) []string {
	rest, vendors := strings.CutPrefix(name, "vendors/")
	if !vendors || exists(filepath.Join(l.Dir, "go.mod")) {
		return []string{name}
	}
	return []string{name, "vendor/" + rest}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
