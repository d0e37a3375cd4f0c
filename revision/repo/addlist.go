package repo

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/revision/state"
)

// addList is the file .pvr/new: the files for the next commit, by path.
type addList map[string]addition

type addition struct {
	raw bool  // an object even though its name ends in .json
	sum sum32 // when it was added; for other tools only
}

func readAddList(dot string) (addList, error) {
	path := filepath.Join(dot, "new")
	text, err := bounded.ReadFile(path, canon.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return addList{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the add list: %w", err)
	}
	list, err := parseAddList(text)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return list, nil
}

func parseAddList(text []byte) (addList, error) {
	doc, err := canon.First(text)
	if err != nil {
		return nil, err
	}
	if doc.Kind() != canon.Object && doc.Kind() != canon.Null {
		return nil, fmt.Errorf("an object is expected, not %s", doc.Kind())
	}
	list := addList{}
	for _, m := range doc.Members() {
		if err := state.CheckKey(m.Name); err != nil {
			return nil, err
		}
		var a addition
		if v, ok := m.Value.Get("ForceObject"); ok {
			a.raw, _ = v.Bool()
		}
		if v, ok := m.Value.Get("Sha"); ok {
			if text, _ := v.Text(); state.IsSum(text) {
				a.sum = parseSum(text)
			}
		}
		list[m.Name] = a
	}
	return list, nil
}

// encode returns the canonical form. It is written piece by piece, because as a value a
// list of a million files takes several times the memory.
func (l addList) encode() ([]byte, error) {
	text := append(make([]byte, 0, 2+128*len(l)), '{')
	for _, key := range slices.Sorted(maps.Keys(l)) {
		a := l[key]
		if len(text) > 1 {
			text = append(text, ',')
		}
		text = canon.AppendText(text, key)
		text = fmt.Appendf(text, `:{"ForceObject":%t,"Sha":"%s"}`, a.raw, a.sum)
	}
	if len(text) >= canon.MaxSize {
		return nil, fmt.Errorf("%w: the list of %d files takes %d bytes, at most %d are allowed; commit after each part", canon.ErrBounds, len(l), len(text), canon.MaxSize)
	}
	return append(text, '}'), nil
}

func (l addList) write(dot string) error {
	text, err := l.encode()
	if err != nil {
		return fmt.Errorf("writing the add list: %w", err)
	}
	return atomicfile.Write(filepath.Join(dot, "new"), text, 0o644)
}

// dropAddList empties the add list.
func (r *Repo) dropAddList() error {
	r.added = addList{}
	err := os.Remove(filepath.Join(r.dot(), "new"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("clearing the add list: %w", err)
	}
	return nil
}
