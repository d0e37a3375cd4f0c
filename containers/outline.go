package containers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// outline is what is known of a root file system: all of it once it has been put together,
// before that what the definition and its directory files/ say.
type outline struct {
	entries map[string]outlined
	// open are paths that end in '/' and below which packages may bring further files.
	open []string
}

// outlined is an entry of an outline.
type outlined struct {
	mode fs.FileMode // of a file from a package only the type is known: regular, 0
	link string
	// at is the field that names it, for messages.
	at string
	// packaged is set for a path of a package, which may be of any type.
	packaged bool
}

var (
	errAbsent  = errors.New("is not in the root")
	errCycle   = errors.New("leads around in circles of links")
	errUnknown = errors.New("comes from a package")
)

// maxLinks bounds the links that are followed to a file, as the kernel does.
const maxLinks = 40

// find returns the entry that a path leads to, through links. The error is errAbsent,
// errCycle, or errUnknown for what only the packages' content decides.
func (o outline) find(name string) (outlined, error) {
	pending := strings.Split(path.Clean("/" + name)[1:], "/")
	at, links := "", 0
	for len(pending) > 0 {
		part := pending[0]
		pending = pending[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = path.Dir("/" + at)[1:]
			continue
		}
		next := path.Join(at, part)
		e, ok := o.entries[next]
		switch {
		case !ok && links > 0 && errors.Is(o.missing(next), errAbsent):
			return e, fmt.Errorf("leads to %s, which %w", next, errAbsent)
		case !ok:
			return e, o.missing(next)
		case e.packaged && (e.link == "" && len(pending) > 0):
			return e, errUnknown
		case e.link == "":
			at = next
			continue
		}
		if links++; links > maxLinks {
			return e, errCycle
		}
		if strings.HasPrefix(e.link, "/") {
			at = ""
		}
		pending = append(strings.Split(e.link, "/"), pending...)
	}
	if at == "" {
		return outlined{mode: fs.ModeDir}, nil
	}
	if e := o.entries[at]; !e.packaged {
		return e, nil
	}
	return outlined{}, errUnknown
}

func (o outline) missing(name string) error {
	if slices.ContainsFunc(o.open, func(dir string) bool { return strings.HasPrefix(name+"/", dir) || strings.HasPrefix(dir, name+"/") }) {
		return errUnknown
	}
	return errAbsent
}

// runs reports what keeps the command line from being started, errUnknown for what only
// packages decide.
func (o outline) runs(command, environ []string, dir string) error {
	name := command[0]
	if strings.Contains(name, "/") {
		return o.executable(path.Join("/", dir, name), name)
	}
	list := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, e := range environ {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			list = v
		}
	}
	unknown, dangling := false, error(nil)
	for _, dir := range filepath.SplitList(list) {
		switch err := o.executable(path.Join("/", dir, name), name); {
		case err == nil:
			return nil
		case errors.Is(err, errUnknown):
			unknown = true
		case errors.Is(err, errAbsent) && o.has(path.Join(dir, name)):
			dangling = err
		}
	}
	if unknown {
		return errUnknown
	}
	if dangling != nil {
		return dangling
	}
	return fmt.Errorf("%q is not an executable file in any directory of PATH=%s", name, list)
}

// has reports whether there is an entry at a path itself, wherever it leads.
func (o outline) has(file string) bool {
	_, ok := o.entries[strings.TrimPrefix(file, "/")]
	return ok
}

func (o outline) executable(file, shown string) error {
	if path.IsAbs(shown) {
		file = shown
	}
	switch e, err := o.find(file); {
	case err != nil:
		return fmt.Errorf("%q %w", shown, err)
	case e.mode.IsDir():
		return fmt.Errorf("%q is a directory", shown)
	case e.mode.Perm()&0o111 == 0:
		return fmt.Errorf("%q is not executable: chmod +x it in files/", shown)
	}
	return nil
}

// outlineOf returns the outline of a finished root.
func outlineOf(r rootfs) outline {
	o := outline{entries: map[string]outlined{}}
	for name, e := range r {
		o.entries[name] = outlined{mode: e.Mode, link: e.Link}
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if _, there := r[dir]; !there {
				o.entries[dir] = outlined{mode: fs.ModeDir}
			}
		}
	}
	return o
}

// outline returns what the definition and the directory files/ say of the root; mistakes in
// how they fit together are reported.
func (c checker) outline(d *Definition, dir string) outline {
	o := outline{entries: map[string]outlined{}}
	for i, p := range d.Root.Programs {
		c.put(o, p.Path, outlined{mode: 0o755, at: fmt.Sprintf("root.programs[%d].path", i)})
	}
	for i, p := range d.Root.Debian {
		for j, name := range p.Files {
			at := fmt.Sprintf("root.debian[%d].files[%d]", i, j)
			if strings.HasSuffix(name, "/") {
				o.open = append(o.open, name)
				continue
			}
			c.put(o, name, outlined{packaged: true, at: at})
		}
		if p.whole() {
			o.open = append(o.open, "")
		}
	}
	for i, l := range d.Root.Links {
		for j, name := range l.At {
			c.put(o, name, outlined{mode: fs.ModeSymlink, link: l.Target, at: fmt.Sprintf("root.links[%d].at[%d]", i, j)})
		}
	}
	c.files(o, filepath.Join(dir, "files"))
	for i, name := range d.Root.Executables {
		at := fmt.Sprintf("root.executables[%d]", i)
		e, err := o.find(name)
		switch {
		case errors.Is(err, errUnknown):
		case err != nil:
			c.Wrong(at, "%s %v", name, err)
		case !e.mode.IsRegular():
			c.Wrong(at, "%s is not a regular file", name)
		default:
			e.mode |= 0o111
			o.entries[name] = e
		}
	}
	for i, name := range d.Root.Folders {
		c.put(o, name, outlined{mode: fs.ModeDir, at: fmt.Sprintf("root.folders[%d]", i)})
	}
	return o
}

// files adds the directory files/, if it exists.
func (c checker) files(o outline, dir string) {
	if _, err := os.Stat(dir); err != nil {
		return
	}
	err := filepath.WalkDir(dir, func(file string, e fs.DirEntry, err error) error {
		if err != nil || file == dir {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		entry := outlined{mode: info.Mode(), at: "files/"}
		if info.Mode().Type() == fs.ModeSymlink {
			if entry.link, err = os.Readlink(file); err != nil {
				return err
			}
		}
		rel, err := filepath.Rel(dir, file)
		c.put(o, filepath.ToSlash(rel), entry)
		return err
	})
	if err != nil {
		c.Wrong("", "files/: %v", err)
	}
}

// put adds an entry; a path that something else has already and a path below a file are
// reported.
func (c checker) put(o outline, name string, e outlined) {
	where := e.at
	if where == "files/" {
		where = "" // it has no line
	}
	if old, twice := o.entries[name]; twice && !(old.mode.IsDir() && e.mode.IsDir()) {
		c.Wrong(where, "%s comes from two sources, this and %s%s", name, c.at, origin(old))
		return
	}
	for dir := path.Dir(name); dir != "." && dir != "/"; dir = path.Dir(dir) {
		switch above, there := o.entries[dir]; {
		case !there:
			o.entries[dir] = outlined{mode: fs.ModeDir, at: e.at}
		case !above.mode.IsDir() && !above.packaged:
			c.Wrong(where, "%s cannot be made: %s is %s, not a directory", name, dir, kindOf(above))
			return
		}
	}
	o.entries[name] = e
}

func origin(e outlined) string {
	if e.mode.IsDir() {
		return e.at + " as a directory"
	}
	return e.at
}

func kindOf(e outlined) string {
	if e.link != "" {
		return "a link to " + e.link + " (" + e.at + ")"
	}
	return "a file (" + e.at + ")"
}

// fits checks the root as a whole: cycles of links, and whether the command can be
// started.
func (c checker) fits(d *Definition, o outline) {
	for i, l := range d.Root.Links {
		for j, name := range l.At {
			if _, err := o.find(name); errors.Is(err, errCycle) {
				c.Wrong(fmt.Sprintf("root.links[%d].at[%d]", i, j), "%s %v", name, err)
			}
		}
	}
	o.keep(d.Persistence)
	o.provided()
	field, command := "entrypoint", slices.Concat(d.Entrypoint, d.Command)
	if len(d.Entrypoint) == 0 {
		field = "command"
	}
	if len(command) == 0 {
		return
	}
	if err := o.runs(command, d.Env, d.WorkingDir); err != nil && !errors.Is(err, errUnknown) {
		c.Wrong(field, "%v", err)
	}
}

// keep notes the directories that a device keeps: it may have files there that the image
// has not.
func (o *outline) keep(persistence map[string]string) {
	for p := range persistence {
		o.open = append(o.open, strings.TrimPrefix(path.Clean(p), "/")+"/")
	}
}

// provided adds the directories that every root has.
func (o outline) provided() {
	for _, dir := range structure {
		if _, there := o.entries[dir]; !there {
			o.entries[dir] = outlined{mode: fs.ModeDir}
		}
	}
}
