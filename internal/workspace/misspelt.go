package workspace

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/pantavisor/pantavisor/internal/layers"
	"github.com/pantavisor/pantavisor/internal/spelling"
	"github.com/pantavisor/pantavisor/targets"
)

// platformFiles are the names that a build looks for in the directories of a platform.
var platformFiles = map[string][]string{
	"config":  {"pantavisor.config", "pantahub.config", "image.config"},
	"vendors": {"skel", "stepskel"},
}

// misspelt warns of names in the workspace's config/ and vendors/ that nothing reads and that
// resemble one that a build of the target looks for.
func misspelt(l *layers.Layers, t *targets.Target) []string {
	platforms := []string{t.Name}
	if t.Platform != "" && t.Platform != t.Name {
		platforms = append(platforms, t.Platform)
	}
	var out []string
	for _, top := range []string{"config", "vendors"} {
		for _, platform := range platforms {
			out = append(out, unread(l, filepath.Join(top, platform), platformFiles[top], func(string) bool { return false })...)
		}
		out = append(out, unread(l, top, platforms, func(name string) bool { return isPlatform(l, name) })...)
	}
	return out
}

// unread returns a warning for each name in a directory of the workspace that resembles a known
// one, unless others read it.
func unread(l *layers.Layers, dir string, known []string, read func(string) bool) []string {
	entries, err := os.ReadDir(filepath.Join(l.Top().Dir, dir))
	if err != nil {
		return nil // most have none
	}
	var out []string
	for _, e := range entries {
		near := spelling.Nearest(e.Name(), known)
		if len(near) > 0 && !slices.Contains(known, e.Name()) && !read(e.Name()) {
			out = append(out, fmt.Sprintf("nothing reads %s; did you mean %s?", filepath.Join(dir, e.Name()), near[0]))
		}
	}
	return out
}

// isPlatform reports whether a name is a target's, or that of files that this module ships.
func isPlatform(l *layers.Layers, name string) bool {
	ours := l.Shipped().Dir
	paths := append(l.Dirs("targets/"+name), filepath.Join(ours, "config", name), filepath.Join(ours, "vendors", name))
	return slices.ContainsFunc(paths, func(path string) bool {
		_, err := os.Stat(path)
		return err == nil
	})
}
