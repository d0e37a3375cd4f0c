package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/boot"
	"github.com/pantavisor/pantavisor/runtime/config"
)

// trash begins the names of revisions that are on their way out, below trails. They
// are hidden from every list; what a power cut leaves of them goes the next time.
const trash = ".trash-"

// collector removes revisions that nothing can come back to, and what only they used
// (manual: Storage, garbage collector). What is kept is decided before anything is
// removed, from the states of the kept revisions: a file that is a copy of its
// object counts as much as one that is a link.
type collector struct {
	paths paths
	keep  []string // revisions
	freed int64
}

// collect collects garbage and returns the bytes that it freed.
func (s *session) collect(ctx context.Context) (int64, error) {
	keep, err := s.kept()
	if err != nil {
		return 0, fmt.Errorf("collecting garbage: %w", err)
	}
	c := &collector{paths: s.paths, keep: keep}
	if err := c.run(ctx); err != nil {
		return c.freed, fmt.Errorf("collecting garbage: %w", err)
	}
	return c.freed, nil
}

// kept lists the revisions to keep: the running one, those that the boot loader may
// boot, and the factory's when it is configured so.
func (s *session) kept() ([]string, error) {
	store, err := boot.Open(s.cfg.Enum(config.BootloaderType), s.paths.storage)
	if err != nil {
		return nil, err
	}
	values, err := store.Load()
	if err != nil {
		return nil, err
	}
	keep := []string{s.opt.Revision, values.Rev, values.Try}
	if current, err := os.Readlink(filepath.Join(s.paths.trails, "current")); err == nil {
		keep = append(keep, current)
	}
	if s.cfg.Bool(config.StorageGCKeepFactory) {
		keep = append(keep, boot.Factory)
	}
	return keep, nil
}

func (c *collector) run(ctx context.Context) error {
	revs, left, err := c.revisions()
	if err != nil {
		return err
	}
	used, err := c.used(revs)
	if err != nil {
		return err
	}
	for _, rev := range revs {
		if slices.Contains(c.keep, rev) {
			continue
		}
		gone, err := c.drop(rev)
		if err != nil {
			return err
		}
		left = append(left, gone)
	}
	// The objects before the trash: as long as a folder with the links is there the
	// next collection comes back to it.
	if err := c.objects(ctx, used); err != nil {
		return err
	}
	for _, dir := range left {
		if err := c.remove(dir); err != nil {
			return err
		}
	}
	return nil
}

// revisions lists the revisions, and what earlier collections left.
func (c *collector) revisions() (revs, left []string, err error) {
	for _, sub := range []string{"", "locals"} {
		entries, err := os.ReadDir(filepath.Join(c.paths.trails, sub))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, err
		}
		for _, e := range entries {
			name := filepath.Join(sub, e.Name())
			switch {
			case !e.IsDir() || name == "locals":
			case strings.HasPrefix(e.Name(), trash):
				left = append(left, filepath.Join(c.paths.trails, name))
			case e.Name()[0] != '.':
				revs = append(revs, name)
			}
		}
	}
	return revs, left, nil
}

// used lists the objects of the kept revisions.
func (c *collector) used(revs []string) (map[string]bool, error) {
	used := map[string]bool{}
	for _, rev := range revs {
		if !slices.Contains(c.keep, rev) {
			continue
		}
		doc, err := readBounded(filepath.Join(c.paths.trails, rev, ".pvr", "json"), maxState)
		if err != nil {
			return nil, fmt.Errorf("reading the state of revision %s: %w", rev, err)
		}
		st, err := state.Parse(doc)
		if err != nil {
			return nil, fmt.Errorf("reading the state of revision %s: %w", rev, err)
		}
		for _, sum := range st.Sums() {
			used[sum] = true
		}
	}
	return used, nil
}

// drop takes a revision out of the list and removes its logs and its storage.
func (c *collector) drop(rev string) (gone string, err error) {
	from := filepath.Join(c.paths.trails, rev)
	gone = filepath.Join(filepath.Dir(from), trash+filepath.Base(from))
	if err := os.Rename(from, gone); err != nil {
		return "", fmt.Errorf("removing revision %s: %w", rev, err)
	}
	return gone, errors.Join(c.remove(filepath.Join(c.paths.logs, rev)), c.remove(filepath.Join(c.paths.disks, "rev", rev)))
}

// objects removes the objects that nobody uses.
func (c *collector) objects(ctx context.Context, used map[string]bool) error {
	store, err := objects.Open(c.paths.objects)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	sums, err := store.List()
	if err != nil {
		return err
	}
	for _, sum := range sums {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case used[sum]:
		default:
			c.freed += size(filepath.Join(store.Dir(), sum))
			if err := store.Remove(sum); err != nil {
				return err
			}
		}
	}
	return nil
}

// remove removes a folder.
func (c *collector) remove(dir string) error {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			c.freed += size(path)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// size is what goes with the last link of a file, in bytes.
func size(path string) int64 {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil || st.Nlink > 1 {
		return 0
	}
	return st.Size
}
