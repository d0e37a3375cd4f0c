package build

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// keeper keeps the last two records of each step that a target used, as hard links into
// the cache: "STEP.json" and "STEP~before.json", with each '/' of the step's name written
// as '@'. A build that changes nothing writes nothing here.
type keeper struct{ dir string }

func (b *Builder) newKeeper() *keeper {
	sum := sha256.Sum256([]byte(b.Workspace))
	name := hex.EncodeToString(sum[:6])
	target := strings.NewReplacer("/", "@", ".", "_").Replace(b.Target)
	return &keeper{dir: filepath.Join(b.Cache.dir, "history", name, "target-"+target)}
}

func (k *keeper) last(step string) string {
	return filepath.Join(k.dir, strings.ReplaceAll(step, "/", "@")+".json")
}

func (k *keeper) before(step string) string {
	return strings.TrimSuffix(k.last(step), ".json") + "~before.json"
}

// remember makes the entry's record the last one of the step. History is a convenience:
// errors do not fail the build.
func (k *keeper) remember(step, entry string) {
	path := filepath.Join(entry, "record.json")
	fresh, err := os.Stat(path)
	if err != nil {
		return
	}
	old, err := os.Stat(k.last(step))
	if err == nil && os.SameFile(fresh, old) {
		return
	}
	_ = os.MkdirAll(k.dir, 0o755)
	if r, err := readRecord(k.last(step)); err == nil && filepath.Base(entry) != r.Key {
		_ = os.Rename(k.last(step), k.before(step))
	}
	tmp := fmt.Sprintf("%s.%d.tmp", k.last(step), os.Getpid())
	_ = os.Remove(tmp)
	if os.Link(path, tmp) == nil {
		_ = os.Rename(tmp, k.last(step))
	}
}

// note returns the file of a note. Its end tells it from a record.
func (k *keeper) note(name string) string { return filepath.Join(k.dir, name+".note") }

// maxNote bounds a note, in bytes.
const maxNote = 16 << 20

// Remember keeps a text in the history of the target, in place of an earlier one of that name: a
// word in lower case.
func (b *Builder) Remember(name string, text []byte) error {
	file := b.newKeeper().note(name)
	if old, err := bounded.ReadFile(file, maxNote); err == nil && bytes.Equal(old, text) {
		return nil
	}
	err := os.MkdirAll(filepath.Dir(file), 0o755)
	if err == nil {
		err = atomicfile.Write(file, text, 0o644)
	}
	return fault.Wrap(fault.IO, err, "keeping the %s in the history of %s", name, b.Target)
}

// Recall returns what was remembered, nil for nothing.
func (b *Builder) Recall(name string) []byte {
	text, err := bounded.ReadFile(b.newKeeper().note(name), maxNote)
	if err != nil {
		return nil
	}
	return text
}

// keys returns, by step name, the keys of the last two entries that the target used.
func (k *keeper) keys() map[string][]string {
	found := map[string][]string{}
	paths, _ := filepath.Glob(filepath.Join(k.dir, "*.json"))
	for _, p := range paths {
		if r, err := readRecord(p); err == nil {
			found[r.Step] = append(found[r.Step], r.Key)
		}
	}
	return found
}

// explain returns in a few words why a step runs.
func (k *keeper) explain(step string, now []Input, why string) string {
	last, err := readRecord(k.last(step))
	if err != nil {
		return "never built"
	}
	changes := diffInputs(last.Inputs, now)
	switch len(changes) {
	case 0:
		return why
	case 1:
		return changes[0].Name + " changed"
	}
	return fmt.Sprintf("%s and %d more changed", changes[0].Name, len(changes)-1)
}

// Change is one input that differs between two runs of a step.
type Change struct {
	Name     string `json:"name"`
	Old      string `json:"old,omitempty"` // digest then; empty: was not there
	New      string `json:"new,omitempty"` // digest now; empty: is gone
	OldValue string `json:"old_value,omitempty"`
	NewValue string `json:"new_value,omitempty"`
	// Pending: the input is the output of a step that has to run first.
	Pending bool `json:"pending,omitempty"`
}

// diffInputs lists the inputs that differ, by name.
func diffInputs(old, now []Input) []Change {
	byName := map[string]*Change{}
	var order []string
	at := func(name string) *Change {
		c := byName[name]
		if c == nil {
			c = &Change{Name: name}
			byName[name] = c
			order = append(order, name)
		}
		return c
	}
	for _, in := range now {
		c := at(in.Name)
		c.New, c.NewValue, c.Pending = in.Digest, in.Value, in.Digest == ""
	}
	for _, in := range old {
		c := at(in.Name)
		c.Old, c.OldValue = in.Digest, in.Value
	}
	var changes []Change
	for _, name := range order {
		if c := byName[name]; c.Old != c.New {
			changes = append(changes, *c)
		}
	}
	return slices.Clip(changes)
}
