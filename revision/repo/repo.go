// Package repo is the repository of the host tool pvr: a checkout with its
// committed state in the directory .pvr and the objects in a store (manual: pvr,
// Repositories). There is no history: a repository is one state plus one object
// store.
//
//	.pvr/json        the committed state
//	.pvr/config      where objects are, and the remotes, see [Config]
//	.pvr/new         the add list, while there is one
//	.pvr/commitmsg   the last commit's message
//	.pvr/objects/    the objects, when config names no other directory
//	.pv/             boot links of a deployment
//
// A lock on the directory .pvr, which the kernel releases when the process ends,
// serialises concurrent commands. Every change writes the objects first and then
// replaces one file, so that a kill leaves the old or the new state. The sums of
// unchanged files are kept in a cache outside the repository, so that the next command
// need not read them.
package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/filelock"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
)

// Dir is the name of a repository's directory below its checkout.
const Dir = ".pvr"

// errExists is wrapped by the error of Init for a checkout that has a repository.
var errExists = errors.New("there is a repository already")

// ErrNone is the error, or wrapped by the errors for directories without a repository.
var ErrNone = errors.New("no repository; pvr init makes one")

// Options control how a repository is opened. The zero value is for reading.
type Options struct {
	// Write locks out every other command; without it only writers are locked out.
	Write bool
	// Cache is the directory of the cache, created when it is missing; empty for none.
	Cache string
	// Waiting is called before waiting for another command; may be nil.
	Waiting func()
}

// Repo is an open repository. It is not safe for concurrent use.
type Repo struct {
	dir       string // the checkout, absolute
	opt       Options
	lock      *filelock.Lock
	none      bool // there is no .pvr: the state is empty and cannot be changed
	config    Config
	committed *state.State
	added     addList
}

// InitOptions describe a new repository.
type InitOptions struct {
	Objects string // object store; absolute, or relative to the checkout; empty for .pvr/objects
	Spec    string // version of the state format; default state.Spec
}

// Init creates a repository in a directory, which it creates when it is missing.
func Init(dir string, opt InitOptions) error {
	dot := filepath.Join(dir, Dir)
	if _, err := os.Lstat(filepath.Join(dot, "json")); err == nil {
		return fmt.Errorf("initialising %s: %w", dir, errExists)
	}
	if opt.Spec == "" {
		opt.Spec = state.Spec
	}
	if err := os.MkdirAll(dot, 0o755); err != nil {
		return fmt.Errorf("initialising the repository: %w", err)
	}
	config := Config{ObjectsDir: opt.Objects}
	if _, err := objects.Create(config.objectsIn(dir)); err != nil {
		return err
	}
	if err := config.write(dot); err != nil {
		return err
	}
	doc := fmt.Sprintf(`{ "#spec": %s }`, canon.Str(opt.Spec).Encode())
	return atomicfile.Write(filepath.Join(dot, "json"), []byte(doc), 0o644)
}

// Open opens the repository of a checkout. For a directory without one it returns an
// empty repository that cannot be changed and has only untracked files.
func Open(ctx context.Context, dir string, opt Options) (*Repo, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("opening repository %s: %w", dir, err)
	}
	r := &Repo{dir: abs, opt: opt}
	if err := r.open(ctx); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

func (r *Repo) open(ctx context.Context) error {
	lock, err := lockDir(ctx, r.dot(), r.opt)
	if errors.Is(err, fs.ErrNotExist) {
		r.none, r.committed = true, state.New("")
		return nil
	}
	if err != nil {
		return err
	}
	r.lock = lock
	if r.opt.Write {
		sweep(r.dir)
	}
	if r.config, err = readConfig(r.dot()); err != nil {
		return err
	}
	if r.committed, err = readState(r.dot()); err != nil {
		return err
	}
	r.added, err = readAddList(r.dot())
	return err
}

// readState reads the committed state, which is empty when the repository has none yet.
func readState(dot string) (*state.State, error) {
	doc, err := os.ReadFile(filepath.Join(dot, "json"))
	if errors.Is(err, fs.ErrNotExist) {
		return state.New(state.Spec), nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the committed state: %w", err)
	}
	st, err := state.Parse(doc)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", filepath.Join(dot, "json"), err)
	}
	return st, nil
}

// Close releases the repository.
func (r *Repo) Close() {
	if r.lock != nil {
		r.lock.Unlock()
		r.lock = nil
	}
}

// Exists reports whether there is a repository.
func (r *Repo) Exists() bool { return !r.none }

// Dir returns the checkout's absolute path.
func (r *Repo) Dir() string { return r.dir }

func (r *Repo) dot() string { return filepath.Join(r.dir, Dir) }

// Config returns the settings.
func (r *Repo) Config() Config { return r.config }

// SetConfig writes the settings.
func (r *Repo) SetConfig(c Config) error {
	if err := r.writable(); err != nil {
		return err
	}
	if err := c.write(r.dot()); err != nil {
		return err
	}
	r.config = c
	return nil
}

// Committed returns the committed state. Do not modify it.
func (r *Repo) Committed() *state.State { return r.committed }

// setCommitted makes a state the committed one. Its objects must be in the store.
// The working tree does not change.
func (r *Repo) setCommitted(st *state.State) error {
	if err := r.writable(); err != nil {
		return err
	}
	doc, err := st.Document()
	if err != nil {
		return fmt.Errorf("writing the state: %w", err)
	}
	if err := atomicfile.Write(filepath.Join(r.dot(), "json"), doc, 0o644); err != nil {
		return fmt.Errorf("writing the state: %w", err)
	}
	r.committed = st
	return nil
}

// Objects returns the object store, which is created when it is missing.
func (r *Repo) Objects() (*objects.Store, error) {
	if r.none {
		return nil, fmt.Errorf("opening the object store of %s: %w", r.dir, ErrNone)
	}
	store, err := objects.Create(r.config.objectsIn(r.dir))
	if err != nil {
		return nil, err
	}
	return store.Direct(), nil
}

func (r *Repo) writable() error {
	if r.none {
		return fmt.Errorf("changing %s: %w", r.dir, ErrNone)
	}
	if !r.opt.Write {
		return fmt.Errorf("changing %s: it was opened for reading only", r.dir)
	}
	return nil
}
