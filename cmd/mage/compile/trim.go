package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// temporary begins the names of directories in which programs are made.
const temporary = "new-"

// How many programs are kept, and how old a temporary directory must be before its
// compiler is taken to be gone.
const (
	most      = 16
	abandoned = time.Hour
)

// trim removes the oldest programs and what killed compilers left. It is housekeeping:
// what cannot be removed stays.
func trim(programs string) {
	entries, err := os.ReadDir(programs)
	if err != nil {
		return
	}
	made := map[string]time.Time{}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			continue
		}
		if !strings.HasPrefix(e.Name(), temporary) {
			made[e.Name()] = info.ModTime()
		} else if time.Since(info.ModTime()) > abandoned {
			_ = os.RemoveAll(filepath.Join(programs, e.Name()))
		}
	}
	names := make([]string, 0, len(made))
	for name := range made {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return made[b].Compare(made[a]) })
	for _, name := range names[min(most, len(names)):] {
		_ = os.RemoveAll(filepath.Join(programs, name))
	}
}
