package container

import (
	"slices"
	"strings"
)

// Directory maps a directory that configurations name by a fixed path to its location.
type Directory struct {
	Name string // "/volumes"
	Path string
}

// Translate replaces the fixed paths in the configuration by the directories' locations:
// a runtime with its volumes elsewhere can run the same configurations.
func (c *Config) Translate(directories []Directory) {
	for i, l := range c.Root.Lowers {
		c.Root.Lowers[i] = translate(l, directories)
	}
	c.Root.Upper = translate(c.Root.Upper, directories)
	c.Root.Work = translate(c.Root.Work, directories)
	c.Root.Dir = translate(c.Root.Dir, directories)
	c.Seccomp = translate(c.Seccomp, directories)
	c.Hooks = slices.Clone(c.Hooks)
	for i := range c.Hooks {
		if c.Hooks[i].Event != "start" { // a program of the container's own
			c.Hooks[i].Command = translate(c.Hooks[i].Command, directories)
		}
	}
	c.Mounts = slices.Clone(c.Mounts)
	for i := range c.Mounts {
		m := &c.Mounts[i]
		if !m.Relative {
			m.Source = translate(m.Source, directories)
		}
		m.Data = translateData(m.Data, directories)
	}
}

// translateData translates the directories in an overlay's options.
func translateData(data string, directories []Directory) string {
	opts := strings.Split(data, ",")
	for i, o := range opts {
		name, value, _ := strings.Cut(o, "=")
		switch name {
		case "lowerdir", "upperdir", "workdir":
			paths := strings.Split(value, ":")
			for j := range paths {
				paths[j] = translate(paths[j], directories)
			}
			opts[i] = name + "=" + strings.Join(paths, ":")
		}
	}
	return strings.Join(opts, ",")
}

func translate(p string, directories []Directory) string {
	for _, f := range directories {
		if rest, ok := strings.CutPrefix(p, f.Name); ok && f.Name != f.Path && (rest == "" || rest[0] == '/') {
			return f.Path + rest
		}
	}
	return p
}
