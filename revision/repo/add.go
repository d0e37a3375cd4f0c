package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/revision/state"
)

// Added is the result of [Repo.Add].
type Added struct {
	// Count is the number of files that were added.
	Count int
	// Unmatched are the patterns that matched nothing.
	Unmatched []string
	// Skipped matched, but are not files.
	Skipped []Skipped
}

// Add puts files on the add list for the next commit: all files without patterns or
// with the pattern ".", otherwise those that match a pattern. A pattern is matched
// against the whole path by the rules of [path.Match], an absolute pattern against
// the absolute path. With raw, files become objects even when their names end in .json.
func (r *Repo) Add(ctx context.Context, patterns []string, raw bool) (*Added, error) {
	if err := r.writable(); err != nil {
		return nil, err
	}
	files, skipped, err := r.walk(ctx)
	if err != nil {
		return nil, err
	}
	m := newMatcher(r.dir, patterns)
	picked, err := m.pick(files)
	if err != nil {
		return nil, err
	}
	out := &Added{Count: len(picked)}
	for _, s := range skipped {
		if ok, err := m.matches(s.Key); err != nil {
			return nil, err
		} else if ok {
			out.Skipped = append(out.Skipped, s)
		}
	}
	out.Unmatched = m.unmatched()
	if len(picked) == 0 {
		return out, nil
	}
	return out, r.list(ctx, picked, raw)
}

// AddFiles puts files on the add list by their keys, which are not patterns. A missing
// file is an error.
func (r *Repo) AddFiles(ctx context.Context, keys []string) error {
	if err := r.writable(); err != nil {
		return err
	}
	var files []file
	var errs []error
	for _, key := range keys {
		f, ok := r.statFile(key)
		if !ok {
			errs = append(errs, fmt.Errorf("adding %s: %w", key, fs.ErrNotExist))
		}
		errs = append(errs, state.CheckKey(key))
		files = append(files, f)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return r.list(ctx, files, false)
}

// list writes files to the add list.
func (r *Repo) list(ctx context.Context, picked []file, raw bool) error {
	sums, err := r.sums(ctx, picked)
	if err != nil {
		return err
	}
	for i, f := range picked {
		r.added[f.key] = addition{raw: raw, sum: sums[i]}
	}
	return r.added.write(r.dot())
}

// matcher matches keys with the patterns of an add.
type matcher struct {
	dir      string
	patterns []string // as they were given
	clean    []string // without "./", "//" and a trailing slash
	used     []bool
	all      bool
}

func newMatcher(dir string, patterns []string) *matcher {
	m := &matcher{dir: dir, patterns: patterns, used: make([]bool, len(patterns)), all: len(patterns) == 0}
	for i, p := range patterns {
		if p != "" { // that is an unset variable, not everything
			p = filepath.ToSlash(filepath.Clean(p))
		}
		m.clean = append(m.clean, p)
		m.used[i] = p == "."
		m.all = m.all || m.used[i]
	}
	return m
}

// pick returns the files that the patterns match.
func (m *matcher) pick(files []file) ([]file, error) {
	var picked []file
	var errs []error
	for _, f := range files {
		ok, err := m.matches(f.key)
		if err != nil {
			return nil, err
		}
		if ok {
			errs = append(errs, state.CheckKey(f.key))
			picked = append(picked, f)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("adding files: %w", err)
	}
	return picked, nil
}

// matches reports whether a key is to be added.
func (m *matcher) matches(key string) (bool, error) {
	if strings.HasPrefix(key, ".pv") {
		return false, nil
	}
	any := m.all
	for i, p := range m.clean {
		name := key
		if filepath.IsAbs(p) {
			name = filepath.ToSlash(filepath.Join(m.dir, key))
		}
		ok, err := path.Match(p, name)
		if err != nil {
			return false, fmt.Errorf("reading pattern %q: %w", m.patterns[i], err)
		}
		m.used[i] = m.used[i] || ok
		any = any || ok
	}
	return any, nil
}

// unmatched returns the patterns that matched nothing.
func (m *matcher) unmatched() []string {
	var out []string
	for i, p := range m.patterns {
		if !m.used[i] {
			out = append(out, p)
		}
	}
	return out
}

// sums hashes the bytes of files. A file that should be JSON and is not can still be
// added: it may be corrected before the commit.
func (r *Repo) sums(ctx context.Context, files []file) ([]sum32, error) {
	c := r.loadCache()
	out := make([]sum32, len(files))
	var todo []int
	for i, f := range files {
		if k, ok := c.files[f.key]; ok && k.stamp == f.stamp {
			out[i] = k.sum
		} else {
			todo = append(todo, i)
		}
	}
	err := c.learn(ctx, files, todo, func(ctx context.Context, i int) (known, error) {
		k, err := r.hash(ctx, files[i].key)
		out[i] = k.sum
		return k, err
	})
	return out, err
}

// hash hashes the bytes of a file.
func (r *Repo) hash(ctx context.Context, key string) (known, error) {
	f, stamp, err := r.openFile(key)
	if err != nil {
		return known{}, err
	}
	defer f.Close()
	sum, err := hashFile(ctx, f)
	return known{stamp: stamp, sum: sum}, err
}
