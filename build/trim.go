package build

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/pantavisor/pantavisor/internal/fault"
)

const (
	// keptFor is how long an entry that no build uses is kept.
	keptFor = 30 * 24 * time.Hour
	// inUse is how long an entry is kept however full the cache is: use is recorded at
	// most once a day.
	inUse = 48 * time.Hour
	// tidyEvery is the least time between two runs of Tidy.
	tidyEvery = 24 * time.Hour
)

// Tidy bounds the size of the cache, at most once a day: it removes entries that no build
// has used for 30 days and, while the rest takes more than budget bytes (0: no limit),
// the least recently used ones. Entries used in the last two days stay. It reports
// whether it ran.
func (c *Cache) Tidy(ctx context.Context, budget int64) (bool, error) {
	mark := filepath.Join(c.dir, "tidied")
	if info, err := os.Stat(mark); err == nil && time.Since(info.ModTime()) < tidyEvery {
		return false, nil
	}
	if err := os.WriteFile(mark, nil, 0o644); err != nil {
		return false, fault.Wrap(fault.IO, err, "marking the build cache as tidied")
	}
	now := time.Now()
	if err := os.Chtimes(mark, now, now); err != nil {
		return false, fault.Wrap(fault.IO, err, "marking the build cache as tidied")
	}
	return true, c.trim(ctx, keptFor, budget)
}

// use is when an entry was last used and its size on disk.
type use struct {
	key   string
	last  time.Time
	bytes int64
}

// trim does nothing while a build runs, which may rely on any entry.
func (c *Cache) trim(ctx context.Context, unused time.Duration, budget int64) error {
	lock, err := c.tryLock(useRange)
	if err != nil || lock == nil {
		return err
	}
	defer lock.Unlock()
	all, err := c.uses()
	if err != nil {
		return fault.Wrap(fault.IO, err, "trimming the build cache")
	}
	slices.SortFunc(all, func(a, b use) int { return b.last.Compare(a.last) })
	total := int64(0)
	for _, u := range all {
		total += u.bytes
		age := time.Since(u.last)
		if age < unused && (budget == 0 || total <= budget || age < inUse) {
			continue
		}
		if err := c.Forget(ctx, u.key); err != nil {
			return err
		}
	}
	return nil
}

// Only removes all entries but those of the keys. It does nothing while a build runs, which may rely
// on any entry.
func (c *Cache) Only(ctx context.Context, keys []string) error {
	lock, err := c.tryLock(useRange)
	if err != nil || lock == nil {
		return err
	}
	defer lock.Unlock()
	names, err := os.ReadDir(filepath.Join(c.dir, "steps"))
	if err != nil {
		return fault.Wrap(fault.IO, err, "trimming the build cache")
	}
	for _, n := range names {
		if slices.Contains(keys, n.Name()) {
			continue
		}
		if err := c.Forget(ctx, n.Name()); err != nil {
			return err
		}
	}
	return nil
}

// Discard removes the cache in a directory, with all that it has, unless a build uses it.
func Discard(dir string) error {
	lock, err := (&Cache{dir: dir}).tryLock(useRange)
	if err != nil || lock == nil {
		return err
	}
	defer lock.Unlock()
	return fault.Wrap(fault.IO, os.RemoveAll(dir), "removing the cache %s", dir)
}

// uses lists all entries; an entry without a record counts as never used.
func (c *Cache) uses() ([]use, error) {
	names, err := os.ReadDir(filepath.Join(c.dir, "steps"))
	if err != nil {
		return nil, err
	}
	var all []use
	for _, n := range names {
		u := use{key: n.Name()}
		if info, err := os.Stat(filepath.Join(c.entry(u.key), "record.json")); err == nil {
			u.last = info.ModTime()
		}
		if u.bytes, err = allocated(c.entry(u.key)); err != nil {
			return nil, err
		}
		all = append(all, u)
	}
	return all, nil
}

// allocated returns the size of a directory on disk, in bytes.
func allocated(dir string) (int64, error) {
	total := int64(0)
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			total += st.Blocks * 512
		}
		return nil
	})
	return total, err
}
