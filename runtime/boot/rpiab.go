package boot

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/formats/autoboot"
	"github.com/pantavisor/pantavisor/formats/fatfile"
)

// selector is the number of the partition with autoboot.txt.
const selector = 1

// firstTryboot is the date of the first EEPROM loader that follows autoboot.txt.
var firstTryboot = time.Date(2022, 11, 25, 0, 0, 0, 0, time.UTC)

// rpiab is the store of a Raspberry Pi with two boot partitions. The firmware boots from the
// default one of autoboot.txt, or once from the other one when it was asked for that before the
// restart (tryboot). boot/rpiab.txt on the storage holds pv_rev and pv_try.
//
// A test needs no mark of the loader's: it ends with the next restart, whatever happens. Its
// steps, each of which may be the last one:
//
//	SetTry  the image of N is written to the other partition; pv_try=N; the firmware is asked
//	Commit  autoboot.txt names the other partition first, in one sector; pv_rev=N, pv_try=
type rpiab struct {
	file
	trails string
	tree   string // what the firmware says in the device tree, chosen/bootloader
	open   func(number int) (partition, error)
	ask    func() error // asks the firmware for tryboot
}

// partition is a boot partition.
type partition interface {
	fatfile.Medium
	io.Writer
	io.Seeker
	io.Closer
	Sync() error
}

var (
	_ Store  = (*rpiab)(nil)
	_ Booter = (*rpiab)(nil)
)

// Booter is a store of a loader that does not say on the kernel command line which revision it
// has booted.
type Booter interface {
	// Booted returns the revision that the loader has booted.
	Booted() (string, error)
}

func newRPiAB(dir string) *rpiab {
	return &rpiab{
		file: file{path: filepath.Join(dir, "boot/rpiab.txt"), form: uboot{}}, trails: filepath.Join(dir, "trails"),
		tree: "/proc/device-tree/chosen/bootloader", ask: askTryboot,
		open: func(number int) (partition, error) { return openPartition(dir, number) },
	}
}

// Load reads the values. Before the first commit the good revision is that of the default
// partition.
func (r *rpiab) Load() (Values, error) {
	v, err := r.file.Load()
	if v.Rev != "" {
		return v, err
	}
	choice, _, later := r.running()
	if later != nil {
		return v, errors.Join(err, later)
	}
	list, later := r.revisions(choice.Default)
	if len(list) > 0 {
		v.Rev = list[len(list)-1]
	}
	return v, errors.Join(err, later)
}

// Booted returns a revision of the partition that runs: the one under test or the good one if
// its BSP is there.
func (r *rpiab) Booted() (string, error) {
	_, number, err := r.running()
	if err != nil {
		return "", err
	}
	list, err := r.revisions(number)
	if err != nil {
		return "", err
	}
	v, err := r.file.Load()
	for _, rev := range []string{v.Try, v.Rev} {
		if rev != "" && slices.Contains(list, rev) {
			return rev, err
		}
	}
	if len(list) == 0 {
		return "", errors.Join(err, fmt.Errorf("reading the booted revision: %s of partition %d is empty", autoboot.RevisionFile, number))
	}
	return list[len(list)-1], err
}

// SetTry writes the revision's boot partition and asks the firmware to boot from it once.
func (r *rpiab) SetTry(rev string) error {
	if err := Validate(rev); err != nil {
		return fmt.Errorf("setting the revision to try: %w", err)
	}
	if err := r.checkLoader(); err != nil {
		return fmt.Errorf("setting the revision to try: %w", err)
	}
	choice, number, err := r.running()
	if err != nil {
		return fmt.Errorf("setting the revision to try: %w", err)
	}
	if number != choice.Default {
		return fmt.Errorf("setting the revision to try: another one is under test, from partition %d", number)
	}
	if err := r.install(rev, choice.Try); err != nil {
		return fmt.Errorf("writing revision %s to boot partition %d: %w", rev, choice.Try, err)
	}
	good, err := r.Load()
	if err != nil {
		return fmt.Errorf("setting the revision to try: %w", err)
	}
	if err := r.file.change(func(p []pair) []pair { return set(set(p, keyRev, good.Rev), keyTry, rev) }); err != nil {
		return err
	}
	if err := r.ask(); err != nil {
		return errors.Join(fmt.Errorf("setting the revision to try: %w", err), r.ClearTry())
	}
	return nil
}

// Commit makes the partition that runs the default one. A revision that came without a restart
// has its BSP there too and joins the list.
func (r *rpiab) Commit(rev string) error {
	if err := Validate(rev); err != nil {
		return fmt.Errorf("committing a revision: %w", err)
	}
	choice, number, err := r.running()
	if err != nil {
		return fmt.Errorf("committing revision %s: %w", rev, err)
	}
	list, err := r.revisions(number)
	if err != nil {
		return fmt.Errorf("committing revision %s: %w", rev, err)
	}
	switch {
	case number != choice.Default && !slices.Contains(list, rev):
		err = fmt.Errorf("partition %d, which runs, has another revision", number)
	case number != choice.Default:
		err = r.change(selector, autoboot.FileName, choice.Swapped().Text())
	case !slices.Contains(list, rev):
		err = r.note(number, append(list, rev))
	}
	if err != nil {
		return fmt.Errorf("committing revision %s: %w", rev, err)
	}
	return r.file.Commit(rev)
}

// note writes the revisions of a partition.
func (r *rpiab) note(number int, list []string) error {
	text := strings.Join(list, ",")
	if len(text) >= autoboot.Size {
		return fmt.Errorf("%s holds %d bytes: restart the device before further updates without a restart", autoboot.RevisionFile, autoboot.Size-1)
	}
	return r.change(number, autoboot.RevisionFile, autoboot.Pad(text+"\n"))
}

// running returns what autoboot.txt says and the number of the partition that was booted. The
// firmware's own number is not used: some models say 0.
func (r *rpiab) running() (autoboot.Choice, int, error) {
	text, err := r.content(selector, autoboot.FileName)
	if err != nil {
		return autoboot.Choice{}, 0, err
	}
	choice, err := autoboot.Parse(text)
	if err != nil {
		return choice, 0, err
	}
	if r.said("tryboot") == 1 {
		return choice, choice.Try, nil
	}
	return choice, choice.Default, nil
}

// said returns a number of the firmware's in the device tree, 0 when it does not say it.
func (r *rpiab) said(name string) uint32 {
	b, err := os.ReadFile(filepath.Join(r.tree, name))
	if err != nil || len(b) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

// checkLoader rejects the loader of an EEPROM that is too old. Models without EEPROM say no date.
func (r *rpiab) checkLoader() error {
	built := time.Unix(int64(r.said("build-timestamp")), 0).UTC()
	if built.Unix() != 0 && built.Before(firstTryboot) {
		return fmt.Errorf("the loader in the EEPROM is of %s and does not know tryboot: update it to one of %s or later",
			built.Format(time.DateOnly), firstTryboot.Format(time.DateOnly))
	}
	return nil
}

// revisions returns those of a boot partition.
func (r *rpiab) revisions(number int) ([]string, error) {
	text, err := r.content(number, autoboot.RevisionFile)
	return strings.FieldsFunc(text, func(c rune) bool { return c == ',' || c <= ' ' }), err
}

func (r *rpiab) content(number int, name string) (string, error) {
	p, err := r.open(number)
	if err != nil {
		return "", err
	}
	defer p.Close()
	b, err := fatfile.Read(p, name)
	if err != nil {
		return "", fmt.Errorf("partition %d: %w", number, err)
	}
	return string(b), nil
}

// change replaces the content of a file by one write.
func (r *rpiab) change(number int, name, text string) (err error) {
	p, err := r.open(number)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	if err := fatfile.Write(p, name, []byte(text)); err != nil {
		return fmt.Errorf("partition %d: %w", number, err)
	}
	return p.Sync()
}

// install writes the boot image of a revision to a partition, reads it back and notes the
// revision there.
func (r *rpiab) install(rev string, number int) (err error) {
	image, err := r.image(rev)
	if err != nil {
		return err
	}
	defer image.Close()
	p, err := r.open(number)
	if err != nil {
		return err
	}
	if err := errors.Join(write(p, image), p.Close()); err != nil {
		return err
	}
	return r.note(number, []string{rev})
}

// image opens the boot image of a revision.
func (r *rpiab) image(rev string) (io.ReadCloser, error) {
	dir := filepath.Join(r.trails, rev, ".pv")
	f, err := os.Open(filepath.Join(dir, "rpiboot.img.gz"))
	if errors.Is(err, fs.ErrNotExist) {
		return os.Open(filepath.Join(dir, "rpiboot.img"))
	}
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("unpacking %s: %w", f.Name(), err), f.Close())
	}
	return &unpacked{z, f}, nil
}

// unpacked is a compressed file.
type unpacked struct {
	*gzip.Reader
	file *os.File
}

// Close implements io.Closer.
func (u *unpacked) Close() error { return errors.Join(u.Reader.Close(), u.file.Close()) }

// write copies an image to the start of a partition and compares what the medium has then.
func write(p partition, image io.Reader) error {
	size, err := p.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = p.Seek(0, io.SeekStart)
	}
	if err != nil {
		return err
	}
	sum := sha256.New()
	n, err := io.Copy(p, io.TeeReader(io.LimitReader(image, size+1), sum))
	if n > size {
		return fmt.Errorf("the image does not fit: the partition has %d bytes", size)
	}
	if err == nil {
		err = p.Sync()
	}
	if err != nil {
		return err
	}
	forget(p)
	back := sha256.New()
	if _, err := io.Copy(back, io.NewSectionReader(p, 0, n)); err != nil {
		return fmt.Errorf("reading back: %w", err)
	}
	if string(back.Sum(nil)) != string(sum.Sum(nil)) {
		return errors.New("the medium returns other data than was written; replace it")
	}
	return nil
}
