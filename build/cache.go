package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/cachedir"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filelock"
)

// Cache is the directory of finished outputs, shared by all builds of a user:
//
//	steps/KEY/out          the output
//	steps/KEY/record.json  what made it (see [Record])
//	steps/KEY/sums.json    SHA-256 of files that were published from it
//	tmp/KEY.RANDOM/        a running step; removed, or renamed to steps/KEY
//	history/WORKSPACE/     the last records of each target
//	locks                  one byte range for each key, locked while it is made
//	stats                  the stat cache
//	tidied                 its modification time is that of the last Tidy
//
// An entry appears by rename only. The process that makes an entry holds its lock, which
// the kernel releases when the process dies: a work directory whose lock is free is a
// leftover.
type Cache struct {
	dir   string
	boot  string
	stats *StatCache

	summing sync.Mutex // guards the files of keepSum
}

// CacheDir returns where the cache is kept; see [cachedir.Find].
func CacheDir() (string, error) {
	dir, err := cachedir.Find()
	return dir, fault.Wrap(fault.BadInput, err, "looking for a cache directory (set %s)", cachedir.Variable)
}

// OpenCache opens the cache in dir, creates it if needed and removes what killed builds
// left.
func OpenCache(dir string) (*Cache, error) {
	for _, sub := range []string{"steps", "tmp", "history"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, fault.Wrap(fault.IO, err, "making the build cache (PV_CACHE_DIR)")
		}
	}
	c := &Cache{dir: dir, boot: bootID(), stats: openStatCache(filepath.Join(dir, "stats"))}
	return c, c.sweep()
}

// Memory returns what remembers results of reading files by the attributes of these.
func (c *Cache) Memory() *StatCache { return c.stats }

// Dir returns the cache's directory.
func (c *Cache) Dir() string { return c.dir }

func (c *Cache) entry(key string) string { return filepath.Join(c.dir, "steps", key) }
func (c *Cache) out(key string) string   { return filepath.Join(c.dir, "steps", key, "out") }

// lookup returns the record of an undamaged entry, or nil and the reason.
func (c *Cache) lookup(key string, verify bool) (*Record, string) {
	path := filepath.Join(c.entry(key), "record.json")
	r, err := readRecord(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if _, err := os.Stat(c.entry(key)); err == nil {
			return nil, "cache entry has no record"
		}
		return nil, "not in the cache"
	case err != nil:
		return nil, "cache entry is damaged: " + err.Error()
	case r.Key != key:
		return nil, "cache entry is damaged: its record has another key"
	}
	if info, err := os.Stat(c.out(key)); err != nil || !info.IsDir() {
		return nil, "cache entry has no output"
	}
	if !verify && r.Boot == c.boot && c.boot != "" {
		return r, ""
	}
	return c.verify(r)
}

// verify reads the output again and, when its digest is unchanged, records it as verified
// in this boot.
func (c *Cache) verify(r *Record) (*Record, string) {
	t, err := DigestTree(c.out(r.Key))
	if err != nil || t.Digest != r.Output {
		return nil, "cached output is damaged"
	}
	if r.Boot == c.boot {
		return r, ""
	}
	r.Boot = c.boot
	data, err := r.marshal()
	if err != nil {
		return nil, err.Error()
	}
	// When the record cannot be written, the next build verifies again.
	_ = atomicfile.Write(filepath.Join(c.entry(r.Key), "record.json"), data, 0o644)
	return r, ""
}

// workspace makes the directories of a run. The caller holds the lock of the key.
func (c *Cache) workspace(key string) (string, error) {
	dir, err := os.MkdirTemp(filepath.Join(c.dir, "tmp"), key+".")
	if err != nil {
		return "", fault.Wrap(fault.IO, err, "making a work directory")
	}
	for _, sub := range []string{"out", "tmp", "entry"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			return "", fault.Wrap(fault.IO, err, "making a work directory")
		}
	}
	return dir, nil
}

// keep turns the output in the work directory into an entry. The caller holds the lock.
func (c *Cache) keep(dir string, r *Record) error {
	r.Boot = c.boot
	data, err := r.marshal()
	if err != nil {
		return err
	}
	fresh := filepath.Join(dir, "entry")
	if err := os.Rename(filepath.Join(dir, "out"), filepath.Join(fresh, "out")); err != nil {
		return fault.Wrap(fault.IO, err, "keeping the output")
	}
	if err := os.WriteFile(filepath.Join(fresh, "record.json"), data, 0o644); err != nil {
		return fault.Wrap(fault.IO, err, "keeping the record")
	}
	if err := c.setAside(r.Key, dir); err != nil {
		return err
	}
	return fault.Wrap(fault.IO, os.Rename(fresh, c.entry(r.Key)), "keeping the entry")
}

// setAside moves a damaged entry of the key out of the way.
func (c *Cache) setAside(key, dir string) error {
	err := os.Rename(c.entry(key), filepath.Join(dir, "damaged"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return fault.Wrap(fault.IO, err, "setting a damaged entry aside")
}

// sweep removes the work directories of builds that died: those whose key is not locked.
func (c *Cache) sweep() error {
	names, err := os.ReadDir(filepath.Join(c.dir, "tmp"))
	if err != nil {
		return fault.Wrap(fault.IO, err, "sweeping the build cache")
	}
	for _, n := range names {
		key, _, _ := strings.Cut(n.Name(), ".")
		lock, err := c.tryLock(place(key))
		if err != nil {
			return err
		}
		if lock == nil {
			continue
		}
		err = removeAll(filepath.Join(c.dir, "tmp", n.Name()))
		lock.Unlock()
		if err != nil {
			return fault.Wrap(fault.IO, err, "sweeping the build cache")
		}
	}
	return nil
}

// removeAll removes a directory even when it contains subdirectories without write
// permission.
func removeAll(dir string) error {
	if os.RemoveAll(dir) == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// Forget removes the entry of a key, so that the step runs again.
func (c *Cache) Forget(ctx context.Context, key string) error {
	lock, err := c.lock(ctx, key)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	dir, err := c.workspace(key)
	if err != nil {
		return err
	}
	if err := c.setAside(key, dir); err != nil {
		return err
	}
	return fault.Wrap(fault.IO, removeAll(dir), "removing a cache entry")
}

// touch marks an entry as used, at most once a day.
func (c *Cache) touch(key string) {
	path := filepath.Join(c.entry(key), "record.json")
	info, err := os.Stat(path)
	if err == nil && time.Since(info.ModTime()) > 24*time.Hour {
		_ = os.Chtimes(path, time.Time{}, time.Now())
	}
}

// useRange is the byte of the lock file on which every build holds a shared lock.
const useRange = 0

// place is the byte of the lock file that belongs to a key.
func place(key string) int64 {
	if len(key) < 15 {
		return 1
	}
	n, err := strconv.ParseInt(key[:15], 16, 64)
	if err != nil {
		return 1
	}
	return n + 2
}

// lock waits until no other build or step makes the key.
func (c *Cache) lock(ctx context.Context, key string) (*filelock.Lock, error) {
	lock, err := filelock.AcquireByte(ctx, c.locks(), place(key), filelock.Options{Create: 0o644})
	return lock, fault.Wrap(fault.IO, err, "waiting for another build")
}

// share marks the cache as used by a build.
func (c *Cache) share(ctx context.Context) (*filelock.Lock, error) {
	lock, err := filelock.AcquireByte(ctx, c.locks(), useRange, filelock.Options{Shared: true, Create: 0o644})
	return lock, fault.Wrap(fault.IO, err, "opening the build cache")
}

// tryLock locks a byte of the lock file; nil when another build holds it.
func (c *Cache) tryLock(at int64) (*filelock.Lock, error) {
	lock, err := filelock.TryByte(c.locks(), at, filelock.Options{Create: 0o644})
	if errors.Is(err, filelock.ErrHeld) {
		return nil, nil
	}
	return lock, fault.Wrap(fault.IO, err, "locking the build cache")
}

func (c *Cache) locks() string { return filepath.Join(c.dir, "locks") }

// String names the cache in messages.
func (c *Cache) String() string { return fmt.Sprintf("build cache %s", c.dir) }
