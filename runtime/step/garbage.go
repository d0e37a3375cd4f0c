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

// trash is the prefix of revisions that are being removed. Lists do not show them; the
// next collection removes what a power cut left of them.
const trash = ".trash-"

// Garbage is the revisions that cannot run again, and the objects that only they use
// (manual: Storage, garbage collector). The objects to keep are read from the states of
// the kept revisions before anything is removed, so that an object is also kept when the
// revision has a copy instead of a link.
type Garbage struct {
	Steps   *Store
	Objects string                    // the directory of the object store
	Keep    []string                  // revisions that are not garbage; names that do not exist are ignored
	Beside  func(rev string) []string // other directories to remove with a revision

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
	// The objects go before the trash: while a directory with links exists, the next
	// collection resumes.
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

// leftovers lists the directories that interrupted collections and writes left.
func (s *Store) leftovers() ([]string, error) {
	s.mu.Lock() // no write is in progress: all unfinished directories are leftovers
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

// drop hides a revision from lists and removes its other directories.
func (g *Garbage) drop(rev string) (gone string, err error) {
	if gone, err = g.Steps.discard(rev); err != nil {
		return "", err
	}
	for _, dir := range g.Beside(rev) {
		err = errors.Join(err, g.remove(dir))
	}
	return gone, err
}

// discard hides a revision from lists and returns the directory to remove.
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

// objects removes the unused objects.
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

// size returns how many bytes removing the file frees: 0 unless it is the last link.
func size(path string) int64 {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil || st.Nlink > 1 {
		return 0
	}
	return st.Size
}
