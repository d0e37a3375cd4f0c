// Package meta keeps the two key-value stores of a device, user metadata and
// device metadata: in memory, and one file for each key so that containers can
// read it and it survives a reboot.
//
//	<cache>/<key>                    the value as it is, mode 0644
//	<run>/<kind>.<container>/<rest>  a copy of each key "<container>.<rest>", cut at its first dot
//
// Keys come from containers and from the network and become file names, so
// they are checked here, once.
package meta

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/revision/canon"
)

// Bounds of a store.
const (
	maxKey   = 255      // bytes of a key: it is a file name
	maxValue = 64 << 10 // bytes of a value; what clients may send is less
	maxKeys  = 1024     // keys in a store
)

const (
	fileMode      = 0o644
	directoryMode = 0o755
)

// The kinds of store, as they stand in the names of directories below <run>.
const (
	User   = "user-meta"
	Device = "device-meta"
)

// Options says where a store keeps its files.
type Options struct {
	// Kind is [User] or [Device].
	Kind string
	// Dir is the directory with one file for each key; it is made when missing. Empty
	// keeps the store in memory only.
	Dir string
	// RunDir is <run>, for the copies of each container's keys. Empty makes none.
	RunDir string
	// Changed is told of each key that got another value or went, after the fact and
	// outside of any lock. May be nil.
	Changed func(key string)
	// Warn is told of files that cannot be used. May be nil.
	Warn func(format string, args ...any)
}

// Store is one key-value store. Its methods may be called from any goroutine.
type Store struct {
	o     Options
	mu    sync.Mutex
	order []string // newest first
	value map[string]string
}

// Open loads the store of o.Dir. Files that are not keys are left alone and, but
// for hidden ones, warned about.
func Open(o Options) (*Store, error) {
	s := &Store{o: o, value: map[string]string{}}
	if o.Dir == "" {
		return s, nil
	}
	if err := os.MkdirAll(o.Dir, directoryMode); err != nil {
		return nil, fmt.Errorf("making the directory of %s: %w", o.Kind, err)
	}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("loading %s: %w", o.Kind, err)
	}
	return s, nil
}

func (s *Store) warn(format string, args ...any) {
	if s.o.Warn != nil {
		s.o.Warn(format, args...)
	}
}

func (s *Store) load() error {
	files, err := os.ReadDir(s.o.Dir)
	if err != nil {
		return err
	}
	age := map[string]int64{}
	for _, f := range files {
		st, err := f.Info()
		if err != nil || !st.Mode().IsRegular() || strings.HasPrefix(f.Name(), ".") {
			continue
		}
		if err := s.loadKey(f.Name(), st.Size()); err != nil {
			s.warn("leaving %s file %q alone: %v", s.o.Kind, f.Name(), err)
			continue
		}
		age[f.Name()] = st.ModTime().UnixNano()
		s.order = append(s.order, f.Name())
	}
	slices.SortStableFunc(s.order, func(a, b string) int { return cmp.Compare(age[b], age[a]) })
	for _, key := range s.order {
		s.copyOut(key, s.value[key])
	}
	return nil
}

func (s *Store) loadKey(key string, size int64) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if size > maxValue || len(s.order) >= maxKeys {
		return fmt.Errorf("beyond %d bytes or %d keys", maxValue, maxKeys)
	}
	text, err := os.ReadFile(filepath.Join(s.o.Dir, key))
	if err != nil {
		return err
	}
	s.value[key] = string(text)
	return nil
}

// checkKey returns why a text cannot be a key, as an error that wraps fs.ErrInvalid.
func checkKey(key string) error {
	switch {
	case key == "" || len(key) > maxKey:
		return fmt.Errorf("a key has 1 to %d bytes, this one %d: %w", maxKey, len(key), fs.ErrInvalid)
	case key[0] == '.':
		return fmt.Errorf("key %q begins with a dot: %w", key, fs.ErrInvalid)
	case !utf8.ValidString(key):
		return fmt.Errorf("key %q is not valid UTF-8: %w", key, fs.ErrInvalid)
	case strings.ContainsFunc(key, func(c rune) bool { return c == '/' || c < ' ' || c == 0x7f }):
		return fmt.Errorf("key %q has a slash or a control character: %w", key, fs.ErrInvalid)
	}
	return nil
}

// Set gives key a value and makes it durable. A refused key or value is an error
// that wraps fs.ErrInvalid; then nothing changed.
func (s *Store) Set(key, value string) error {
	return s.set(key, value, func(path string) error {
		return atomicfile.Write(path, []byte(value), fileMode)
	})
}

// Publish is Set for values that the runtime computes again after a start: the
// file is replaced without waiting for the medium, and only when the value differs.
func (s *Store) Publish(key, value string) error {
	return s.set(key, value, func(path string) error { return atomicfile.Replace(path, []byte(value), fileMode) })
}

func (s *Store) set(key, value string, write func(path string) error) error {
	if err := checkKey(key); err != nil {
		return fmt.Errorf("setting %s: %w", s.o.Kind, err)
	}
	if len(value) > maxValue {
		return fmt.Errorf("setting %s %s: %d bytes are more than %d: %w", s.o.Kind, key, len(value), maxValue, fs.ErrInvalid)
	}
	changed, err := s.store(key, value, write)
	if err != nil {
		return fmt.Errorf("setting %s %s: %w", s.o.Kind, key, err)
	}
	if changed && s.o.Changed != nil {
		s.o.Changed(key)
	}
	return nil
}

func (s *Store) store(key, value string, write func(path string) error) (changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, has := s.value[key]
	switch {
	case has && old == value:
		return false, nil
	case !has && len(s.order) >= maxKeys:
		return false, fmt.Errorf("there are %d keys already: %w", maxKeys, fs.ErrInvalid)
	}
	if s.o.Dir != "" {
		if err := write(filepath.Join(s.o.Dir, key)); err != nil {
			return false, err
		}
	}
	if !has {
		s.order = slices.Insert(s.order, 0, key)
	}
	s.value[key] = value
	s.copyOut(key, value)
	return true, nil
}

// Delete removes key; one that is not there is an error that wraps fs.ErrNotExist.
func (s *Store) Delete(key string) error {
	if err := s.remove(key); err != nil {
		return fmt.Errorf("deleting %s %q: %w", s.o.Kind, key, err)
	}
	if s.o.Changed != nil {
		s.o.Changed(key)
	}
	return nil
}

func (s *Store) remove(key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, has := s.value[key]; !has {
		return fs.ErrNotExist
	}
	if s.o.Dir != "" {
		if err := os.Remove(filepath.Join(s.o.Dir, key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := atomicfile.SyncDir(s.o.Dir); err != nil {
			return err
		}
	}
	delete(s.value, key)
	s.order = slices.DeleteFunc(s.order, func(k string) bool { return k == key })
	if path := s.copyPath(key); path != "" {
		_ = os.Remove(path)
	}
	return nil
}

// Get returns the value of key.
func (s *Store) Get(key string) (value string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value, ok = s.value[key]
	return value, ok
}

// Keys returns the keys, newest first.
func (s *Store) Keys() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.order)
}

// List writes all pairs as one JSON object, newest first. A value that is itself
// a JSON object or array stands there as it is, any other as a string.
func (s *Store) List(w io.Writer) error {
	if _, err := w.Write(s.text()); err != nil {
		return fmt.Errorf("listing %s: %w", s.o.Kind, err)
	}
	return nil
}

func (s *Store) text() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := []byte{'{'}
	for i, key := range s.order {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(canon.AppendLong(b, key), ':')
		if value := s.value[key]; isComposite(value) {
			b = append(b, strings.ToValidUTF8(value, "\ufffd")...)
		} else {
			b = canon.AppendLong(b, value)
		}
	}
	return append(b, '}')
}

func isComposite(value string) bool {
	start := strings.TrimLeft(value, " \t\r\n")
	return start != "" && (start[0] == '{' || start[0] == '[') && json.Valid([]byte(value))
}

// ContainerDir makes and returns the directory with the copies of a container's
// keys, <run>/<kind>.<container>.
func (s *Store) ContainerDir(container string) (string, error) {
	if s.o.RunDir == "" {
		return "", fmt.Errorf("making the %s directory of %s: no run directory is set", s.o.Kind, container)
	}
	if err := checkKey(container); err != nil {
		return "", fmt.Errorf("making a %s directory: %w", s.o.Kind, err)
	}
	dir := filepath.Join(s.o.RunDir, s.o.Kind+"."+container)
	if err := os.MkdirAll(dir, directoryMode); err != nil {
		return "", fmt.Errorf("making the %s directory of %s: %w", s.o.Kind, container, err)
	}
	return dir, nil
}

// copyPath is where the copy of key is, "" when it has none.
func (s *Store) copyPath(key string) string {
	container, rest, ok := strings.Cut(key, ".")
	if !ok || s.o.RunDir == "" || rest == "" || rest[0] == '.' {
		return ""
	}
	return filepath.Join(s.o.RunDir, s.o.Kind+"."+container, rest)
}

func (s *Store) copyOut(key, value string) {
	path := s.copyPath(key)
	if path == "" {
		return
	}
	container, _, _ := strings.Cut(key, ".")
	if _, err := s.ContainerDir(container); err != nil {
		s.warn("%v", err)
		return
	}
	if err := atomicfile.Replace(path, []byte(value), fileMode); err != nil {
		s.warn("copying %s %s to its container: %v", s.o.Kind, key, err)
	}
}
