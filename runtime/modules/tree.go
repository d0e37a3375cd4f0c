// Package modules loads kernel modules: by name with what they depend on, and by
// the modaliases that devices carry, for the devices that are there (cold plug)
// and those that come (hot plug).
//
// It reads the text files of a kernel's module folder as depmod(8) writes them:
// modules.dep, modules.alias, modules.softdep and modules.builtin, each optional
// but the first. The files are read when needed and not kept: process 1 stays
// small between two hot plugs.
package modules

import (
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

// Folder returns the module folder of the running kernel below root, which is
// "/" on a device: root/lib/modules/RELEASE.
func Folder(root string) (string, error) {
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

// index is what modules.dep, modules.softdep and modules.builtin say.
type index struct {
	files    map[string]string   // module to file, relative to the folder
	deps     map[string][]string // module to the files it needs
	pre      map[string][]string // soft dependencies to load before
	post     map[string][]string // and after
	builtins map[string]bool
	standIns map[string][]string // soft dependency that is an alias ("crypto_crc32c") to modules
}

func readIndex(dir string) (*index, error) {
	x := &index{files: map[string]string{}, deps: map[string][]string{},
		pre: map[string][]string{}, post: map[string][]string{}, builtins: map[string]bool{},
		standIns: map[string][]string{}}
	if err := eachLine(filepath.Join(dir, "modules.dep"), x.dep); err != nil {
		return nil, err
	}
	for file, line := range map[string]func(string){"modules.softdep": x.softdep, "modules.builtin": x.builtin} {
		if err := eachLine(filepath.Join(dir, file), line); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return x, x.findStandIns(filepath.Join(dir, "modules.alias"))
}

// findStandIns looks up the soft dependencies that are no modules: they are
// aliases without patterns, as ext4's "crypto_crc32c".
func (x *index) findStandIns(path string) error {
	wanted := map[string]bool{}
	for _, list := range []map[string][]string{x.pre, x.post} {
		for _, names := range list {
			for _, n := range names {
				wanted[n] = x.files[n] == ""
			}
		}
	}
	err := eachLine(path, func(line string) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "alias" && wanted[name(f[1])] {
			x.standIns[name(f[1])] = append(x.standIns[name(f[1])], name(f[2]))
		}
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// dep takes "kernel/fs/a.ko: kernel/lib/b.ko kernel/lib/c.ko".
func (x *index) dep(line string) {
	file, needs, ok := strings.Cut(line, ":")
	if !ok {
		return
	}
	n := name(file)
	x.files[n] = file
	if needs = strings.TrimSpace(needs); needs != "" {
		x.deps[n] = strings.Fields(needs)
	}
}

// softdep takes "softdep NAME pre: a b post: c".
func (x *index) softdep(line string) {
	f := strings.Fields(line)
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

func (x *index) builtin(line string) { x.builtins[name(line)] = true }

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
		delete(have, module) // the folder may get it later
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

// maxTable bounds the files of a module folder; Debian's largest, modules.alias,
// has 1.4 MB.
const maxTable = 32 << 20

// readTable reads one text file of a module folder.
func readTable(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("reading the module tables: %w", err)
	}
	if info.Size() > maxTable {
		return nil, fmt.Errorf("reading the module tables: %s has %d bytes, more than can be right", path, info.Size())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the module tables: %w", err)
	}
	return b, nil
}

// eachLine calls fn for every line that is neither empty nor a comment.
func eachLine(path string, fn func(string)) error {
	b, err := readTable(path)
	if err != nil {
		return err
	}
	for line := range bytes.Lines(b) {
		if l := string(bytes.TrimSpace(line)); l != "" && l[0] != '#' {
			fn(l)
		}
	}
	return nil
}
