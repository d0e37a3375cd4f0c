package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
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
	case "rpiab":
		return newRPiAB(dir), nil
	case "efiab":
		return newEFIAB(dir), nil
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

// writeFile replaces a file that a boot loader reads. Loaders read ext4 without its journal, and
// the kernel brings what is in the journal to its place in any order. So a name only ever changes
// from one complete file to another: the new file is in its place before it gets the name, and the
// old one is removed after that. With a rename alone, a power cut could leave the name to a
// file that is removed already.
func writeFile(path string, data []byte) error { return replace(path, data, checkpoint) }

func replace(path string, data []byte, checkpoint func(dir string) error) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := atomicfile.Create(path, 0o644)
	if err != nil {
		return err
	}
	defer f.Abort() // removes what has the temporary name
	if _, err := f.Write(data); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("syncing %s: %w", path, err)
	}
	if err := checkpoint(dir); err != nil {
		return err
	}
	err = unix.Renameat2(unix.AT_FDCWD, f.Name(), unix.AT_FDCWD, path, unix.RENAME_EXCHANGE)
	if err != nil { // there is none yet, or the file system cannot
		err = f.Commit()
	} else {
		err = atomicfile.SyncDir(dir)
	}
	if err != nil {
		return err
	}
	return checkpoint(dir)
}

// Requests of linux/fs.h, _IOWR('X', 119 and 120, int), the same on every architecture.
const (
	fiFreeze = 0xC0045877
	fiThaw   = 0xC0045878
)

// checkpoint writes the journal's content to its final location: boot loaders read ext4
// without its journal and would see the old file. Kernels before 5.14 lack the request;
// freezing and thawing has the same effect.
func checkpoint(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("writing the journal out: %w", err)
	}
	defer d.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(d.Fd()), &st); err != nil {
		return fmt.Errorf("writing the journal out: %w", err)
	}
	if int64(st.Type) != unix.EXT4_SUPER_MAGIC { //nolint:unconvert // 32 bits wide on some architectures
		return nil
	}
	if err := unix.IoctlSetPointerInt(int(d.Fd()), ext4Checkpoint, 0); err == nil || errors.Is(err, unix.ENODEV) {
		return nil // it is done, or there is no journal
	}
	if err := freeze(int(d.Fd())); err != nil {
		return notAllowed(err)
	}
	if err := unix.IoctlSetInt(int(d.Fd()), fiThaw, 0); err != nil {
		return fmt.Errorf("thawing the storage: %w", err)
	}
	return nil
}

// freeze waits while another process has the file system frozen.
func freeze(fd int) error {
	const attempts, pause = 100, 20 * time.Millisecond
	for n := 1; ; n++ {
		err := unix.IoctlSetInt(fd, fiFreeze, 0)
		if !errors.Is(err, unix.EBUSY) || n == attempts {
			return err
		}
		time.Sleep(pause)
	}
}

// notAllowed lets an unprivileged process go on: only process 1 and the engine
// need the checkpoint, and they may. An emulator of single programs knows no such request.
func notAllowed(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return fmt.Errorf("writing the journal out: %w", err)
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
