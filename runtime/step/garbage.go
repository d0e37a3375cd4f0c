package step

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
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
//
// What came less than Defer ago is not garbage: objects whose revision is yet to come, and
// revisions that nobody has run yet. Nor are objects that a client holds, see [Store.Hold].
type Garbage struct {
	Steps   *Store
	Objects string                    // the directory of the object store
	Keep    func() ([]string, error)  // the revisions that are not garbage; names that do not exist are ignored
	Sweep   []string                  // directories with files whose writers may have been killed, beside Objects
	Beside  func(rev string) []string // other directories to remove with a revision
	Defer   time.Duration             // PV_STORAGE_GC_THRESHOLD_DEFERTIME

	freed int64
}

// Collect removes the garbage and returns the bytes that it freed. In doubt, when the
// state of a kept revision cannot be read, it removes nothing.
func (g *Garbage) Collect(ctx context.Context) (int64, error) {
	g.freed = 0
	left, err := g.unlink(ctx)
	for _, dir := range left {
		if err == nil {
			err = g.remove(dir)
		}
	}
	if err != nil {
		return g.freed, fmt.Errorf("collecting garbage: %w", err)
	}
	return g.freed, nil
}

// unlink hides the revisions that are garbage and removes the objects that only they
// use. It returns the directories that are left to remove. The objects go before these:
// while a directory with links exists, the next collection resumes.
func (g *Garbage) unlink(ctx context.Context) (left []string, err error) {
	g.Steps.refs.Lock() // until then nobody may rely on what is garbage
	defer g.Steps.refs.Unlock()
	keep, err := g.Keep()
	if err != nil {
		return nil, err
	}
	l, err := g.find(keep)
	if err != nil {
		return nil, err
	}
	if left, err = g.leftovers(); err != nil {
		return nil, err
	}
	for _, rev := range l.revs {
		gone, err := g.drop(rev)
		if err != nil {
			return nil, err
		}
		left = append(left, gone)
	}
	for _, sum := range l.sums {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		path := filepath.Join(g.Objects, sum)
		g.freed += size(path)
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	for _, hold := range l.holds {
		if err := os.Remove(hold); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	for _, dir := range append(g.Sweep, g.Objects, g.Steps.holds()) {
		atomicfile.Sweep(dir)
	}
	return left, nil
}

// Reclaimable returns the bytes that [Garbage.Collect] would free now. It changes nothing, and
// may be called while the store is pinned.
func (g *Garbage) Reclaimable() (int64, error) {
	keep, err := g.Keep()
	var l litter
	if err == nil {
		l, err = g.find(keep)
	}
	if err != nil {
		return 0, fmt.Errorf("looking for garbage: %w", err)
	}
	var sum int64
	for _, rev := range l.revs {
		for _, dir := range append(g.Beside(rev), g.Steps.Dir(rev)) {
			sum += tree(dir)
		}
	}
	for _, o := range l.sums {
		if st, err := os.Lstat(filepath.Join(g.Objects, o)); err == nil {
			sum += st.Size()
		}
	}
	return sum, nil
}

// litter is what is garbage: names of revisions and objects, and files of holds.
type litter struct{ revs, sums, holds []string }

// find lists what is garbage.
func (g *Garbage) find(keep []string) (l litter, err error) {
	all, err := g.Steps.List()
	if err != nil {
		return l, err
	}
	now := time.Now()
	used := map[string]bool{}
	for _, rev := range all {
		if !slices.Contains(keep, rev) && !g.waits(rev, now) {
			l.revs = append(l.revs, rev)
		} else if err := g.use(used, rev); err != nil {
			return l, err
		}
	}
	if l.holds, err = g.Steps.held(used, now); err != nil {
		return l, err
	}
	l.sums, err = g.unused(used, now)
	return l, err
}

// waits reports whether a revision was stored lately, and nobody has run it yet.
func (g *Garbage) waits(rev string, now time.Time) bool {
	if !g.young(rev, filepath.Join(g.Steps.Dir(rev), fileState), now) {
		return false
	}
	text, err := g.Steps.ProgressText(rev)
	var p Progress
	return err == nil && json.Unmarshal(text, &p) == nil && p.Status == firstProgress.Status
}

// young reports whether a revision or an object, stored in the file path, came lately. The
// time of the file counts after a new start, what the store remembers when the clock has
// been set since.
func (g *Garbage) young(name, path string, now time.Time) bool {
	if g.Defer <= 0 {
		return false
	}
	if g.Steps.recent.since(name, now) < g.Defer {
		return true
	}
	st, err := os.Lstat(path)
	if err != nil {
		return false
	}
	age := now.Sub(st.ModTime())
	return age >= 0 && age < g.Defer // a time to come is of no use
}

// use adds the objects of a revision.
func (g *Garbage) use(used map[string]bool, rev string) error {
	doc, err := g.Steps.State(rev)
	if err != nil {
		return err
	}
	st, err := state.Parse(doc)
	if err != nil {
		return fmt.Errorf("reading the state of revision %s: %w", rev, err)
	}
	for _, sum := range st.Sums() {
		used[sum] = true
	}
	return nil
}

// unused lists the objects that are not in used and did not come lately.
func (g *Garbage) unused(used map[string]bool, now time.Time) (list []string, err error) {
	store, err := objects.Open(g.Objects)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all, err := store.List()
	for _, sum := range all {
		if !used[sum] && !g.young(sum, filepath.Join(store.Dir(), sum), now) {
			list = append(list, sum)
		}
	}
	return list, err
}

// leftovers lists the directories that interrupted collections and writes left. What lies
// beside a revision that was being removed goes first: its name is only in them.
func (g *Garbage) leftovers() (left []string, err error) {
	for _, sub := range []string{"", Locals} {
		dirs, err := g.Steps.unfinished(sub)
		if err != nil {
			return nil, err
		}
		for _, dir := range dirs {
			rev, removed := strings.CutPrefix(filepath.Base(dir), trash)
			rev = filepath.Join(sub, rev)
			if removed && Valid(rev) && !g.Steps.Has(rev) {
				err = g.removeBeside(rev)
			}
			if err != nil {
				return nil, err
			}
			left = append(left, dir)
		}
	}
	return left, nil
}

// unfinished lists the directories below trails, or below its directory sub, that
// interrupted writes and collections left: .put-*, .trash-*, and .NAME.tmp, in which package
// trail lays out a revision. The caller holds refs, so that none is being laid out.
func (s *Store) unfinished(sub string) (left []string, err error) {
	s.mu.Lock() // no write is in progress: all unfinished directories are leftovers
	defer s.mu.Unlock()
	entries, err := s.entries(sub)
	for _, e := range entries {
		name := e.Name()
		gone := strings.HasPrefix(name, trash) || strings.HasPrefix(name, partPrefix) ||
			strings.HasPrefix(name, ".") && strings.HasSuffix(name, ".tmp")
		if e.IsDir() && gone {
			left = append(left, filepath.Join(s.trails, sub, name))
		}
	}
	return left, err
}

// drop hides a revision from lists and removes its other directories.
func (g *Garbage) drop(rev string) (gone string, err error) {
	if gone, err = g.Steps.discard(rev); err != nil {
		return "", err
	}
	return gone, g.removeBeside(rev)
}

func (g *Garbage) removeBeside(rev string) error {
	var errs []error
	for _, dir := range g.Beside(rev) {
		errs = append(errs, g.remove(dir))
	}
	return errors.Join(errs...)
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
	err = os.RemoveAll(gone) // of an earlier revision of this name
	if err == nil {
		err = os.Rename(from, gone)
	}
	if err != nil {
		return "", fmt.Errorf("removing revision %s: %w", rev, err)
	}
	return gone, nil
}

// remove removes a directory.
func (g *Garbage) remove(dir string) error {
	g.freed += tree(dir)
	return os.RemoveAll(dir)
}

// tree returns how many bytes removing the directory frees.
func tree(dir string) (sum int64) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			sum += size(path)
		}
		return nil
	})
	return sum
}

// size returns how many bytes removing the file frees: 0 unless it is the last link.
func size(path string) int64 {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil || st.Nlink > 1 {
		return 0
	}
	return st.Size
}
