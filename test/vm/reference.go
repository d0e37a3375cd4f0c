package vm

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/pantavisor/pantavisor/revision/state"
)

// merge puts the parts in folders (json, objects) into one .pvr folder.
func merge(dir string, parts []string) error {
	objects := filepath.Join(dir, "objects")
	if err := os.MkdirAll(objects, 0o755); err != nil {
		return err
	}
	whole := state.New(state.Spec)
	for _, part := range parts {
		text, err := os.ReadFile(filepath.Join(part, "json"))
		if err != nil {
			return err
		}
		fragment, err := state.Parse(text)
		if err != nil {
			return fmt.Errorf("reading the part in %s: %w", part, err)
		}
		for _, o := range fragment.Objects() {
			if err := copyObject(filepath.Join(part, "objects", o.Sum), filepath.Join(objects, o.Sum)); err != nil {
				return err
			}
		}
		for _, key := range fragment.Keys() {
			if v, ok := fragment.Value(key); ok && key != "#spec" {
				if err := whole.SetValue(key, v); err != nil {
					return err
				}
			}
		}
	}
	return os.WriteFile(filepath.Join(dir, "json"), whole.Encode(), 0o644)
}

func copyObject(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o644)
}
