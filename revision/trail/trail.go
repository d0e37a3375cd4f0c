// Package trail lays a state out as a directory: the checked-out revision
// trails/<rev> of a device's storage (manual: Storage).
//
//	<path>              every object as a hard link into the object store
//	<path>.json         every inline JSON value as a plain file, canonical
//	<path>.bind         objects that a container may write to, copied
//	.pvr/json           the state, byte for byte as it was received
//	.pvr/config         where the objects are
//	.pv/pv-kernel.img … what the boot loader loads, see [BootLinks]
package trail

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
)

// First is the revision that new storage holds and boots.
const First = "0"

// Options change how a trail is laid out. The zero value is right for a device.
type Options struct {
	// Time is the modification time of everything in the trail, the linked
	// objects included, for reproducible images; zero leaves times alone.
	Time time.Time
	// ObjectsDir is written to .pvr/config; empty for the store's directory relative
	// to the trail.
	ObjectsDir string
	// Replace exchanges an existing directory as a whole; without it an existing
	// directory is an error.
	Replace bool
	// NoBootLinks leaves the boot links out.
	NoBootLinks bool
	// Config is written to .pvr/config as it is; nil writes the place of the objects.
	Config []byte
	// Missing is called with the error for a boot link whose file the state lacks, and
	// the link is left out; nil makes it an error of the checkout.
	Missing func(err error)
	// Keep are the files of a directory that is replaced which the new one gets too, as
	// ".pv/progress"; those that do not exist are left out.
	Keep []string
}

// Checkout lays a state out in dir. It builds the tree beside dir, as ".<name>.tmp",
// and renames it when all of it is durable; after a kill the next Checkout of the
// same directory starts over. All objects must be in the store; their content is not
// verified, see [objects.Store.Verify].
func Checkout(ctx context.Context, dir string, st *state.State, store *objects.Store, opt Options) error {
	dir = filepath.Clean(dir)
	if _, err := os.Lstat(dir); err == nil && !opt.Replace {
		return fmt.Errorf("checking out to %s: %w", dir, fs.ErrExist)
	}
	if err := checkObjects(st, store); err != nil {
		return err
	}
	t := &tree{root: filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir)+".tmp"), final: dir, state: st, store: store, opt: opt}
	if err := os.RemoveAll(t.root); err != nil {
		return fmt.Errorf("removing an unfinished checkout: %w", err)
	}
	defer os.RemoveAll(t.root)
	if err := t.fill(ctx); err != nil {
		return fmt.Errorf("checking out to %s: %w", dir, err)
	}
	return t.finish()
}

// checkObjects names every missing object before anything is written.
func checkObjects(st *state.State, store *objects.Store) error {
	var errs []error
	for _, o := range st.Objects() {
		if !store.Has(o.Sum) {
			errs = append(errs, fmt.Errorf("object %s of %s is not in the store: %w", o.Sum, o.Path, fs.ErrNotExist))
		}
		if len(errs) == 20 {
			break
		}
	}
	return errors.Join(errs...)
}

type tree struct {
	root, final string
	state       *state.State
	store       *objects.Store
	opt         Options
}

func (t *tree) fill(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Dir(t.root), 0o755); err != nil {
		return err
	}
	if err := t.mkdir(t.root); err != nil {
		return err
	}
	for _, o := range t.state.Objects() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := t.object(o); err != nil {
			return err
		}
	}
	for _, key := range t.state.Inlines() {
		value, _ := t.state.Get(key)
		if err := t.file(key, value); err != nil {
			return err
		}
	}
	if err := t.file(".pvr/json", t.state.Raw()); err != nil {
		return err
	}
	if err := t.config(); err != nil {
		return err
	}
	if err := t.links(); err != nil {
		return err
	}
	if err := t.keep(); err != nil {
		return err
	}
	return t.times()
}

// keep takes files over from the directory that is replaced.
func (t *tree) keep() error {
	for _, name := range t.opt.Keep {
		path, err := t.place(name)
		if err != nil {
			return err
		}
		if err := os.Link(filepath.Join(t.final, name), path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// place returns the path of a key below the new tree, with its directories made. Keys
// of a State are clean relative paths, and no other process writes here.
func (t *tree) place(key string) (string, error) {
	path := filepath.Join(t.root, filepath.FromSlash(key))
	return path, t.mkdir(filepath.Dir(path))
}

// mkdir makes directories with a mode that the umask does not change.
func (t *tree) mkdir(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	if path != t.root {
		if err := t.mkdir(filepath.Dir(path)); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, 0o755); err != nil {
		return err
	}
	return os.Chmod(path, 0o755)
}

func (t *tree) object(o state.Object) error {
	path, err := t.place(o.Path)
	if err != nil {
		return err
	}
	if strings.HasSuffix(o.Path, ".bind") {
		return t.store.Copy(o.Sum, path, 0o644)
	}
	return t.store.Link(o.Sum, path)
}

func (t *tree) file(key string, data []byte) error {
	path, err := t.place(key)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return err
	}
	return os.Chmod(path, 0o644)
}

func (t *tree) config() error {
	if t.opt.Config != nil {
		return t.file(".pvr/config", t.opt.Config)
	}
	dir := t.opt.ObjectsDir
	if dir == "" {
		var err error
		if dir, err = relative(t.final, t.store.Dir()); err != nil {
			return err
		}
	}
	config := canon.Obj(canon.Member{Name: "ObjectsDir", Value: canon.Str(dir)})
	return t.file(".pvr/config", config.Encode())
}

func relative(from, to string) (string, error) {
	from, err := filepath.Abs(from)
	if err != nil {
		return "", err
	}
	if to, err = filepath.Abs(to); err != nil {
		return "", err
	}
	return filepath.Rel(from, to)
}

// links makes the boot links. They are hard links and not copies, because the boot
// loader must load the files that were verified.
func (t *tree) links() error {
	if t.opt.NoBootLinks {
		return nil
	}
	links, err := BootLinks(t.state, t.opt.Missing)
	if err != nil {
		return err
	}
	for _, l := range links {
		path, err := t.place(".pv/" + l.Name)
		if err != nil {
			return err
		}
		sum, _ := t.state.Object(l.Target)
		if err := t.store.Link(sum, path); err != nil {
			return err
		}
	}
	return nil
}

// times gives everything the fixed time, directories after what is in them.
func (t *tree) times() error {
	if t.opt.Time.IsZero() {
		return nil
	}
	var dirs []string
	err := filepath.WalkDir(t.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			dirs = append(dirs, path)
			return nil
		}
		return os.Chtimes(path, t.opt.Time, t.opt.Time)
	})
	for i := len(dirs) - 1; i >= 0 && err == nil; i-- {
		err = os.Chtimes(dirs[i], t.opt.Time, t.opt.Time)
	}
	return err
}

// finish makes the tree durable and gives it its name. An older tree is exchanged
// atomically, so that the name always refers to a complete tree.
func (t *tree) finish() error {
	return atomicfile.NameTree(t.root, filepath.Dir(t.final), t.name)
}

func (t *tree) name() error {
	err := unix.Renameat2(unix.AT_FDCWD, t.root, unix.AT_FDCWD, t.final, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EEXIST) && t.opt.Replace {
		err = unix.Renameat2(unix.AT_FDCWD, t.root, unix.AT_FDCWD, t.final, unix.RENAME_EXCHANGE)
	}
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		err = t.rename()
	}
	if err != nil {
		return fmt.Errorf("naming the checkout %s: %w", t.final, err)
	}
	return nil
}

// rename is finish for file systems that cannot exchange names.
func (t *tree) rename() error {
	old := t.root + ".old"
	if err := os.RemoveAll(old); err != nil {
		return err
	}
	if t.opt.Replace {
		if err := os.Rename(t.final, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Rename(t.root, t.final); err != nil {
		return err
	}
	return os.RemoveAll(old)
}
