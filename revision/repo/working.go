package repo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/filestat"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/state"
)

// Working is the content of the working tree.
type Working struct {
	// State has every file that is committed or on the add list.
	State *state.State
	// Untracked are the other files, in the order of their names, directory by directory.
	Untracked []string
}

// Working reads the working tree. Files that the cache holds and that have not changed
// are not opened.
func (r *Repo) Working(ctx context.Context) (*Working, error) {
	files, _, err := r.walk(ctx)
	if err != nil {
		return nil, err
	}
	w := &Working{}
	tracked := files[:0] // in place, because there may be a million
	for _, f := range files {
		if r.tracks(f.key) {
			tracked = append(tracked, f)
		} else {
			w.Untracked = append(w.Untracked, f.key)
		}
	}
	contents, err := r.contents(ctx, tracked)
	if err != nil {
		return nil, err
	}
	w.State, err = r.compose(contents)
	return w, err
}

// Tracks reports whether a file is committed or on the add list.
func (r *Repo) Tracks(key string) bool { return r.tracks(key) }

func (r *Repo) tracks(key string) bool {
	if _, ok := r.added[key]; ok {
		return true
	}
	_, ok := r.committed.Value(key)
	return ok
}

// content is a file's entry in a state.
type content struct {
	key   string
	value canon.Value
}

// contents returns the contents of files, from the cache where possible.
func (r *Repo) contents(ctx context.Context, files []file) ([]content, error) {
	c := r.loadCache()
	out := make([]content, len(files))
	var todo []int
	for i, f := range files {
		k, ok := c.files[f.key]
		if ok = ok && k.stamp == f.stamp; ok {
			out[i].value, ok = r.remembered(f.key, k)
		}
		out[i].key = f.key
		if !ok {
			todo = append(todo, i)
		}
	}
	c.keep(r.tracks)
	err := c.learn(ctx, files, todo, func(ctx context.Context, i int) (known, error) {
		k, value, err := r.look(ctx, files[i].key)
		out[i].value = value
		return k, err
	})
	return out, err
}

// remembered returns the value of an unchanged file without reading it, if possible: an
// inline value must equal the committed one.
func (r *Repo) remembered(key string, k known) (canon.Value, bool) {
	value, ok := r.committed.Value(key)
	if r.isObject(key) {
		if text, _ := value.Text(); state.IsSum(text) && parseSum(text) == k.sum {
			return value, true // without another copy of the name
		}
		return canon.Str(k.sum.String()), true
	}
	if !ok || k.canon != sha256.Sum256(value.Encode()) {
		return canon.Value{}, false
	}
	return value, true
}

// isObject reports whether a file is kept as an object: because of its name, because
// it was added as one, or because it is committed as one.
func (r *Repo) isObject(key string) bool {
	if !state.IsInline(key) || r.added[key].raw {
		return true
	}
	_, ok := r.committed.Object(key)
	return ok
}

// openFile opens a file of the working tree and returns its stamp before reading.
func (r *Repo) openFile(key string) (*os.File, stamp, error) {
	f, st, err := filestat.OpenRegular(filepath.Join(r.dir, key))
	if err != nil {
		return nil, stamp{}, fmt.Errorf("reading the working tree: %w", err)
	}
	return f, stampOf(&st), nil
}

// look reads a file and returns its cache entry and its value.
func (r *Repo) look(ctx context.Context, key string) (known, canon.Value, error) {
	f, stamp, err := r.openFile(key)
	if err != nil {
		return known{}, canon.Value{}, err
	}
	defer f.Close()
	k := known{stamp: stamp}
	if r.isObject(key) {
		k.sum, err = hashFile(ctx, f)
		return k, canon.Str(k.sum.String()), err
	}
	text, err := bounded.Read(f, canon.MaxSize)
	if err != nil {
		return known{}, canon.Value{}, fmt.Errorf("reading %s: %w", key, err)
	}
	k.sum = sha256.Sum256(text)
	value, err := inlineValue(key, text)
	if err != nil {
		return known{}, canon.Value{}, err
	}
	if sum, ok := value.Text(); ok && state.IsSum(sum) {
		return k, canon.Str(k.sum.String()), nil // inline it would look like an object
	}
	k.canon = sha256.Sum256(value.Encode())
	return k, value, nil
}

// inlineValue reads the JSON value of a file. What follows the value could not be kept
// and is an error.
func inlineValue(key string, text []byte) (canon.Value, error) {
	value, err := canon.One(text)
	if err != nil {
		return canon.Value{}, &JSONError{key, jsonReason(text, err)}
	}
	return value, nil
}

// JSONError is the error for a file that should hold JSON and does not.
type JSONError struct {
	Path string
	Err  error
}

// Error implements error; scripts know the text.
func (e *JSONError) Error() string { return fmt.Sprintf("JSON Unmarshal (%s): %v", e.Path, e.Err) }

// Unwrap returns the reason.
func (e *JSONError) Unwrap() error { return e.Err }

// jsonReason returns the standard library's error for a text whose first value is not
// valid JSON.
func jsonReason(text []byte, err error) error {
	var v any
	if std := json.NewDecoder(bytes.NewReader(text)).Decode(&v); std != nil && !errors.Is(err, canon.ErrBounds) {
		return std
	}
	return err
}

// buffers are for reading files.
var buffers = sync.Pool{New: func() any { b := make([]byte, 128<<10); return &b }}

func hashFile(ctx context.Context, f *os.File) (sum sum32, err error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	h := sha256.New()
	for {
		n, err := f.Read(*buf)
		h.Write((*buf)[:n])
		if errors.Is(err, io.EOF) {
			break
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return sum, fmt.Errorf("hashing %s: %w", f.Name(), err)
		}
	}
	h.Sum(sum[:0])
	return sum, nil
}

// compose makes a state from the contents of the files.
func (r *Repo) compose(contents []content) (*state.State, error) {
	spec, ok := r.committed.Value(state.SpecKey)
	if !ok {
		spec = canon.Str(state.Spec)
	}
	members := make([]canon.Member, 0, len(contents)+1)
	members = append(members, canon.Member{Name: state.SpecKey, Value: spec})
	for _, c := range contents {
		members = append(members, canon.Member{Name: c.key, Value: c.value})
	}
	st, err := state.FromMembers(members)
	if err != nil {
		return nil, fmt.Errorf("reading the working tree: %w", err)
	}
	return st, nil
}
