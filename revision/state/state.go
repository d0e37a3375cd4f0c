// Package state is the document that describes one revision of a device: a JSON
// object from paths to contents (manual: Pantavisor State Format). The value of
// an object's path is the SHA-256 of its content; a path that ends in ".json"
// holds its JSON value itself.
//
// A [State] keeps its keys in byte order, which is the order of the canonical
// form that every tool writes, and each value as canonical JSON. Keys are
// validated on the way in, see [CheckKey].
package state

import (
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/pantavisor/pantavisor/revision/canon"
)

// ErrFormat is wrapped by the errors for documents that are not a state.
var ErrFormat = errors.New("state JSON has bad format")

// State is a mutable state document. Make one with [New] or [Parse]; it is not
// safe for concurrent use while it changes.
type State struct {
	entries []entry // sorted by key
	raw     []byte  // the document as received, nil after a change
}

type entry struct {
	key   string
	value canon.Value
}

// New returns a state with only its format version; an empty spec omits that, too.
func New(spec string) *State {
	s := &State{}
	if spec != "" {
		s.put(SpecKey, canon.Str(spec))
	}
	return s
}

// Parse reads a state document. It must be one JSON object without duplicate
// members, its keys must pass [CheckKey], no key may be a directory of another, and
// "#spec", if present, must be a string. All unusable keys are reported at once.
// A member with the value null means "no such file" and is left out.
func Parse(doc []byte) (*State, error) {
	v, err := canon.Parse(doc)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if v.Kind() != canon.Object {
		return nil, fmt.Errorf("%w: an object is expected, not a value of type %s", ErrFormat, v.Kind())
	}
	s, err := fromMembers(v.Members())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	s.raw = append([]byte(nil), doc...)
	return s, nil
}

// FromMembers returns a state with the given keys, of which the last counts when a key
// comes twice; null means that there is no such key. It takes n·log n time, where adding
// the keys one by one moves those that follow each time.
func FromMembers(members []canon.Member) (*State, error) {
	return fromMembers(canon.Obj(members...).Members())
}

// With returns the state with the values of another set in it.
func (s *State) With(other *State) (*State, error) {
	return join(s.entries, other.entries, func(_, add canon.Value) canon.Value { return add })
}

// join returns the state of two sorted lists; both gives the value of a key that is in
// both of them.
func join(a, b []entry, both func(have, add canon.Value) canon.Value) (*State, error) {
	s := &State{entries: make([]entry, 0, max(len(a), len(b)))}
	for len(a) > 0 && len(b) > 0 {
		switch order := strings.Compare(a[0].key, b[0].key); {
		case order < 0:
			s.entries, a = append(s.entries, a[0]), a[1:]
		case order > 0:
			s.entries, b = append(s.entries, b[0]), b[1:]
		default:
			s.entries = append(s.entries, entry{a[0].key, both(a[0].value, b[0].value)})
			a, b = a[1:], b[1:]
		}
	}
	s.entries = append(append(s.entries, a...), b...)
	return s, firstErrors(s.collisions(), 20)
}

func fromMembers(members []canon.Member) (*State, error) {
	s := &State{entries: make([]entry, 0, len(members))}
	var errs []error
	for _, m := range members {
		if err := checkEntry(m.Name, m.Value); err != nil {
			errs = append(errs, err)
		}
		if !m.Value.IsNull() {
			s.entries = append(s.entries, entry{m.Name, m.Value})
		}
	}
	errs = append(errs, s.collisions()...)
	return s, firstErrors(errs, 20)
}

func checkEntry(key string, v canon.Value) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	if _, ok := v.Text(); key == SpecKey && !ok {
		return fmt.Errorf("%s: a string is expected, not a value of type %s", SpecKey, v.Kind())
	}
	return nil
}

// firstErrors joins the first n errors, so that a hostile document cannot fill a log.
func firstErrors(errs []error, n int) error {
	if len(errs) > n {
		errs = append(errs[:n:n], fmt.Errorf("and %d more", len(errs)-n))
	}
	return errors.Join(errs...)
}

// collisions returns errors for keys that are needed both as a file and as a directory.
func (s *State) collisions() []error {
	var errs []error
	for _, e := range s.entries {
		for i := strings.LastIndexByte(e.key, '/'); i > 0; i = strings.LastIndexByte(e.key[:i], '/') {
			if _, ok := s.find(e.key[:i]); ok {
				errs = append(errs, fmt.Errorf("%w %.120q: %.120q is a file", ErrKey, e.key, e.key[:i]))
			}
		}
	}
	return errs
}

// Encode returns the canonical form.
func (s *State) Encode() []byte { return s.value().Encode() }

// Document returns the canonical form of a state that is to be stored. A state that
// [Parse] would reject for its size gives an error.
func (s *State) Document() ([]byte, error) {
	text, err := s.value().Document()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return text, nil
}

// Pretty returns the document in a human-readable layout, without a final newline.
func (s *State) Pretty(style canon.Style) []byte { return s.value().Pretty(style) }

func (s *State) value() canon.Value { return canon.Obj(s.members()...) }

func (s *State) members() []canon.Member {
	members := make([]canon.Member, len(s.entries))
	for i, e := range s.entries {
		members[i] = canon.Member{Name: e.key, Value: e.value}
	}
	return members
}

// Raw returns the document byte for byte as [Parse] received it, or the canonical
// form when the state was created or changed in memory.
func (s *State) Raw() []byte {
	if s.raw != nil {
		return append([]byte(nil), s.raw...)
	}
	return s.Encode()
}

// Clone returns an independent copy.
func (s *State) Clone() *State {
	return &State{entries: append([]entry(nil), s.entries...), raw: s.raw}
}

// Equal reports whether two states have the same canonical form.
func Equal(a, b *State) bool { return canon.Equal(a.value(), b.value()) }

// Len returns the number of keys, "#spec" included.
func (s *State) Len() int { return len(s.entries) }

// Keys returns all keys in byte order, "#spec" included.
func (s *State) Keys() []string {
	keys := make([]string, len(s.entries))
	for i, e := range s.entries {
		keys[i] = e.key
	}
	return keys
}

// Spec returns the format version, "" when the state has none.
func (s *State) Spec() string {
	v, _ := s.Value(SpecKey)
	text, _ := v.Text()
	return text
}

// Get returns the canonical JSON text of a key's value.
func (s *State) Get(key string) ([]byte, bool) {
	v, ok := s.Value(key)
	if !ok {
		return nil, false
	}
	return v.Encode(), true
}

// Value returns a key's value.
func (s *State) Value(key string) (canon.Value, bool) {
	i, ok := s.find(key)
	if !ok {
		return canon.Value{}, false
	}
	return s.entries[i].value, true
}

// Object returns the SHA-256 that a path refers to, if it is an object. In every tool
// a string of 64 hexadecimal digits is an object under any name but "#spec".
func (s *State) Object(key string) (sum string, ok bool) {
	v, _ := s.Value(key)
	return objectOf(key, v)
}

func objectOf(key string, v canon.Value) (string, bool) {
	text, ok := v.Text()
	if !ok || key == SpecKey || !IsSum(text) {
		return "", false
	}
	return text, true
}

// Object is a path with the SHA-256 of its content.
type Object struct {
	Path string
	Sum  string // 64 lower-case hexadecimal digits
}

// Objects returns all paths that are objects, in byte order of the paths. One sum
// may occur under several paths.
func (s *State) Objects() []Object {
	var out []Object
	for _, e := range s.entries {
		if sum, ok := objectOf(e.key, e.value); ok {
			out = append(out, Object{e.key, sum})
		}
	}
	return out
}

// Sums returns each object's SHA-256 once, sorted.
func (s *State) Sums() []string {
	seen := map[string]bool{}
	var out []string
	for _, o := range s.Objects() {
		if !seen[o.Sum] {
			seen[o.Sum] = true
			out = append(out, o.Sum)
		}
	}
	sort.Strings(out)
	return out
}

// Inlines returns the keys whose value is part of the document itself ("#spec"
// excepted), in byte order.
func (s *State) Inlines() []string {
	var out []string
	for _, e := range s.entries {
		if _, ok := objectOf(e.key, e.value); !ok && e.key != SpecKey {
			out = append(out, e.key)
		}
	}
	return out
}

// Set gives a key the JSON value of a text, as it would be read from a file; null
// deletes the key.
func (s *State) Set(key string, text []byte) error {
	v, err := canon.One(text)
	if err != nil {
		return fmt.Errorf("reading the value of %s: %w", key, err)
	}
	return s.SetValue(key, v)
}

// SetValue gives a key a value; null deletes the key.
func (s *State) SetValue(key string, v canon.Value) error {
	if v.IsNull() {
		s.Delete(key)
		return nil
	}
	if err := checkEntry(key, v); err != nil {
		return err
	}
	if err := s.checkPlace(key); err != nil {
		return err
	}
	s.put(key, v)
	return nil
}

// SetObject makes a path refer to an object.
func (s *State) SetObject(path, sum string) error {
	if !IsSum(sum) {
		return fmt.Errorf("%s: %.80q is not an object name (64 lower-case hexadecimal digits)", path, sum)
	}
	return s.SetValue(path, canon.Str(sum))
}

// checkPlace refuses a path that is a directory of others or lies below a file.
func (s *State) checkPlace(key string) error {
	i := s.search(key + "/")
	if i < len(s.entries) && strings.HasPrefix(s.entries[i].key, key+"/") {
		return fmt.Errorf("%w %.120q: it is the directory of %.120q", ErrKey, key, s.entries[i].key)
	}
	for i := strings.LastIndexByte(key, '/'); i > 0; i = strings.LastIndexByte(key[:i], '/') {
		if _, ok := s.find(key[:i]); ok {
			return fmt.Errorf("%w %.120q: %.120q is a file", ErrKey, key, key[:i])
		}
	}
	return nil
}

// Delete removes a key; it reports whether the key was there.
func (s *State) Delete(key string) bool {
	i, ok := s.find(key)
	if !ok {
		return false
	}
	s.raw = nil
	s.entries = append(s.entries[:i], s.entries[i+1:]...)
	return true
}

func (s *State) put(key string, v canon.Value) {
	s.raw = nil
	i, ok := s.find(key)
	if ok {
		s.entries[i].value = v
		return
	}
	s.entries = append(s.entries, entry{})
	copy(s.entries[i+1:], s.entries[i:])
	s.entries[i] = entry{key, v}
}

func (s *State) search(key string) int {
	return sort.Search(len(s.entries), func(i int) bool { return s.entries[i].key >= key })
}

// find returns where a key is, or where it would be inserted.
func (s *State) find(key string) (int, bool) {
	i := s.search(key)
	return i, i < len(s.entries) && s.entries[i].key == key
}
