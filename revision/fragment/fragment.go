// Package fragment writes and reads a fragment of a state: some of its keys in a file
// "json" and the objects that they name in a directory "objects" beside it. A .pvr
// directory and an unpacked export have the same form, so what reads these reads a fragment.
package fragment

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pantavisor/pantavisor/internal/ctxio"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/filecopy"
	"github.com/pantavisor/pantavisor/revision/state"
)

// The two names in the directory of a fragment.
const (
	File    = "json"
	Objects = "objects"
)

// Writer writes a fragment.
type Writer struct {
	// State holds the keys that have been added.
	State *state.State

	dir string
}

// Create starts a fragment in an existing directory that has none.
func Create(dir string) (*Writer, error) {
	w := &Writer{dir: dir, State: state.New(state.Spec)}
	return w, fault.Wrap(fault.IO, os.Mkdir(filepath.Join(dir, Objects), 0o755), "making a part of a state")
}

// Object returns the path of the object with that SHA-256.
func (w *Writer) Object(sum string) string { return filepath.Join(w.dir, Objects, sum) }

// AddFile adds a file: as a value when the key ends in .json, as an object otherwise.
func (w *Writer) AddFile(ctx context.Context, key, file string) error {
	if !state.IsInline(key) {
		return w.AddObject(ctx, key, file)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return fault.Wrap(fault.IO, err, "adding %s", key)
	}
	return w.AddValue(key, text)
}

// AddBytes adds content as [Writer.AddFile] adds a file.
func (w *Writer) AddBytes(key string, data []byte) error {
	if state.IsInline(key) {
		return w.AddValue(key, data)
	}
	sum := sha256.Sum256(data)
	name := hex.EncodeToString(sum[:])
	if err := os.WriteFile(w.Object(name), data, 0o644); err != nil {
		return fault.Wrap(fault.IO, err, "adding %s", key)
	}
	return w.setObject(key, name)
}

// AddObject adds a file as an object, whatever its key.
func (w *Writer) AddObject(ctx context.Context, key, file string) error {
	sum, err := Digest(ctx, file)
	if err == nil {
		err = w.LinkObject(ctx, file, sum)
	}
	if err != nil {
		return fault.Wrap(fault.IO, err, "adding %s", key)
	}
	return w.setObject(key, sum)
}

func (w *Writer) setObject(key, sum string) error {
	return fault.Wrap(fault.BadInput, w.State.SetObject(key, sum), "adding %s", key)
}

// LinkObject adds a file with a known SHA-256 to the objects, without a key. The same
// content may be added twice. Where the file system allows it, the object is a hard link.
func (w *Writer) LinkObject(ctx context.Context, file, sum string) error {
	if err := filecopy.Link(ctx, w.Object(sum), file); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// AddValue adds a JSON value.
func (w *Writer) AddValue(key string, text []byte) error {
	return fault.Wrap(fault.BadInput, w.State.Set(key, text), "adding %s", key)
}

// Join adds the fragment in another directory; its keys replace those that were added
// before.
func (w *Writer) Join(ctx context.Context, dir string) error {
	st, err := Read(dir)
	if err != nil {
		return err
	}
	if w.State, err = w.State.With(st); err != nil {
		return fault.Wrap(fault.BadInput, err, "joining %s", dir)
	}
	for _, sum := range st.Sums() {
		if err := w.LinkObject(ctx, filepath.Join(dir, Objects, sum), sum); err != nil {
			return err
		}
	}
	return nil
}

// Sweep removes the objects that no key names.
func (w *Writer) Sweep() error {
	used := map[string]bool{}
	for _, sum := range w.State.Sums() {
		used[sum] = true
	}
	names, err := os.ReadDir(filepath.Join(w.dir, Objects))
	if err != nil {
		return fault.Wrap(fault.IO, err, "sweeping objects")
	}
	for _, n := range names {
		if used[n.Name()] {
			continue
		}
		if err := os.Remove(w.Object(n.Name())); err != nil {
			return fault.Wrap(fault.IO, err, "sweeping objects")
		}
	}
	return nil
}

// Close writes the keys beside the objects.
func (w *Writer) Close() error {
	err := os.WriteFile(filepath.Join(w.dir, File), w.State.Encode(), 0o644)
	return fault.Wrap(fault.IO, err, "writing the state of a part")
}

// Read returns the keys of the fragment in a directory. Missing objects are an error of
// kind fault.Missing that names all of them.
func Read(dir string) (*state.State, error) {
	text, err := os.ReadFile(filepath.Join(dir, File))
	if err != nil {
		return nil, fault.New(fault.Missing, "reading a state: %w", err)
	}
	s, err := state.Parse(text)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading %s", filepath.Join(dir, File))
	}
	var errs []error
	for _, o := range s.Objects() {
		if _, err := os.Lstat(filepath.Join(dir, Objects, o.Sum)); err != nil {
			errs = append(errs, fault.New(fault.Missing, "reading %s: object %s of %s is not in its objects", dir, o.Sum, o.Path))
		}
	}
	return s, errors.Join(errs...)
}

// Digest returns the SHA-256 of a file in hex.
func Digest(ctx context.Context, file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return DigestOf(ctx, f)
}

// DigestOf returns the SHA-256 of a stream in hex.
func DigestOf(ctx context.Context, r io.Reader) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, ctxio.Reader(ctx, r)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
