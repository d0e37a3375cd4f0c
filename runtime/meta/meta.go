// Package meta keeps the two key-value stores of a device, user metadata and
// device metadata: in memory, and one file for each key so that containers can
// read it and it survives a reboot.
//
//	<cache>/<key>                    the value as it is, mode 0644
//	<run>/<kind>.<container>/<rest>  a copy of each key "<container>/<rest>" or "<container>.<rest>"
//
// A key for a container has one slash (manual: User metadata, "<container>/<key>"). A key
// without one, which earlier runtimes know, is cut at its first dot. When both forms name
// the same file of a container, it has the value that changed last.
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
	"path"
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
	maxKey   = 255      // bytes of a key: one without a slash is a file name
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
	age := map[string]int64{}
	if err := s.loadDir("", age); err != nil {
		return err
	}
	slices.SortStableFunc(s.order, func(a, b string) int { return cmp.Compare(age[b], age[a]) })
	for _, key := range slices.Backward(s.order) {
		s.copyOut(key)
	}
	return nil
}

// loadDir loads the files of one directory: "" is that of the store, any other that of a
// container's keys. age gets the time of each key.
func (s *Store) loadDir(container string, age map[string]int64) error {
	files, err := os.ReadDir(filepath.Join(s.o.Dir, container))
	if err != nil {
		return err
	}
	for _, f := range files {
		if strings.HasPrefix(f.Name(), ".") {
			continue
		}
		if f.IsDir() && container == "" {
			if err := s.loadDir(f.Name(), age); err != nil {
				s.warn("leaving the %s directory %q alone: %v", s.o.Kind, f.Name(), err)
			}
			continue
		}
		s.loadFile(path.Join(container, f.Name()), f, age)
	}
	return nil
}

func (s *Store) loadFile(key string, f fs.DirEntry, age map[string]int64) {
	st, err := f.Info()
	if err != nil || !st.Mode().IsRegular() {
		return
	}
	if err := s.loadKey(key, st.Size()); err != nil {
		s.warn("leaving %s file %q alone: %v", s.o.Kind, key, err)
		return
	}
	age[key] = st.ModTime().UnixNano()
	s.order = append(s.order, key)
}

func (s *Store) loadKey(key string, size int64) error {
	if err := CheckKey(key); err != nil {
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

// CheckKey returns why a text cannot be a key, as an error that wraps fs.ErrInvalid.
func CheckKey(key string) error {
	if len(key) > maxKey {
		return fmt.Errorf("a key has 1 to %d bytes, this one %d: %w", maxKey, len(key), fs.ErrInvalid)
	}
	container, rest, found := strings.Cut(key, "/")
	if err := checkName(container); err != nil || !found {
		return err
	}
	return checkName(rest)
}

// checkName checks a key without a slash, or one side of the slash.
func checkName(key string) error {
	switch {
	case key == "" || len(key) > maxKey:
		return fmt.Errorf("a key has 1 to %d bytes, this one %d: %w", maxKey, len(key), fs.ErrInvalid)
	case key[0] == '.':
		return fmt.Errorf("key %q begins with a dot: %w", key, fs.ErrInvalid)
	case !utf8.ValidString(key):
		return fmt.Errorf("key %q is not valid UTF-8: %w", key, fs.ErrInvalid)
	case strings.ContainsFunc(key, func(c rune) bool { return c == '/' || c < ' ' || c == 0x7f }):
		return fmt.Errorf("key %q has a second slash or a control character: %w", key, fs.ErrInvalid)
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
// file is replaced without waiting for the medium, and only when the value differs. When that
// fails, as on a full storage, the key has the value all the same.
func (s *Store) Publish(key, value string) error {
	var failed error
	err := s.set(key, value, func(path string) error {
		failed = atomicfile.Replace(path, []byte(value), fileMode)
		return nil
	})
	if err == nil && failed != nil {
		err = fmt.Errorf("setting %s %s: %w", s.o.Kind, key, failed)
	}
	return err
}

// Show is Publish for values that differ whenever somebody looks: the file of one that has been
// published stays as it is.
func (s *Store) Show(key, value string) error {
	return s.set(key, value, func(string) error { return nil })
}

func (s *Store) set(key, value string, write func(path string) error) error {
	if err := CheckKey(key); err != nil {
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
	if err := s.checkPlace(key); err != nil {
		return false, err
	}
	if s.o.Dir != "" {
		if err := s.makeParent(key); err != nil {
			return false, err
		}
		if err := write(filepath.Join(s.o.Dir, key)); err != nil {
			return false, err
		}
	}
	if !has {
		s.order = slices.Insert(s.order, 0, key)
	}
	s.value[key] = value
	s.copyOut(key)
	return true, nil
}

// checkPlace rejects a key whose file would be a directory, or lie below a file, of another
// key: "a" and "a/b".
func (s *Store) checkPlace(key string) error {
	container, _, found := strings.Cut(key, "/")
	for other := range s.value {
		if found && other == container || !found && strings.HasPrefix(other, key+"/") {
			return fmt.Errorf("key %q cannot stand beside the key %q: %w", key, other, fs.ErrInvalid)
		}
	}
	return nil
}

// makeParent makes the directory of a key with a slash.
func (s *Store) makeParent(key string) error {
	container, _, found := strings.Cut(key, "/")
	if !found {
		return nil
	}
	err := os.Mkdir(filepath.Join(s.o.Dir, container), directoryMode)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case err != nil:
		return err
	}
	return atomicfile.SyncDir(s.o.Dir)
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
		if err := s.removeFile(key); err != nil {
			return err
		}
	}
	delete(s.value, key)
	s.order = slices.DeleteFunc(s.order, func(k string) bool { return k == key })
	s.removeCopy(key)
	return nil
}

// removeFile removes the file of a key, and the directory of a container's last key.
func (s *Store) removeFile(key string) error {
	file := filepath.Join(s.o.Dir, key)
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dir := filepath.Dir(file)
	if strings.Contains(key, "/") && os.Remove(dir) == nil {
		dir = s.o.Dir
	}
	return atomicfile.SyncDir(dir)
}

// removeCopy removes a key's copy, or gives it the value of the key that names the same
// file in the other form.
func (s *Store) removeCopy(key string) {
	file := s.copyPath(key)
	if file == "" {
		return
	}
	for _, other := range s.order {
		if s.copyPath(other) == file {
			s.copyOut(other)
			return
		}
	}
	_ = os.Remove(file)
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
	if err := checkName(container); err != nil {
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
	container, rest, ok := cutContainer(key)
	if !ok || s.o.RunDir == "" || rest == "" || rest[0] == '.' {
		return ""
	}
	return filepath.Join(s.o.RunDir, s.o.Kind+"."+container, rest)
}

// cutContainer splits a key into a container's name and the name of its file there.
func cutContainer(key string) (container, rest string, ok bool) {
	if container, rest, ok = strings.Cut(key, "/"); ok {
		return container, rest, true
	}
	return strings.Cut(key, ".")
}

func (s *Store) copyOut(key string) {
	file := s.copyPath(key)
	if file == "" {
		return
	}
	container, _, _ := cutContainer(key)
	if _, err := s.ContainerDir(container); err != nil {
		s.warn("%v", err)
		return
	}
	if err := atomicfile.Replace(file, []byte(s.value[key]), fileMode); err != nil {
		s.warn("copying %s %s to its container: %v", s.o.Kind, key, err)
	}
}
