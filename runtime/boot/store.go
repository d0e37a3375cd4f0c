package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/pantavisor/pantavisor/revision/trail"
)

// Store is a boot loader's store. Its methods return when the change is on the
// medium, where the boot loader finds it without replaying a journal. After a power cut in one
// of them the store has the old values or the new ones, and the next boot is of a revision that it
// names; package spec says so in detail.
type Store interface {
	// Load reads the values. A store that does not exist is empty.
	Load() (Values, error)
	// SetTry makes the next boot a test of rev. The test is one boot, on every loader: whatever
	// ends it, each boot after it is one of the last good revision, until SetTry is called
	// again. For the last good revision, which needs no test, it is ClearTry.
	SetTry(rev string) error
	// Commit makes rev the last good revision and ends a test, in one step.
	Commit(rev string) error
	// ClearTry ends a test without committing.
	ClearTry() error
}

// Open returns the store of a boot loader (PV_BOOTLOADER_TYPE: grub, uboot, uboot-ab, uboot-pvk,
// extlinux, rpiab or efiab) on the storage mounted at dir.
func Open(loader, dir string) (Store, error) {
	switch loader {
	case "grub":
		return &file{path: filepath.Join(dir, "boot/grubenv"), form: grubEnv{}}, nil
	case ubootLoader, pvkLoader:
		return newUBoot(dir), nil
	case "extlinux":
		return &file{path: filepath.Join(dir, trail.ExtlinuxFile), form: extlinux{dir}}, nil
	case "rpiab", "efiab":
		return OpenOn(loader, dir, thisMachine(dir))
	case ubootABLoader:
		return newUBootAB(dir, defaultFlash), nil
	}
	return nil, fmt.Errorf("boot loader %q: not supported, PV_BOOTLOADER_TYPE is one of grub, uboot, uboot-ab, uboot-pvk, extlinux, rpiab, efiab", loader)
}

// Slot returns the member of bsp/run.json with the image of a boot partition that a loader needs;
// "" for a loader that needs none.
func Slot(loader string) string {
	if loader == "rpiab" || loader == "efiab" {
		return loader
	}
	return ""
}

// Detect returns the boot loader whose store is on the storage mounted at dir, as [Open]
// takes it; "" when there is none.
func Detect(dir string) string {
	for _, loader := range []string{"grub", "uboot", "extlinux"} {
		s, err := Open(loader, dir)
		if err != nil {
			continue
		}
		if _, err := os.Stat(s.(*file).path); err == nil {
			return loader
		}
	}
	return ""
}

// Keys of every store. keyTrial is a number that tells one test from the next: the loader's mark
// of an older test of the same revision is not that of this one.
const (
	keyRev   = "pv_rev"
	keyTry   = "pv_try"
	keyTrial = "pv_trial"
)

// A pair is one entry of a store.
type pair struct{ key, value string }

// A form is the way in which a file holds its pairs.
type form interface {
	decode(b []byte) ([]pair, error)
	encode(pairs []pair) ([]byte, error)
}

// maxStore is the size limit in bytes: U-Boot's file may be 64 KiB of mostly zeros.
const maxStore = 128 << 10

// file is a store in a file on the storage.
type file struct {
	path  string
	form  form
	write func(path string, data []byte) error // nil: writeFile
}

var _ Store = (*file)(nil)

func (f *file) Load() (Values, error) {
	pairs, err := f.read()
	return Values{Rev: get(pairs, keyRev), Try: get(pairs, keyTry)}, err
}

func (f *file) SetTry(rev string) error {
	if err := Validate(rev); err != nil {
		return fmt.Errorf("setting the revision to try: %w", err)
	}
	v, err := f.Load()
	if err == nil && v.Rev == rev {
		return f.ClearTry()
	}
	return f.change(func(p []pair) []pair {
		return set(set(set(p, keyTry, rev), keyTrying, ""), keyTrial, nextTrial(get(p, keyTrial)))
	})
}

// maxTrial keeps the number of a test short; it is enough that it differs from the last ones.
const maxTrial = 999_999

// nextTrial returns the number of the next test.
func nextTrial(last string) string {
	n, err := strconv.Atoi(last)
	if err != nil || n < 0 || n >= maxTrial {
		n = 0
	}
	return strconv.Itoa(n + 1)
}

func (f *file) Commit(rev string) error {
	if err := Validate(rev); err != nil {
		return fmt.Errorf("committing a revision: %w", err)
	}
	return f.change(func(p []pair) []pair { return set(endTest(p), keyRev, rev) })
}

func (f *file) ClearTry() error { return f.change(endTest) }

// endTest removes the test and, where the loader keeps its mark in the store, the mark.
func endTest(p []pair) []pair { return set(set(p, keyTry, ""), keyTrying, "") }

func (f *file) read() ([]pair, error) {
	info, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the boot loader's store: %w", err)
	}
	if info.Size() > maxStore {
		return nil, fmt.Errorf("reading the boot loader's store %s: %d bytes are more than can be right: %w", f.path, info.Size(), errDamaged)
	}
	b, err := os.ReadFile(f.path)
	if err != nil {
		return nil, fmt.Errorf("reading the boot loader's store: %w", err)
	}
	pairs, err := f.form.decode(b)
	if err != nil {
		return nil, fmt.Errorf("reading the boot loader's store %s: %w: %w", f.path, errDamaged, err)
	}
	return pairs, nil
}

// errDamaged means that a store was read and cannot be decoded.
var errDamaged = errors.New("its content is damaged")

// change rewrites the file. A store that cannot be decoded is replaced by a new one: its
// content is lost anyway, and without a store no revision can be committed. One that cannot
// be read is not: the last good revision may still be in it.
func (f *file) change(edit func([]pair) []pair) error {
	pairs, err := f.read()
	if err != nil && !errors.Is(err, errDamaged) {
		return err
	}
	b, err := f.form.encode(edit(pairs))
	if err != nil {
		return fmt.Errorf("writing the boot loader's store %s: %w", f.path, err)
	}
	write := f.write
	if write == nil {
		write = writeFile
	}
	if err := write(f.path, b); err != nil {
		return fmt.Errorf("writing the boot loader's store: %w", err)
	}
	return nil
}

func get(pairs []pair, key string) string {
	for _, p := range pairs {
		if p.key == key {
			return p.value
		}
	}
	return ""
}

// set replaces a key's value in place; an empty value removes the key.
func set(pairs []pair, key, value string) []pair {
	out := make([]pair, 0, len(pairs)+1)
	done := false
	for _, p := range pairs {
		if p.key != key {
			out = append(out, p)
			continue
		}
		if value != "" && !done {
			out = append(out, pair{key, value})
		}
		done = true
	}
	if value != "" && !done {
		out = append(out, pair{key, value})
	}
	return out
}
