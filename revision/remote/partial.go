package remote

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/filelock"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
)

// partial is an incomplete object: the file ".SUM.part" in the store, a name that no
// object has. It stays when a transfer is interrupted. Its lock keeps two processes
// from writing to the same file.
type partial struct {
	file *os.File
	lock *filelock.Lock // of file; nil when the file is this process's own
	dst  string
	hash hash.Hash
	size int64
	keep bool // the file stays for another run
}

// partialName returns the path of an object's partial file.
func partialName(dir, sum string) string { return filepath.Join(dir, "."+sum+".part") }

// openPartial opens an object's partial file or creates it. When another process holds
// it, this one uses a file of its own that it does not keep.
func openPartial(store *objects.Store, sum string) (*partial, error) {
	dst, err := store.Path(sum)
	if err != nil {
		return nil, err
	}
	p := &partial{dst: dst, hash: sha256.New()}
	p.lock, err = lockPartial(partialName(store.Dir(), sum))
	switch {
	case err == nil:
		p.file, p.keep = p.lock.File(), true
	case errors.Is(err, filelock.ErrHeld):
		p.file, err = os.CreateTemp(store.Dir(), "."+sum+".tmp-")
	}
	if err != nil {
		return nil, fmt.Errorf("opening a file for object %s: %w", sum, err)
	}
	if err := p.file.Chmod(objects.Perm); err != nil {
		p.close()
		return nil, fmt.Errorf("setting the mode of %s: %w", p.file.Name(), err)
	}
	return p, nil
}

func lockPartial(path string) (*filelock.Lock, error) {
	return filelock.Try(path, filelock.Options{Create: objects.Perm})
}

// load hashes the bytes that an earlier run left.
func (p *partial) load() error {
	n, err := io.Copy(p.hash, p.file)
	p.size = n
	if err != nil {
		return fmt.Errorf("reading %s: %w", p.file.Name(), err)
	}
	return nil
}

// Write implements io.Writer: it appends.
func (p *partial) Write(data []byte) (int, error) {
	n, err := p.file.Write(data)
	p.hash.Write(data[:n])
	p.size += int64(n)
	if err != nil {
		return n, &writeError{fmt.Errorf("writing %s: %w", p.file.Name(), err)}
	}
	return n, nil
}

// writeError is a local error that the connection did not cause.
type writeError struct{ error }

// Unwrap returns the error itself.
func (e *writeError) Unwrap() error { return e.error }

// reset discards the content.
func (p *partial) reset() error {
	p.hash.Reset()
	p.size = 0
	if err := p.file.Truncate(0); err != nil {
		return &writeError{fmt.Errorf("emptying %s: %w", p.file.Name(), err)}
	}
	if _, err := p.file.Seek(0, io.SeekStart); err != nil {
		return &writeError{fmt.Errorf("rewinding %s: %w", p.file.Name(), err)}
	}
	return nil
}

func (p *partial) sum() string { return hex.EncodeToString(p.hash.Sum(nil)) }

// commit makes the object visible; the content must have been verified.
func (p *partial) commit() error {
	if err := atomicfile.Install(p.file, p.dst); err != nil {
		return &writeError{err}
	}
	p.keep = true
	return nil
}

// close closes the file and removes it unless it is to be kept and not empty.
func (p *partial) close() {
	if !p.keep || p.size == 0 && p.lock != nil && p.lock.Named() {
		_ = os.Remove(p.file.Name())
	}
	if p.lock != nil {
		p.lock.Unlock()
		return
	}
	_ = p.file.Close()
}

// SweepPartials removes partial files that have not changed for the given time and that
// no process is using.
func SweepPartials(store *objects.Store, age time.Duration) error {
	found, err := filepath.Glob(filepath.Join(store.Dir(), ".*.part"))
	if err != nil {
		return fmt.Errorf("looking for unfinished objects: %w", err)
	}
	var errs []error
	for _, path := range found {
		sum := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "."), ".part")
		info, err := os.Lstat(path)
		if err != nil || !state.IsSum(sum) || !info.Mode().IsRegular() || time.Since(info.ModTime()) < age {
			continue
		}
		l, err := lockPartial(path)
		if err != nil {
			continue // in use
		}
		errs = append(errs, l.Remove())
	}
	return errors.Join(errs...)
}
