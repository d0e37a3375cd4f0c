package boot

import (
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/formats/autoboot"
	"github.com/pantavisor/pantavisor/formats/fatfile"
)

// selector is the number of the partition with autoboot.txt.
const selector = 1

// slots is the store of a device with two boot partitions. The loader boots from the
// default one of autoboot.txt, or once from the other one when it was asked for that before the
// restart (tryboot). A file on the storage holds pv_rev and pv_try.
//
// A test needs no mark of the loader's: it ends with the next restart, whatever happens. Its
// steps, each of which may be the last one:
//
//	SetTry  the image of N is written to the other partition; pv_try=N; the firmware is asked
//	Commit  autoboot.txt names the other partition first, in one sector; pv_rev=N, pv_try=
type slots struct {
	file
	firmware firmware
	trails   string
	boot     string // the name of the boot image in a revision's directory .pv, less ".gz"
	open     func(number int) (partition, error)
	text     func(autoboot.Choice) string // of autoboot.txt
}

// firmware is what boots from one of two partitions.
type firmware interface {
	// ready reports why no other partition can be tried.
	ready() error
	// booted returns the number of the partition that was booted from.
	booted(autoboot.Choice) (int, error)
	// ask has it boot from a partition once, at the next restart.
	ask(number int) error
	// forget withdraws that.
	forget() error
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
	_ Store  = (*slots)(nil)
	_ Booter = (*slots)(nil)
)

// Booter is a store of a loader that does not say on the kernel command line which revision it
// has booted.
type Booter interface {
	// Booted returns the revision that the loader has booted.
	Booted() (string, error)
}

// Load reads the values. Before the first commit the good revision is that of the default
// partition.
func (s *slots) Load() (Values, error) {
	v, err := s.file.Load()
	if v.Rev != "" {
		return v, err
	}
	choice, _, later := s.running()
	if later != nil {
		return v, errors.Join(err, later)
	}
	list, later := s.revisions(choice.Default)
	if len(list) > 0 {
		v.Rev = list[len(list)-1]
	}
	return v, errors.Join(err, later)
}

// Booted returns a revision of the partition that runs: the one under test or the good one if
// its BSP is there.
func (s *slots) Booted() (string, error) {
	_, number, err := s.running()
	if err != nil {
		return "", err
	}
	list, err := s.revisions(number)
	if err != nil {
		return "", err
	}
	v, err := s.file.Load()
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
func (s *slots) SetTry(rev string) error {
	if err := Validate(rev); err != nil {
		return fmt.Errorf("setting the revision to try: %w", err)
	}
	if err := s.firmware.ready(); err != nil {
		return fmt.Errorf("setting the revision to try: %w", err)
	}
	choice, number, err := s.running()
	if err != nil {
		return fmt.Errorf("setting the revision to try: %w", err)
	}
	if number != choice.Default {
		return fmt.Errorf("setting the revision to try: another one is under test, from partition %d", number)
	}
	// While the image is written, a flag that nobody has used would boot a part of it.
	if err := s.firmware.forget(); err != nil {
		return fmt.Errorf("setting the revision to try: %w", err)
	}
	if err := s.install(rev, choice.Try); err != nil {
		return fmt.Errorf("writing revision %s to boot partition %d: %w", rev, choice.Try, err)
	}
	good, err := s.Load()
	if err != nil {
		return fmt.Errorf("setting the revision to try: %w", err)
	}
	if err := s.file.change(func(p []pair) []pair { return set(set(p, keyRev, good.Rev), keyTry, rev) }); err != nil {
		return err
	}
	if err := s.firmware.ask(choice.Try); err != nil {
		return errors.Join(fmt.Errorf("setting the revision to try: %w", err), s.ClearTry())
	}
	return nil
}

// Commit makes the partition that runs the default one. A revision that came without a restart
// has its BSP there too and joins the list.
func (s *slots) Commit(rev string) error {
	if err := Validate(rev); err != nil {
		return fmt.Errorf("committing a revision: %w", err)
	}
	choice, number, err := s.running()
	if err != nil {
		return fmt.Errorf("committing revision %s: %w", rev, err)
	}
	list, err := s.revisions(number)
	if err != nil {
		return fmt.Errorf("committing revision %s: %w", rev, err)
	}
	switch {
	case number != choice.Default && !slices.Contains(list, rev):
		err = fmt.Errorf("partition %d, which runs, has another revision", number)
	case number != choice.Default:
		err = s.change(selector, autoboot.FileName, s.text(choice.Swapped()))
	case !slices.Contains(list, rev):
		err = s.note(number, append(list, rev))
	}
	if err != nil {
		return fmt.Errorf("committing revision %s: %w", rev, err)
	}
	return s.file.Commit(rev)
}

// ClearTry ends a test; a restart that was to begin it does not.
func (s *slots) ClearTry() error { return errors.Join(s.firmware.forget(), s.file.ClearTry()) }

// note writes the revisions of a partition.
func (s *slots) note(number int, list []string) error {
	text := strings.Join(list, ",")
	if len(text) >= autoboot.Size {
		return fmt.Errorf("%s holds %d bytes: restart the device before further updates without a restart", autoboot.RevisionFile, autoboot.Size-1)
	}
	return s.change(number, autoboot.RevisionFile, autoboot.Pad(text+"\n"))
}

// running returns what autoboot.txt says and the number of the partition that was booted.
func (s *slots) running() (autoboot.Choice, int, error) {
	text, err := s.content(selector, autoboot.FileName)
	if err != nil {
		return autoboot.Choice{}, 0, err
	}
	choice, err := autoboot.Parse(text)
	if err != nil {
		return choice, 0, err
	}
	number, err := s.firmware.booted(choice)
	return choice, number, err
}

// revisions returns those of a boot partition.
func (s *slots) revisions(number int) ([]string, error) {
	text, err := s.content(number, autoboot.RevisionFile)
	return strings.FieldsFunc(text, func(c rune) bool { return c == ',' || c <= ' ' }), err
}

func (s *slots) content(number int, name string) (string, error) {
	p, err := s.open(number)
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
func (s *slots) change(number int, name, text string) (err error) {
	p, err := s.open(number)
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
func (s *slots) install(rev string, number int) (err error) {
	image, err := s.image(rev)
	if err != nil {
		return err
	}
	defer image.Close()
	p, err := s.open(number)
	if err != nil {
		return err
	}
	if err := errors.Join(write(p, image), p.Close()); err != nil {
		return err
	}
	return s.note(number, []string{rev})
}

// image opens the boot image of a revision.
func (s *slots) image(rev string) (io.ReadCloser, error) {
	dir := filepath.Join(s.trails, rev, ".pv")
	f, err := os.Open(filepath.Join(dir, s.boot+".gz"))
	if errors.Is(err, fs.ErrNotExist) {
		return os.Open(filepath.Join(dir, s.boot))
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
