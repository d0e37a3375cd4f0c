package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/ctxio"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filelock"
)

// lockName is the file of a directory that those who write hold locked.
const lockName = ".lock"

// directory is a backend. The version of a file is the SHA-256 of its content.
type directory struct{ dir string }

var _ backend = (*directory)(nil)

func (d *directory) path(name string) string { return filepath.Join(d.dir, filepath.FromSlash(name)) }

func (d *directory) open(_ context.Context, name string) (*Object, error) {
	file, err := d.regular(name)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &Object{ReadCloser: file, Size: info.Size()}, nil
}

// regular opens a regular file: a pipe is not waited for.
func (d *directory) regular(name string) (*os.File, error) {
	info, err := os.Stat(d.path(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, missing()
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fault.New(fault.BadInput, "%s is not a regular file", d.path(name))
	}
	return os.Open(d.path(name))
}

func (d *directory) put(ctx context.Context, name string, c content, condition string) (string, error) {
	to := d.path(name)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return "", err
	}
	file, err := atomicfile.Create(to, 0o644)
	if err != nil {
		return "", err
	}
	defer file.Abort()
	hash := sha256.New()
	if _, err := io.Copy(io.MultiWriter(file, hash), ctxio.Reader(ctx, c)); err != nil {
		return "", err
	}
	version := hex.EncodeToString(hash.Sum(nil))
	if c.sha256 != "" && version != c.sha256 {
		return "", fault.New(fault.Digest, "the file was changed while it was copied: it has the SHA-256 %s now", version)
	}
	lock, err := filelock.Acquire(ctx, d.path(lockName), filelock.Options{Create: 0o644})
	if err != nil {
		return "", err
	}
	defer lock.Unlock()
	if err := d.holds(ctx, name, condition); err != nil {
		return "", err
	}
	return version, file.Commit()
}

// holds returns an error for a condition that does not hold. The lock is held.
func (d *directory) holds(ctx context.Context, name, condition string) error {
	if condition == Any {
		return nil
	}
	version, err := d.digest(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		version, err = Absent, nil
	}
	if err == nil && version != condition {
		err = changed()
	}
	return err
}

func (d *directory) digest(ctx context.Context, name string) (string, error) {
	file, err := d.regular(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	return sumOf(ctx, file)
}

func (d *directory) list(ctx context.Context, prefix string) ([]Entry, error) {
	var out []Entry
	err := fs.WalkDir(os.DirFS(d.dir), dirOf(prefix), func(name string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case name != "." && strings.HasPrefix(e.Name(), "."):
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		case !e.Type().IsRegular() || !strings.HasPrefix(name, prefix):
			return nil
		}
		info, err := e.Info()
		if err == nil {
			out = append(out, Entry{name, info.Size()})
		} else if errors.Is(err, fs.ErrNotExist) { // it was removed meanwhile
			err = nil
		}
		return err
	})
	slices.SortFunc(out, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return out, err
}

// dirOf is the directory below which all names begin with a prefix.
func dirOf(prefix string) string { return path.Clean(prefix[:strings.LastIndex(prefix, "/")+1]) }

func (d *directory) remove(ctx context.Context, name string) error {
	lock, err := filelock.Acquire(ctx, d.path(lockName), filelock.Options{Create: 0o644})
	if errors.Is(err, fs.ErrNotExist) { // there is not even a directory
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if err := os.Remove(d.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// sumOf returns the SHA-256 of what a reader has, in hex.
func sumOf(ctx context.Context, r io.Reader) (string, error) {
	hash := sha256.New()
	if _, err := io.Copy(hash, ctxio.Reader(ctx, r)); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}
