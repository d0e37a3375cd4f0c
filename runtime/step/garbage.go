package step

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
)

// trash begins the names of revisions that are on their way out. They are hidden from
// every list; what a power cut leaves of them goes the next time.
const trash = ".trash-"

// Garbage is what nothing can come back to: revisions, and what only they used
// (manual: Storage, garbage collector). What is kept is decided before anything is
// removed, from the states of the kept revisions: a file that is a copy of its
// object counts as much as one that is a link.
type Garbage struct {
	Steps   *Store
	Objects string                    // the directory of the object store
	Keep    []string                  // revisions that are not garbage; others may be named
	Beside  func(rev string) []string // directories elsewhere that go with a revision

	freed int64
}

// Collect removes the garbage and returns the bytes that it freed. In doubt, when the
// state of a kept revision cannot be read, it removes nothing.
func (g *Garbage) Collect(ctx context.Context) (int64, error) {
	g.freed = 0
	if err := g.run(ctx); err != nil {
		return g.freed, fmt.Errorf("collecting garbage: %w", err)
	}
	return g.freed, nil
}

func (g *Garbage) run(ctx context.Context) error {
	revs, err := g.Steps.List()
	if err != nil {
		return err
	}
	left, err := g.Steps.leftovers()
	if err != nil {
		return err
	}
	used, err := g.used(revs)
	if err != nil {
		return err
	}
	for _, rev := range revs {
		if slices.Contains(g.Keep, rev) {
			continue
		}
		gone, err := g.drop(rev)
		if err != nil {
			return err
		}
		left = append(left, gone)
	}
	// The objects before the trash: as long as a directory with the links is there the
	// next collection comes back to it.
	if err := g.objects(ctx, used); err != nil {
		return err
	}
	for _, dir := range left {
		if err := g.remove(dir); err != nil {
			return err
		}
	}
	return nil
}

// leftovers lists what earlier collections and cut-off writes left.
func (s *Store) leftovers() ([]string, error) {
	s.mu.Lock() // nobody writes: all that is half-written is nobody's
	defer s.mu.Unlock()
	var left []string
	for _, sub := range []string{"", Locals} {
		entries, err := s.entries(sub)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.IsDir() && (strings.HasPrefix(e.Name(), trash) || strings.HasPrefix(e.Name(), partPrefix)) {
				left = append(left, filepath.Join(s.trails, sub, e.Name()))
			}
		}
	}
	return left, nil
}

// used lists the objects of the kept revisions.
func (g *Garbage) used(revs []string) (map[string]bool, error) {
	used := map[string]bool{}
	for _, rev := range revs {
		if !slices.Contains(g.Keep, rev) {
			continue
		}
		doc, err := g.Steps.State(rev)
		if err != nil {
			return nil, err
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

// drop takes a revision out of the list and removes what is beside it.
func (g *Garbage) drop(rev string) (gone string, err error) {
	if gone, err = g.Steps.discard(rev); err != nil {
		return "", err
	}
	for _, dir := range g.Beside(rev) {
		err = errors.Join(err, g.remove(dir))
	}
	return gone, err
}

// discard takes a revision out of the list and returns the directory to remove.
func (s *Store) discard(rev string) (gone string, err error) {
	from, err := s.file(rev, "")
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	gone = filepath.Join(filepath.Dir(from), trash+filepath.Base(from))
	if err := os.Rename(from, gone); err != nil {
		return "", fmt.Errorf("removing revision %s: %w", rev, err)
	}
	return gone, nil
}

// objects removes the objects that nobody uses.
func (g *Garbage) objects(ctx context.Context, used map[string]bool) error {
	store, err := objects.Open(g.Objects)
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
			g.freed += size(filepath.Join(store.Dir(), sum))
			if err := store.Remove(sum); err != nil {
				return err
			}
		}
	}
	return nil
}

// remove removes a directory.
func (g *Garbage) remove(dir string) error {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			g.freed += size(path)
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
