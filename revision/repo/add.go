package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/revision/state"
)

// Add puts files on the add list for the next commit: all files without patterns or
// with the pattern ".", otherwise those that match a pattern. A pattern is matched
// against the whole path by the rules of [filepath.Match], an absolute pattern against
// the absolute path. With raw, files become objects even when their names end in
// .json. It returns how many were added and which patterns matched nothing.
func (r *Repo) Add(ctx context.Context, patterns []string, raw bool) (count int, unmatched []string, err error) {
	if err := r.writable(); err != nil {
		return 0, nil, err
	}
	files, err := r.walk(ctx)
	if err != nil {
		return 0, nil, err
	}
	picked, unmatched, err := r.pick(files, patterns)
	if err != nil || len(picked) == 0 {
		return 0, unmatched, err
	}
	return len(picked), unmatched, r.list(ctx, picked, raw)
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
		r.added[f.key] = addition{raw: raw, sum: sums[i].String()}
	}
	return r.added.write(r.dot())
}

// pick returns the files that the patterns match.
func (r *Repo) pick(files []file, patterns []string) (picked []file, unmatched []string, err error) {
	all := len(patterns) == 0 || len(patterns) == 1 && patterns[0] == "."
	used := make([]bool, len(patterns))
	var errs []error
	for _, f := range files {
		if strings.HasPrefix(f.key, ".pv") {
			continue
		}
		ok, err := r.matches(f.key, patterns, used)
		if err != nil {
			return nil, nil, err
		}
		if all || ok {
			errs = append(errs, state.CheckKey(f.key))
			picked = append(picked, f)
		}
	}
	for i, p := range patterns {
		if !all && !used[i] {
			unmatched = append(unmatched, p)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, fmt.Errorf("adding files: %w", err)
	}
	return picked, unmatched, nil
}

func (r *Repo) matches(key string, patterns []string, used []bool) (bool, error) {
	any := false
	for i, p := range patterns {
		name := key
		if filepath.IsAbs(p) {
			name = filepath.Join(r.dir, key)
		}
		ok, err := filepath.Match(p, name)
		if err != nil {
			return false, fmt.Errorf("reading pattern %q: %w", p, err)
		}
		used[i] = used[i] || ok
		any = any || ok
	}
	return any, nil
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
