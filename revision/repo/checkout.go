package repo

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/filecopy"
	"github.com/pantavisor/pantavisor/internal/filestat"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/objects"
)

// CheckoutOptions control how files are written.
type CheckoutOptions struct {
	// Canonical writes inline JSON in its canonical form instead of indented.
	Canonical bool
	// Hardlink links objects into the tree instead of copying them, and makes them
	// read-only; it implies Canonical. Writing to such a file would damage the object.
	Hardlink bool
	// Copied, unless nil, is called with the number of objects that Hardlink copied, as
	// read-only files too, because they lie on another file system or have too many links.
	Copied func(objects int)
	// trusted are the objects that this process has verified.
	trusted map[string]bool
	// fresh is true when the tree is empty and not in use yet: files are written in
	// place.
	fresh bool
}

// Checkout writes the committed state's files over the working tree and forgets
// the add list. Files that are not in the state stay; files that already have the
// right content are not touched. All new files are complete and durable before the
// first is renamed; after a kill each file is old or new, and the next checkout
// completes the work.
func (r *Repo) Checkout(ctx context.Context, opt CheckoutOptions) error {
	if err := r.writable(); err != nil {
		return err
	}
	if err := r.checkNames(r.committed); err != nil {
		return fmt.Errorf("checking out: %w", err)
	}
	store, err := r.Objects()
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(r.dir)
	if err != nil {
		return fmt.Errorf("checking out: %w", err)
	}
	defer root.Close()
	co := &checkout{repo: r, store: store, root: root, opt: opt, cache: r.loadCache()}
	if err := co.run(ctx); err != nil {
		return fmt.Errorf("checking out: %w", err)
	}
	if n := int(co.copied.Load()); n > 0 && opt.Copied != nil {
		opt.Copied(n)
	}
	return r.dropAddList()
}

type checkout struct {
	repo  *Repo
	store *objects.Store
	root  *os.Root // keeps links in the tree from leading out of it
	opt   CheckoutOptions
	cache *cache
	stage string
	jobs  []job

	copied atomic.Int64 // objects that could not be linked
}

// job is a file to be written.
type job struct {
	key    string
	temp   string // below the stage
	object string // SHA-256; empty for inline
	text   []byte // of an inline value
	staged stamp  // once it is written
}

func (c *checkout) run(ctx context.Context) error {
	c.plan()
	if len(c.jobs) == 0 {
		return nil
	}
	if c.opt.fresh {
		return c.fill(ctx)
	}
	c.stage = filepath.Join(c.repo.dot(), stageDir)
	if err := errors.Join(os.RemoveAll(c.stage), os.Mkdir(c.stage, 0o700)); err != nil {
		return err
	}
	defer os.RemoveAll(c.stage)
	if err := c.write(ctx); err != nil {
		return err
	}
	if err := atomicfile.SyncTree(c.stage); err != nil {
		return err
	}
	placed := time.Now()
	if err := c.place(ctx); err != nil {
		return err
	}
	c.remember(placed)
	return nil
}

// fill writes the files of an empty tree.
func (c *checkout) fill(ctx context.Context) error {
	c.stage = c.repo.dir
	made := map[string]bool{".": true}
	for i := range c.jobs {
		j := &c.jobs[i]
		j.temp = j.key
		dir := path.Dir(j.key)
		if !made[dir] {
			made[dir] = true
			if err := c.root.MkdirAll(dir, 0o755); err != nil {
				return fmt.Errorf("writing %s: %w", j.key, err)
			}
		}
	}
	if err := c.write(ctx); err != nil {
		return err
	}
	if err := atomicfile.SyncTree(c.stage); err != nil {
		return err
	}
	c.remember(time.Now())
	return nil
}

// plan collects what has to be written.
func (c *checkout) plan() {
	st := c.repo.committed
	for _, key := range st.Inlines() {
		value, _ := st.Value(key)
		text := value.Pretty(canon.Checkout)
		if c.opt.Canonical || c.opt.Hardlink {
			text = value.Encode()
		}
		if !c.isPlain(key, sha256.Sum256(text)) {
			c.add(job{key: key, text: text})
		}
	}
	for _, o := range st.Objects() {
		if c.opt.Hardlink || !c.isPlainObject(o.Path, o.Sum) {
			c.add(job{key: o.Path, object: o.Sum})
		}
	}
}

func (c *checkout) add(j job) {
	j.temp = strconv.Itoa(len(c.jobs))
	c.jobs = append(c.jobs, j)
}

// isPlain reports whether a file is known to hold these bytes and is as a checkout
// writes it: not a link, with the usual mode.
func (c *checkout) isPlain(key string, sum sum32) bool {
	k, ok := c.cache.files[key]
	if !ok || k.sum != sum {
		return false
	}
	st, err := filestat.OfLink(filepath.Join(c.repo.dir, key))
	if err != nil {
		return false
	}
	f := fileOf(key, &st)
	return st.IsRegular() && f.stamp == k.stamp && f.links == 1 && f.mode == objects.Perm
}

func (c *checkout) isPlainObject(key, sum string) bool {
	k, ok := c.cache.files[key]
	return ok && k.sum.String() == sum && c.isPlain(key, k.sum)
}

// write prepares all files.
func (c *checkout) write(ctx context.Context) error {
	return parallel(ctx, len(c.jobs), func(ctx context.Context, i int) error {
		j := &c.jobs[i]
		temp := filepath.Join(c.stage, j.temp)
		if err := c.writeOne(ctx, j, temp); err != nil {
			return err
		}
		st, err := filestat.OfLink(temp)
		j.staged = stampOf(&st)
		return err
	})
}

func (c *checkout) writeOne(ctx context.Context, j *job, temp string) error {
	switch {
	case j.object == "":
		return os.WriteFile(temp, j.text, objects.Perm)
	case c.opt.Hardlink:
		return c.link(ctx, j.object, temp)
	case c.opt.trusted[j.object]:
		return c.store.Copy(j.object, temp, objects.Perm)
	}
	return c.store.CopyVerified(ctx, j.object, temp, objects.Perm)
}

// link gives an object a name in the tree; it becomes read-only under all its
// names, because writing to one would change them all.
func (c *checkout) link(ctx context.Context, sum, temp string) error {
	err := c.store.Link(sum, temp)
	if filecopy.CannotLink(err) {
		c.copied.Add(1)
		err = c.store.CopyVerified(ctx, sum, temp, objects.Perm)
	}
	if err != nil {
		return err
	}
	if err := os.Chmod(temp, 0o444); err != nil && !errors.Is(err, os.ErrPermission) {
		return err
	}
	return nil
}

// place moves all files to their final names.
func (c *checkout) place(ctx context.Context) error {
	p, err := newPlacer(c.root, path.Join(Dir, stageDir))
	if err != nil {
		return err
	}
	defer p.close()
	for _, j := range c.jobs {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := p.enter(path.Dir(j.key)); err != nil {
			return err
		}
		if err := c.placeOne(p, j); err != nil {
			return fmt.Errorf("writing %s: %w", j.key, err)
		}
	}
	return nil
}

func (c *checkout) placeOne(p *placer, j job) error {
	err := p.move(j.temp, path.Base(j.key))
	from := path.Join(Dir, stageDir, j.temp)
	if errors.Is(err, syscall.EXDEV) { // a file system is mounted within the tree
		return c.copyOver(from, j.key)
	}
	if err == nil && c.opt.Hardlink {
		_ = c.root.Remove(from) // renaming a file to itself does nothing
	}
	return err
}

func (c *checkout) copyOver(from, key string) error {
	text, err := c.root.Open(from)
	if err != nil {
		return err
	}
	defer text.Close()
	temp := key + ".new"
	out, err := c.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, objects.Perm)
	if err != nil {
		return err
	}
	_, err = out.ReadFrom(text)
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return errors.Join(err, c.root.Remove(temp))
	}
	return c.root.Rename(temp, key)
}

// remember caches what was written, so that the next command need not read it. A file
// that another process wrote to after it got its name has a different modification
// time, because the tick in which it was prepared had passed.
func (c *checkout) remember(placed time.Time) {
	looked := time.Now()
	for _, j := range c.jobs {
		f, ok := file{stamp: j.staged}, true
		if !c.opt.fresh {
			f, ok = c.repo.statFile(j.key)
		}
		if !ok || f.stamp.id != j.staged.id || f.stamp.size != j.staged.size || f.stamp.mtime != j.staged.mtime {
			continue
		}
		if f.stamp.mtime < placed.Add(-tick).UnixNano() {
			c.cache.put(j.key, c.knownOf(j, f.stamp), looked)
		}
	}
	c.cache.save()
}

func (c *checkout) knownOf(j job, s stamp) known {
	if j.object != "" {
		return known{stamp: s, sum: parseSum(j.object)}
	}
	text, _ := c.repo.committed.Get(j.key)
	return known{stamp: s, sum: sha256.Sum256(j.text), canon: sha256.Sum256(text)}
}
