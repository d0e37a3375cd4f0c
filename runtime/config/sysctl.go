package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// sysctl is a kernel setting as it was written: PV_SYSCTL_A_B or sysctl.a.b.
type sysctl struct {
	name  string
	value string
	from  Level
}

// Sysctl is a kernel setting whose file is known.
type Sysctl struct {
	Path  string // below /proc/sys, for example "kernel/core_pattern"
	Value string
	From  Level
}

const (
	newSysctl = "PV_SYSCTL_"
	oldSysctl = "sysctl."

	maxSysctls = 512
)

var sysctlLevels = boot | oem

// setSysctl takes the keys of kernel settings; it reports whether name is one.
func (c *Config) setSysctl(l Level, name, raw string) bool {
	isNew := isNewSysctl(name)
	if !isNew && !strings.HasPrefix(name, oldSysctl) {
		return false
	}
	if isNew {
		name = strings.ToUpper(name)
	}
	switch {
	case !sysctlLevels.has(l):
		c.note(l, "%s may not be set here", name)
	case !validSysctl(name):
		c.note(l, "%s: not the name of a kernel setting", name)
	default:
		c.storeSysctl(sysctl{name, raw, l})
	}
	return true
}

func isNewSysctl(name string) bool {
	return len(name) > len(newSysctl) && strings.EqualFold(name[:len(newSysctl)], newSysctl)
}

// validSysctl refuses names whose path could leave /proc/sys.
func validSysctl(name string) bool {
	return !strings.ContainsAny(name, "/\x00") && !strings.Contains(name, "..") && !strings.HasSuffix(name, ".")
}

func (c *Config) storeSysctl(s sysctl) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, old := range c.sysctls {
		if old.name == s.name && old.from == s.from {
			c.sysctls[i] = s
			return
		}
	}
	if len(c.sysctls) < maxSysctls {
		c.sysctls = append(c.sysctls, s)
	}
}

// Sysctls resolves the kernel settings against the directory root (/proc/sys); of
// several for one file the highest level wins. What has no file becomes a note.
func (c *Config) Sysctls(root string) []Sysctl {
	c.mu.RLock()
	all := append([]sysctl(nil), c.sysctls...)
	c.mu.RUnlock()
	sort.SliceStable(all, func(i, j int) bool { return all[i].from < all[j].from })
	byPath := map[string]Sysctl{}
	for _, s := range all {
		path, ok := s.resolve(root)
		if !ok {
			c.note(s.from, "%s: this kernel has no such setting", s.name)
			continue
		}
		byPath[path] = Sysctl{path, s.value, s.from}
	}
	out := make([]Sysctl, 0, len(byPath))
	for _, s := range byPath {
		out = append(out, s)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Path < out[j].Path })
	return out
}

func (s sysctl) resolve(root string) (string, bool) {
	if old, ok := strings.CutPrefix(s.name, oldSysctl); ok {
		path := strings.ReplaceAll(old, ".", "/")
		return path, isFile(filepath.Join(root, path))
	}
	words := strings.Split(strings.ToLower(s.name[len(newSysctl):]), "_")
	return findSetting(root, "", words)
}

// findSetting joins words with '_' or '/' into the path of a file: an underscore
// of the key may be either. Only directories that exist are entered.
func findSetting(root, dir string, words []string) (string, bool) {
	if path := filepath.Join(dir, strings.Join(words, "_")); isFile(filepath.Join(root, path)) {
		return path, true
	}
	for n := 1; n < len(words); n++ {
		sub := filepath.Join(dir, strings.Join(words[:n], "_"))
		if sub == dir || !isDir(filepath.Join(root, sub)) {
			continue
		}
		if path, ok := findSetting(root, sub, words[n:]); ok {
			return path, true
		}
	}
	return "", false
}

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// ApplySysctls writes the kernel settings below root (/proc/sys). One that the
// kernel refuses becomes a note; the others are still written.
func (c *Config) ApplySysctls(root string) {
	for _, s := range c.Sysctls(root) {
		if program, ok := s.helper(); ok && !isFile(program) {
			if s.From != Default {
				c.note(s.From, "setting %s to %q: the program does not exist", s.Path, s.Value)
			}
			continue
		}
		if err := writeSetting(filepath.Join(root, s.Path), s.Value); err != nil {
			c.note(s.From, "setting %s to %q: %v", s.Path, s.Value, err)
		}
	}
}

// helper returns the program that the kernel is to run with crashed processes' memory.
func (s Sysctl) helper() (program string, ok bool) {
	line, ok := strings.CutPrefix(s.Value, "|")
	program, _, _ = strings.Cut(line, " ")
	return program, ok && s.Path == "kernel/core_pattern"
}

// writeSetting writes in one call: the kernel takes the value from the first.
func writeSetting(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("opening: %w", err)
	}
	_, err = f.WriteString(value)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	return nil
}
