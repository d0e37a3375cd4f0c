package workspace

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/layers"
	"github.com/pantavisor/pantavisor/internal/spelling"
	"github.com/pantavisor/pantavisor/targets"
)

// skelFiles are the names that the device looks for in directories of skel, defaultFiles those
// that a build and the device look for in config/defaults, and stateFiles those in stepskel.
var (
	skelFiles = map[string][]string{
		"":                   {"etc", "lib", "usr"},
		"etc":                {"group", "modprobe.d", "pantavisor", "pantavisor.config", "passwd"},
		"etc/pantavisor":     {"defaults", "policies", "pvs", "ssh"},
		"etc/pantavisor/pvs": {"trust"},
	}
	defaultFiles = map[string][]string{"": {"groups.json", "policies"}}
	stateFiles   = map[string][]string{"": {"device.json", "disks.json", "disks_v2.json", "disks_v3.json", "groups.json"}}
)

// platformFiles are the names that a build looks for in the directories of a platform.
var platformFiles = map[string][]string{
	"config":  {"pantavisor.config", "pantahub.config", "image.config", "vex"},
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
			out = append(out, unread(l, filepath.Join(top, platform), platformFiles[top], nobody)...)
			out = append(out, misplaced(l, top, platform)...)
		}
		out = append(out, unread(l, top, platforms, func(name string) bool { return isPlatform(l, name) })...)
	}
	out = append(out, below(l, "config/defaults", defaultFiles)...)
	out = append(out, policies(l)...)
	for _, platform := range platforms {
		out = append(out, below(l, filepath.Join("vendors", platform, "skel"), skelFiles)...)
		out = append(out, below(l, filepath.Join("vendors", platform, "stepskel"), stateFiles)...)
	}
	return out
}

// nobody reads what has a name that is not known.
func nobody(string) bool { return false }

// below is unread for directories below one, by their paths.
func below(l *layers.Layers, dir string, known map[string][]string) (out []string) {
	for _, sub := range slices.Sorted(maps.Keys(known)) {
		out = append(out, unread(l, filepath.Join(dir, sub), known[sub], nobody)...)
	}
	return out
}

// policies returns a warning for each file beside the policies that is not one.
func policies(l *layers.Layers) (out []string) {
	const dir, suffix = "config/defaults/policies", ".config"
	entries, _ := os.ReadDir(filepath.Join(l.Top().Dir, dir)) // most have none
	for _, e := range entries {
		if n := e.Name(); filepath.Ext(n) != suffix && n != "README.md" {
			out = append(out, fmt.Sprintf("nothing reads %s; did you mean %s?", filepath.Join(dir, n), strings.TrimSuffix(n, filepath.Ext(n))+suffix))
		}
	}
	return out
}

// misplaced returns a warning for each name in a directory of a platform in config/ that belongs
// to vendors/, and the other way round.
func misplaced(l *layers.Layers, top, platform string) (out []string) {
	for other, names := range platformFiles {
		for _, name := range names {
			path := filepath.Join(top, platform, name)
			if _, err := os.Lstat(filepath.Join(l.Top().Dir, path)); other != top && err == nil {
				out = append(out, fmt.Sprintf("nothing reads %s; did you mean %s?", path, filepath.Join(other, platform, name)))
			}
		}
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
		near := spelling.Nearest(e.Name(), slices.DeleteFunc(slices.Clone(known), func(name string) bool { return e.IsDir() && isFile(name) }))
		if len(near) > 0 && !slices.Contains(known, e.Name()) && !read(e.Name()) {
			out = append(out, fmt.Sprintf("nothing reads %s; did you mean %s?", filepath.Join(dir, e.Name()), near[0]))
		}
	}
	return out
}

// isFile reports whether a known name is that of a file.
func isFile(name string) bool {
	return slices.Contains([]string{".json", ".config"}, filepath.Ext(name))
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
