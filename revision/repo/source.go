package repo

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/pantavisor/pantavisor/internal/filestat"
	"github.com/pantavisor/pantavisor/revision/archive"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
)

// Source provides a state and its objects.
type Source interface {
	// State returns the state without its objects.
	State(ctx context.Context) (*state.State, error)
	// Pull verifies the objects of the keys that want accepts, puts them into a store
	// and returns the whole state. A source may transfer further objects.
	Pull(ctx context.Context, dst *objects.Store, want func(key string) bool) (*Pulled, error)
}

// Pulled is the result of a pull.
type Pulled struct {
	State   *state.State
	Objects []PulledObject // that were wanted, by path, in byte order; empty for a remote
	Count   int            // objects transferred
	// Unmatched are the parts that were named and are not there, neither in the source
	// nor, when they were to be dropped, in the repository.
	Unmatched []string
}

// PulledObject is an object of a pull, transferred or already present.
type PulledObject struct {
	state.Object
	From   string // where it was, for messages
	Cached bool   // it was already in the store
}

// trusted returns the objects whose content was verified during the transfer.
func (p *Pulled) trusted() map[string]bool {
	out := map[string]bool{}
	for _, o := range p.Objects {
		if !o.Cached {
			out[o.Sum] = true
		}
	}
	return out
}

// Local returns the repository in a directory (a checkout's .pvr, or an unpacked
// export) or in an archive. With link, objects are hard-linked instead of copied where
// that is safe.
func Local(path string, link bool) (Source, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return packed{path}, nil
	}
	return directory{path, link}, nil
}

// directory is a repository's directory.
type directory struct {
	dir  string
	link bool
}

// State implements Source.
func (f directory) State(context.Context) (*state.State, error) {
	if !holdsState(f.dir) {
		return nil, fmt.Errorf("reading repository %s: %w", f.dir, fs.ErrNotExist)
	}
	return readState(f.dir)
}

// store returns where the directory's objects are.
func (f directory) store() (*objects.Store, error) {
	abs, err := filepath.Abs(f.dir)
	if err != nil {
		return nil, err
	}
	config, err := readConfig(abs)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(abs, "objects")
	if config.ObjectsDir != "" {
		dir = config.objectsIn(filepath.Dir(abs))
	}
	store, err := objects.Open(dir)
	if err != nil {
		return nil, err
	}
	return store.Direct(), nil
}

// wantedObjects returns the objects of the keys that want accepts.
func wantedObjects(st *state.State, want func(string) bool) []state.Object {
	return slices.DeleteFunc(st.Objects(), func(o state.Object) bool { return !want(o.Path) })
}

// Pull implements Source.
func (f directory) Pull(ctx context.Context, dst *objects.Store, want func(string) bool) (*Pulled, error) {
	st, err := f.State(ctx)
	if err != nil {
		return nil, err
	}
	out := &Pulled{State: st}
	wanted := wantedObjects(st, want)
	if len(wanted) == 0 {
		return out, nil
	}
	src, err := f.store()
	if err != nil {
		return nil, err
	}
	p := &puller{src: src, dst: dst, link: f.link && filestat.SameFileSystem(src.Dir(), dst.Dir()), same: sameDir(src.Dir(), dst.Dir()), batch: dst.Batch()}
	defer p.batch.Abort()
	if out.Objects, err = p.all(ctx, wanted); err != nil {
		return nil, fmt.Errorf("copying objects from %s: %w", src.Dir(), err)
	}
	out.Count = len(out.Objects)
	return out, p.batch.Commit()
}

type puller struct {
	src, dst *objects.Store
	link     bool
	same     bool // src and dst are one store
	batch    *objects.Batch
}

func (p *puller) all(ctx context.Context, list []state.Object) ([]PulledObject, error) {
	out := make([]PulledObject, len(list))
	seen := map[string]bool{}
	var todo []string
	for i, o := range list {
		from, err := p.src.Path(o.Sum)
		if err != nil {
			return nil, err
		}
		out[i] = PulledObject{o, from, seen[o.Sum] || p.has(o.Sum)}
		if out[i].Cached {
			continue
		}
		if p.same {
			return nil, fmt.Errorf("%s: object %s: %w", o.Path, o.Sum, fs.ErrNotExist)
		}
		seen[o.Sum] = true
		todo = append(todo, o.Sum)
	}
	return out, parallel(ctx, len(todo), func(ctx context.Context, i int) error { return p.one(ctx, todo[i]) })
}

// has reports whether the destination has an object of the right size.
func (p *puller) has(sum string) bool {
	size, ok := p.dst.Size(sum)
	if !ok || p.same {
		return ok
	}
	want, ok := p.src.Size(sum)
	return ok && size == want
}

func (p *puller) one(ctx context.Context, sum string) error {
	f, err := p.src.Open(sum)
	if err != nil {
		return err
	}
	defer f.Close()
	if p.link && ownFile(f) {
		if err := p.src.Verify(ctx, sum); err != nil {
			return err
		}
		path, err := p.dst.Path(sum)
		if err != nil {
			return err
		}
		if p.src.Link(sum, path) == nil {
			return nil
		}
	}
	_, err = p.batch.PutFile(ctx, f, sum)
	return err
}

// ownFile reports whether only this user can write to a file, so that it is safe to
// share by a hard link.
func ownFile(f *os.File) bool {
	st, err := filestat.OfFile(f)
	return err == nil && os.Geteuid() >= 0 && int(st.UID) == os.Geteuid() && st.Mode&0o022 == 0
}

func sameDir(a, b string) bool {
	ia, errA := os.Stat(a)
	ib, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(ia, ib)
}

// packed is an archive.
type packed struct{ path string }

// State implements Source.
func (p packed) State(ctx context.Context) (*state.State, error) {
	f, err := os.Open(p.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := archive.ReadState(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("reading archive %s: %w", p.path, err)
	}
	return st, nil
}

// Pull implements Source.
func (p packed) Pull(ctx context.Context, dst *objects.Store, want func(string) bool) (*Pulled, error) {
	have, err := dst.List()
	if err != nil {
		return nil, err
	}
	before := map[string]bool{}
	for _, sum := range have {
		before[sum] = true
	}
	f, err := os.Open(p.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := archive.Import(ctx, f, dst, archive.ImportOptions{Want: want})
	if err != nil {
		return nil, fmt.Errorf("reading archive %s: %w", p.path, err)
	}
	out := &Pulled{State: st}
	for _, o := range wantedObjects(st, want) {
		out.Objects = append(out.Objects, PulledObject{o, p.path + "/objects/" + o.Sum, before[o.Sum]})
	}
	out.Count = len(out.Objects)
	return out, nil
}
