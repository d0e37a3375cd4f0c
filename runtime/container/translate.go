package container

import (
	"slices"
	"strings"
)

// Folder is a folder that configurations name by a fixed path, and where it is.
type Folder struct {
	Name string // "/volumes"
	Path string
}

// Translate replaces the fixed paths that exports rely on by where these folders
// are: a runtime whose volumes are elsewhere runs the same exports.
func (c *Config) Translate(folders []Folder) {
	for i, l := range c.Root.Lowers {
		c.Root.Lowers[i] = translate(l, folders)
	}
	c.Root.Upper = translate(c.Root.Upper, folders)
	c.Root.Work = translate(c.Root.Work, folders)
	c.Root.Dir = translate(c.Root.Dir, folders)
	c.Seccomp = translate(c.Seccomp, folders)
	c.Hooks = slices.Clone(c.Hooks)
	for i := range c.Hooks {
		if c.Hooks[i].Event != "start" { // a program of the container's own
			c.Hooks[i].Command = translate(c.Hooks[i].Command, folders)
		}
	}
	c.Mounts = slices.Clone(c.Mounts)
	for i := range c.Mounts {
		m := &c.Mounts[i]
		if !m.Relative {
			m.Source = translate(m.Source, folders)
		}
		m.Data = translateData(m.Data, folders)
	}
}

// translateData treats the folders in an overlay's options.
func translateData(data string, folders []Folder) string {
	opts := strings.Split(data, ",")
	for i, o := range opts {
		name, value, _ := strings.Cut(o, "=")
		switch name {
		case "lowerdir", "upperdir", "workdir":
			paths := strings.Split(value, ":")
			for j := range paths {
				paths[j] = translate(paths[j], folders)
			}
			opts[i] = name + "=" + strings.Join(paths, ":")
		}
	}
	return strings.Join(opts, ",")
}

func translate(p string, folders []Folder) string {
	for _, f := range folders {
		if rest, ok := strings.CutPrefix(p, f.Name); ok && f.Name != f.Path && (rest == "" || rest[0] == '/') {
			return f.Path + rest
		}
	}
	return p
}
