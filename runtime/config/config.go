// Package config holds the configuration of the runtime: one table of keys, the
// levels at which each may be set, and which value wins.
//
// Every key keeps its value of each level, so that loading order does not matter
// and taking a value away (a deleted user metadata key) lets the one below show
// again. A value that cannot be read changes nothing and leaves a [Note].
//
// A new key is a constant and a line of the table, both in keys.go; docs/config.md
// follows with go test ./runtime/config -run TestDocument -update. Whoever acts on it
// asks the [Config]: process 1 in package init, the running device in package device.
package config

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// Config is the configuration. Make one with [New]; it is safe for use by
// several goroutines.
type Config struct {
	mu      sync.RWMutex
	set     [keys][]value // one a level, lowest first; the last wins
	sysctls []sysctl
	notes   []Note
	lost    int // notes beyond maxNotes
}

// Note is something that the user should know about a source of configuration:
// an unknown key, a wrong value, a level that a key may not be set at.
type Note struct {
	Level Level
	Text  string
}

// maxNotes bounds the notes that are kept until somebody reads them.
const maxNotes = 256

// New returns a configuration in which every key has its default.
func New() *Config {
	c := &Config{}
	for k := range table {
		if v, err := table[k].parse(table[k].def); err == nil && table[k].def != "" {
			c.set[k] = []value{v}
		}
	}
	c.sysctls = []sysctl{{name: "PV_SYSCTL_KERNEL_CORE_PATTERN", value: "|/lib/pv/pvcrash --skip"}}
	return c
}

// get returns the winning value.
func (c *Config) get(k Key) value {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if vs := c.set[k]; len(vs) > 0 {
		return vs[len(vs)-1]
	}
	return value{}
}

// String returns the text of a key's value: for numbers, flags and durations the
// number (a flag is 0 or 1, a duration seconds), "" when unset.
func (c *Config) String(k Key) string { return c.get(k).text }

// Int returns the number of a key's value: 0 or 1 for a flag, seconds for a
// duration, the position for an enumeration, bits for log outputs, 0 for text.
func (c *Config) Int(k Key) int { return c.get(k).num }

// Bool reports whether a flag is on.
func (c *Config) Bool(k Key) bool { return c.get(k).num != 0 }

// Duration returns a duration, or the seconds of a number, as a time span.
func (c *Config) Duration(k Key) time.Duration {
	return time.Duration(c.get(k).num) * time.Second
}

// Enum returns the word of an enumeration.
func (c *Config) Enum(k Key) string { return c.get(k).text }

// List returns the non-empty elements of a comma list.
func (c *Config) List(k Key) []string {
	return strings.FieldsFunc(c.get(k).text, func(r rune) bool { return r == ',' })
}

// From returns the level that the key's value came from.
func (c *Config) From(k Key) Level { return c.get(k).from }

// Set sets a key by its name, new or old, at a level. What is wrong with it
// becomes a note. It returns the key and whether its winning value changed.
func (c *Config) Set(l Level, name, raw string) (Key, bool) {
	if c.setSysctl(l, name, raw) {
		return keys, false
	}
	k, hint, ok := lookup(name)
	if !ok {
		if k, changed, ok := c.setRetired(l, name, raw); ok {
			return k, changed
		}
		c.note(l, "unknown key %q", name)
		return keys, false
	}
	if hint != "" {
		c.note(l, "%s", hint)
	}
	return k, c.put(l, k, raw)
}

// Apply sets a key at a level, with the checks of [Config.Set].
func (c *Config) Apply(l Level, k Key, raw string) bool {
	if k >= keys {
		return false
	}
	return c.put(l, k, raw)
}

// SetDefault replaces the compiled-in default of a key, for a runtime whose directories
// are elsewhere. A value that cannot be read becomes a note.
func (c *Config) SetDefault(k Key, raw string) {
	v, err := table[k].parse(raw)
	if err != nil {
		c.note(Default, "%s: %v", table[k].name, err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set[k] = insert(c.set[k], v)
}

// put checks and stores; it reports whether the winning value changed.
func (c *Config) put(l Level, k Key, raw string) bool {
	s := &table[k]
	if !s.levels.has(l) {
		c.note(l, "%s may not be set here", s.name)
		return false
	}
	v, err := s.parse(raw)
	if err != nil {
		c.note(l, "%s: %v; it stays %s", s.name, err, shown(c.get(k), s))
		return false
	}
	v.from = l
	before := c.get(k)
	c.mu.Lock()
	c.set[k] = insert(c.set[k], v)
	c.mu.Unlock()
	after := c.get(k)
	return before.text != after.text
}

// insert puts v in its place by level, replacing one of the same level. It makes
// a new slice: readers may hold the old one.
func insert(vs []value, v value) []value {
	out := make([]value, 0, len(vs)+1)
	placed := false
	for _, old := range vs {
		if !placed && old.from >= v.from {
			out, placed = append(out, v), true
		}
		if old.from != v.from {
			out = append(out, old)
		}
	}
	if !placed {
		out = append(out, v)
	}
	return out
}

// unset takes a level's value away and reports whether the winner changed.
func (c *Config) unset(l Level, k Key) bool {
	before := c.get(k)
	c.mu.Lock()
	var out []value
	for _, v := range c.set[k] {
		if v.from != l {
			out = append(out, v)
		}
	}
	c.set[k] = out
	c.mu.Unlock()
	return before.text != c.get(k).text
}

// SetMeta lets a user metadata key override the configuration. Keys that are no
// configuration are none of its business: ok is false and nothing is noted. ok
// is true when the winning value of key k changed.
func (c *Config) SetMeta(name, raw string) (k Key, ok bool) {
	k, _, found := lookup(name)
	if !found {
		return keys, false
	}
	if changed := c.put(Meta, k, raw); !changed {
		return k, false
	}
	if k.isInert() && !k.granted(c.String(k)) {
		c.note(Meta, "%s has %s", table[k].name, noEffect)
	}
	return k, true
}

// UnsetMeta ends the override of a user metadata key; the value below shows
// again. ok is true when the winning value of key k changed.
func (c *Config) UnsetMeta(name string) (k Key, ok bool) {
	k, _, found := lookup(name)
	if !found {
		return keys, false
	}
	return k, c.unset(Meta, k)
}

// lookup finds a key by its name, new or old, or by a misspelling of the manual, for
// which it returns a hint. Case does not count.
func lookup(name string) (k Key, hint string, ok bool) {
	for i := range table {
		if strings.EqualFold(name, table[i].name) {
			return Key(i), "", true
		}
		for _, a := range table[i].aliases {
			if strings.EqualFold(a, name) {
				return Key(i), "", true
			}
		}
	}
	if k, ok := misspelt[strings.ToUpper(name)]; ok {
		return k, fmt.Sprintf("%s should be written %s", name, table[k].name), true
	}
	return keys, "", false
}

// Name returns the key's PV_ or PH_ name.
func (k Key) Name() string {
	if k >= keys {
		return "unknown key"
	}
	return table[k].name
}

// Doc returns one line on what the key means.
func (k Key) Doc() string {
	if k >= keys {
		return ""
	}
	return table[k].doc
}

func (c *Config) note(l Level, format string, a ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.notes) >= maxNotes {
		c.lost++
		return
	}
	c.notes = append(c.notes, Note{l, fmt.Sprintf(format, a...)})
}

// Notes returns what was wrong with the sources since the last call.
func (c *Config) Notes() []Note {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.notes
	if c.lost > 0 {
		out = append(out, Note{Default, fmt.Sprintf("%d more notes were dropped", c.lost)})
	}
	c.notes, c.lost = nil, 0
	return out
}
