// Package modules loads kernel modules: by name with what they depend on, and by
// the modaliases that devices carry, for the devices that are there (cold plug)
// and those that come (hot plug).
//
// It reads the text files of a kernel's module directory as depmod(8) writes them:
// modules.dep, modules.alias, modules.softdep and modules.builtin, each optional
// but the first. The files are read when needed and not kept: process 1 stays
// small between two hot plugs.
package modules

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrUnknown says that a kernel has no module of a name.
var ErrUnknown = errors.New("no such module")

// Directory returns the module directory of the running kernel below root, which is
// "/" on a device: root/lib/modules/RELEASE.
func Directory(root string) (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("asking for the kernel release: %w", err)
	}
	return filepath.Join(root, "lib/modules", unix.ByteSliceToString(u.Release[:])), nil
}

// name returns a module's name from a file name or a user's spelling.
func name(s string) string {
	s = s[strings.LastIndexByte(s, '/')+1:]
	if i := strings.Index(s, ".ko"); i >= 0 {
		s = s[:i]
	}
	return strings.ReplaceAll(s, "-", "_")
}

// index is what modules.dep, modules.softdep and modules.builtin say of some
// modules and all that these need.
type index struct {
	files    map[string]string   // module to file, relative to the directory
	deps     map[string][]string // module to the files it needs
	pre      map[string][]string // soft dependencies to load before
	post     map[string][]string // and after
	builtins map[string]bool
	standIns map[string][]string // soft dependency that is an alias ("crypto_crc32c") to modules
}

// readIndex reads what loading some modules takes. cpu is the processor's
// modalias, "" when unknown.
func readIndex(dir, cpu string, names []string) (*index, error) {
	x := &index{files: map[string]string{}, deps: map[string][]string{},
		pre: map[string][]string{}, post: map[string][]string{}, builtins: map[string]bool{},
		standIns: map[string][]string{}}
	for file, line := range map[string]func([]byte){"modules.softdep": x.softdep, "modules.builtin": x.builtin} {
		if err := eachLine(filepath.Join(dir, file), line); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	if err := x.findFiles(dir, names); err != nil {
		return nil, err
	}
	aliases := x.unknown()
	if len(aliases) == 0 {
		return x, nil
	}
	if err := x.findStandIns(filepath.Join(dir, "modules.alias"), cpu, aliases); err != nil {
		return nil, err
	}
	var more []string
	for _, names := range x.standIns {
		more = append(more, names...)
	}
	return x, x.findFiles(dir, more)
}

// findFiles finds the lines of modules.dep for modules and what these need. The
// file is read once for each step of the way rather than kept: it has half a
// megabyte and some lines of it are of interest.
func (x *index) findFiles(dir string, names []string) error {
	tried := map[string]bool{}
	for len(names) > 0 {
		want := map[string]bool{}
		for _, n := range names {
			if !tried[n] && x.files[n] == "" {
				tried[n], want[n] = true, true
			}
		}
		if len(want) == 0 {
			return nil
		}
		names = nil
		err := eachLine(filepath.Join(dir, "modules.dep"), func(line []byte) {
			if n := x.dep(line, want); n != "" {
				names = append(names, x.needs(n)...)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// needs are the modules that a module needs or likes to have.
func (x *index) needs(module string) []string {
	out := slices.Concat(x.pre[module], x.post[module])
	for _, file := range x.deps[module] {
		out = append(out, name(file))
	}
	return out
}

// unknown are the soft dependencies of the modules in the index that are no
// modules: they are aliases without patterns, as ext4's "crypto_crc32c".
func (x *index) unknown() map[string]bool {
	out := map[string]bool{}
	for module := range x.files {
		for _, n := range slices.Concat(x.pre[module], x.post[module]) {
			if x.files[n] == "" {
				out[n] = true
			}
		}
	}
	return out
}

// findStandIns looks up what stands for aliases. A module that is for certain
// processors only, none of them this one, would be refused by the kernel.
func (x *index) findStandIns(path, cpu string, aliases map[string]bool) error {
	fits := map[string]bool{} // of modules for certain processors
	err := eachLine(path, func(line []byte) {
		f := bytes.Fields(line)
		if len(f) != 3 || string(f[0]) != "alias" {
			return
		}
		switch alias := string(f[1]); {
		case strings.HasPrefix(alias, "cpu:"):
			n := name(string(f[2]))
			fits[n] = fits[n] || cpu == "" || glob(f[1], cpu)
		case aliases[name(alias)]:
			x.standIns[name(alias)] = append(x.standIns[name(alias)], name(string(f[2])))
		}
	})
	for alias, modules := range x.standIns {
		x.standIns[alias] = slices.DeleteFunc(modules, func(m string) bool { fit, bound := fits[m]; return bound && !fit })
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// dep takes "kernel/fs/a.ko: kernel/lib/b.ko kernel/lib/c.ko" and returns the
// module if it is wanted.
func (x *index) dep(line []byte, want map[string]bool) string {
	file, needs, ok := bytes.Cut(line, []byte(":"))
	if !ok {
		return ""
	}
	n := file[bytes.LastIndexByte(file, '/')+1:]
	if !bytes.ContainsRune(n, '-') { // else the name has to be made first
		if base, _, _ := bytes.Cut(n, []byte(".ko")); !want[string(base)] { // does not allocate
			return ""
		}
	}
	module := name(string(n))
	if !want[module] {
		return ""
	}
	x.files[module] = string(file)
	if f := strings.Fields(string(needs)); len(f) > 0 {
		x.deps[module] = f
	}
	return module
}

// softdep takes "softdep NAME pre: a b post: c".
func (x *index) softdep(line []byte) {
	f := strings.Fields(string(line))
	if len(f) < 3 || f[0] != "softdep" {
		return
	}
	into := x.pre
	for _, w := range f[2:] {
		switch w {
		case "pre:":
			into = x.pre
		case "post:":
			into = x.post
		default:
			into[name(f[1])] = append(into[name(f[1])], name(w))
		}
	}
}

func (x *index) builtin(line []byte) { x.builtins[name(string(line))] = true }

// Known returns which of some modules a kernel has, loadable or built in. Without tables in its
// directory it has none that could be known.
func Known(dir string, modules []string) map[string]bool {
	has := map[string]bool{}
	for _, file := range []string{"modules.dep", "modules.builtin"} {
		_ = eachLine(filepath.Join(dir, file), func(line []byte) {
			path, _, _ := bytes.Cut(line, []byte(":"))
			has[name(string(path))] = true
		})
	}
	known := map[string]bool{}
	for _, m := range modules {
		known[m] = has[name(m)]
	}
	return known
}

// A step is one module to load; an optional one may fail.
type step struct {
	module, file string
	optional     bool
}

// order appends what loading a module takes, dependencies first. have holds what
// is in the list or in the kernel; it also ends circles.
func (x *index) order(list []step, module string, optional bool, have map[string]bool) ([]step, error) {
	if have[module] {
		return list, nil
	}
	have[module] = true
	file, ok := x.files[module]
	switch {
	case !ok && (x.builtins[module] || optional):
		for _, m := range x.standIns[module] {
			list, _ = x.order(list, m, true, have)
		}
		return list, nil
	case !ok:
		delete(have, module) // the directory may get it later
		return list, fmt.Errorf("loading module %s: %w", module, ErrUnknown)
	}
	var err error
	for _, p := range x.pre[module] {
		list, _ = x.order(list, p, true, have)
	}
	// depmod lists first what is to be loaded last.
	for _, d := range slices.Backward(x.deps[module]) {
		if list, err = x.order(list, name(d), optional, have); err != nil {
			return list, fmt.Errorf("loading what %s depends on: %w", module, err)
		}
	}
	list = append(list, step{module, file, optional})
	for _, p := range x.post[module] {
		list, _ = x.order(list, p, true, have)
	}
	return list, nil
}

// maxLine bounds a line of the files of a module directory, in bytes.
const maxLine = 1 << 20

// eachLine calls fn for every line that is neither empty nor a comment; the line
// is fn's only until it returns.
func eachLine(path string, fn func([]byte)) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("reading the module tables: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(make([]byte, 0, 32<<10), maxLine)
	for lines.Scan() {
		if l := bytes.TrimSpace(lines.Bytes()); len(l) > 0 && l[0] != '#' {
			fn(l)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("reading the module tables: %s: %w", path, err)
	}
	return nil
}
