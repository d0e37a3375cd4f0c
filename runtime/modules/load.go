package modules

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Loader loads modules from one directory. It is safe for use by several
// goroutines; loading itself goes one module after the other.
type Loader struct {
	Settings
	// Idle, if not nil, is told about drivers that were loaded for a device and
	// found nothing that they can drive. That is normal: a modalias says what may
	// be there, the driver looks. Such are not errors of LoadFor and ColdPlug.
	Idle func(error)

	mu     sync.Mutex
	remove func(module string) error
	dir    string
	sys    string          // where sysfs is mounted
	loaded map[string]bool // in the kernel, or refused by it for good
	asked  map[string]bool // modaliases that modules were looked for already
	insert func(path, options string) error
}

// NewLoader returns a loader of the modules in dir; see [Directory].
func NewLoader(dir string) *Loader {
	return &Loader{dir: dir, sys: "/sys", loaded: inKernel("/sys"), asked: map[string]bool{}, insert: insert, remove: remove}
}

// Moved tells the loader that the directory's content was replaced by a larger tree
// of the same kernel: what was unknown before is asked for again.
func (l *Loader) Moved() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loaded = inKernel(l.sys)
	clear(l.asked)
}

// inKernel lists the modules that the kernel has, built in with parameters or loaded.
func inKernel(sys string) map[string]bool {
	have := map[string]bool{}
	entries, _ := os.ReadDir(filepath.Join(sys, "module")) // nothing listed, nothing saved
	for _, e := range entries {
		have[e.Name()] = true
	}
	return have
}

// Load loads modules by name, each after what it depends on. A module that the
// kernel has already is not an error. All names are tried; the error collects those
// that did not work and wraps ErrUnknown for a module that the directory lacks.
func (l *Loader) Load(names ...string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, errs := l.load(names)
	return errors.Join(errs...)
}

// LoadWith loads a module with parameters, which come after those of l.Options. A
// module that could not be loaded is tried again the next time.
func (l *Loader) LoadWith(module, options string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := name(module)
	before, given := l.Options[n]
	if options != "" {
		if l.Options == nil {
			l.Options = map[string]string{}
		}
		l.Options[n] = strings.TrimSpace(before + " " + options)
		defer func() {
			if l.Options[n] = before; !given {
				delete(l.Options, n)
			}
		}()
	}
	_, errs := l.load([]string{n})
	if len(errs) > 0 {
		delete(l.loaded, n)
	}
	return errors.Join(errs...)
}

// Remove removes a module from the kernel. It is not an error if the module is
// not loaded; it is one if the module is built in or in use.
func (l *Loader) Remove(module string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := name(module)
	if !l.loaded[n] {
		return nil
	}
	if err := l.remove(n); err != nil {
		return fmt.Errorf("removing module %s: %w", n, err)
	}
	delete(l.loaded, n)
	return nil
}

// remove is delete_module(2); it does not wait for users to go.
func remove(module string) error { return unix.DeleteModule(module, unix.O_NONBLOCK) }

// cpu is the processor's modalias, "" where processors have none.
func (l *Loader) cpu() string {
	return readAttribute(filepath.Join(l.sys, "devices/system/cpu/modalias"))
}

// LoadFor loads the modules that claim one of the modaliases and returns how many
// were new to the kernel. A modalias is looked up once.
func (l *Loader) LoadFor(modaliases ...string) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	names, err := l.claimed(modaliases)
	if err != nil {
		return 0, err
	}
	n, errs := l.load(names)
	return n, l.sift(errs)
}

// idle are the kernel's answers when a driver finds nothing to drive.
var idle = []error{unix.ENODEV, unix.ENXIO, unix.EOPNOTSUPP}

// sift takes the idle drivers out of what went wrong.
func (l *Loader) sift(errs []error) error {
	return errors.Join(slices.DeleteFunc(errs, func(err error) bool {
		normal := slices.ContainsFunc(idle, func(e error) bool { return errors.Is(err, e) })
		if normal && l.Idle != nil {
			l.Idle(err)
		}
		return normal
	})...)
}

// claimed are the modules that claim one of the modaliases not looked up before, without those
// of the blacklist.
func (l *Loader) claimed(modaliases []string) ([]string, error) {
	fresh := slices.DeleteFunc(slices.Clone(modaliases), func(m string) bool { return l.asked[m] })
	if len(fresh) == 0 {
		return nil, nil
	}
	for _, m := range fresh {
		l.asked[m] = true
	}
	names, err := match(l.dir, fresh)
	return slices.DeleteFunc(names, func(n string) bool { return l.Blacklist[n] }), err
}

// load loads modules and returns how many were new to the kernel, and an error for
// each that was not to be loaded.
func (l *Loader) load(names []string) (count int, errs []error) {
	var missing []string
	for _, n := range names {
		if n = name(n); !l.loaded[n] {
			missing = append(missing, n)
		}
	}
	if len(missing) == 0 {
		return 0, nil
	}
	x, err := readIndex(l.dir, l.cpu(), missing)
	if err != nil {
		return 0, []error{err}
	}
	for _, n := range missing {
		steps, err := x.order(nil, n, false, l.loaded)
		if err == nil {
			var done int
			done, err = l.run(steps)
			count += done
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return count, errs
}

// run loads in order. A failed module stays marked, so that it is tried once.
func (l *Loader) run(steps []step) (done int, err error) {
	for _, s := range steps {
		err := l.insert(filepath.Join(l.dir, s.file), l.Options[s.module])
		switch {
		case err == nil:
			done++
		case errors.Is(err, unix.EEXIST) || s.optional:
		default:
			return done, fmt.Errorf("loading module %s: %w", s.module, err)
		}
	}
	return done, nil
}

// insert hands a module file to the kernel, which unpacks .xz, .zst and .gz itself
// where it was built to (finit_module(2), MODULE_INIT_COMPRESSED_FILE).
func insert(path, options string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	flags := 0
	if !strings.HasSuffix(path, ".ko") {
		flags = unix.MODULE_INIT_COMPRESSED_FILE
	}
	return unix.FinitModule(int(f.Fd()), options, flags)
}

// Filesystem reports whether the kernel knows a file system.
func Filesystem(typ string) bool {
	b, err := os.ReadFile("/proc/filesystems")
	return err == nil && bytes.Contains(b, []byte("\t"+typ+"\n"))
}
