package workspace

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"github.com/pantavisor/pantavisor/build/gosource"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/layers"
)

// modulePath is the import path of this module.
const modulePath = "github.com/pantavisor/pantavisor"

// Sources returns where the files of builds are looked for: the workspace, then this
// module's directory.
func (w *Workspace) Sources() (*layers.Layers, error) {
	if w.layers != nil {
		return w.layers, nil
	}
	root, err := filepath.Abs(w.Root)
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "looking for the workspace")
	}
	shipped, err := shippedLayer(root)
	if err != nil {
		return nil, err
	}
	w.layers = layers.New(layers.Layer{Label: layers.Workspace, Dir: root}, shipped)
	return w.layers, nil
}

// shippedLayer returns this module's directory: the workspace, when that is a checkout of
// this module, or else where the go command found the module when it compiled this program.
func shippedLayer(root string) (layers.Layer, error) {
	if isThisModule(root) {
		return layers.Layer{Label: layers.Workspace, Dir: root}, nil
	}
	dir := os.Getenv("MAGE_PANTAVISOR_DIR") // cmd/mage says it to a program that no magefile of root made
	if info, ok := debug.ReadBuildInfo(); ok {
		if d := required(info, root); d != "" {
			dir = d
		}
	}
	if dir == "" || !isThisModule(dir) {
		dir = compiledFrom()
	}
	if !isThisModule(dir) {
		return layers.Layer{}, fault.New(fault.Missing,
			"looking for the sources of %s: %q has none; \"go mod download %s\" fetches them, a line \"replace\" in go.mod names a local checkout", modulePath, dir, modulePath)
	}
	return layers.Layer{Label: "module " + cmp.Or(cachedVersion(dir), "(local)"), Dir: dir}, nil
}

// cachedVersion is the version of a directory of the module cache, "" for any other.
func cachedVersion(dir string) string {
	_, version, _ := strings.Cut(filepath.Base(dir), "@")
	if v, err := module.UnescapeVersion(version); err == nil {
		return v
	}
	return ""
}

// required returns the directory of this module as the module of this program's main
// package requires it, "" when it does not.
func required(info *debug.BuildInfo, root string) string {
	for _, dep := range info.Deps {
		switch r := dep.Replace; {
		case dep.Path != modulePath:
		case r == nil:
			return gosource.Downloaded(dep.Path, dep.Version)
		case r.Version != "":
			return gosource.Downloaded(r.Path, r.Version)
		case filepath.IsAbs(r.Path):
			return r.Path
		default:
			return filepath.Join(root, filepath.FromSlash(r.Path))
		}
	}
	return ""
}

// compiledFrom returns the directory that this program was compiled from: that of a go
// command's workspace (go.work), of a checkout's tests, or of a module cache at a place
// that only the go command's settings know.
func compiledFrom() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

func isThisModule(dir string) bool {
	text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	return err == nil && modfile.ModulePath(text) == modulePath
}

// code is the Go code of a build.
type code struct {
	this *gosource.Module // of this module
	own  *gosource.Module // of the workspace; nil when that is not a module
}

// modules returns the Go code of this module and of the workspace. It is read once: the builds
// and plans of one command are of the same sources.
func (w *Workspace) modules(l *layers.Layers) (code, error) {
	if w.code.this != nil {
		return w.code, nil
	}
	c, err := openModules(l)
	if err == nil {
		w.code = c
	}
	return c, err
}

func openModules(l *layers.Layers) (code, error) {
	this, err := gosource.Open(l.Shipped().Dir)
	if err != nil {
		return code{}, err
	}
	if l.Top() == l.Shipped() {
		return code{this, this}, nil
	}
	own, err := gosource.Open(l.Top().Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return code{this: this}, nil
	}
	return code{this, own}, err
}
