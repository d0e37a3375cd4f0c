package boot

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pantavisor/pantavisor/formats/autoboot"
	"github.com/pantavisor/pantavisor/formats/fatfile"
)

// selector is the number of the partition with autoboot.txt.
const selector = 1

// slots is the store of a device with two boot partitions. The loader boots from the
// default one of autoboot.txt, or once from the other one when it was asked for that before the
// restart (tryboot). A file on the storage holds pv_rev and pv_try. pv_rev.txt of a partition
// lists the revisions whose boot image it has, that of the default one the good revision first.
//
// A test of another boot image needs no mark of the loader's: it ends with the next restart,
// whatever happens. Its steps, each of which may be the last one:
//
//	SetTry  the image of N is written to the other partition, as far as that has other data;
//	        pv_try=N; the firmware is asked
//	Commit  autoboot.txt names the other partition first, in one sector; pv_rev=N, pv_try=
//
// A revision with the boot image of the good one is tested from the same partition, and no image
// is written. The kernel is the proven one, so the mark is the runtime's own ([Started]):
//
//	SetTry  pv_rev.txt lists the good revision and N, in one sector; pv_try=N
//	Commit  pv_rev.txt lists N alone, in one sector; pv_rev=N, pv_try=
//
// The sector is what commits. When it and the file differ, the sector is right.
type slots struct {
	file
	firmware firmware
	trails   string
	boot     string // the name of the boot image in a revision's directory .pv, less ".gz"
	open     func(number int) (Partition, error)
	text     func(autoboot.Choice) string // of autoboot.txt
	// bootID names this boot where the firmware says only that it has booted from the partition
	// to try: once autoboot.txt was changed, that is the other one. nil elsewhere.
	bootID func() (string, error)
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

// Partition is a boot partition.
type Partition interface {
	fatfile.Medium
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

// Load reads the values. The good revision is one of the default partition's.
func (s *slots) Load() (Values, error) {
	v, err := s.file.Load()
	choice, _, later := s.running()
	if later != nil {
		return v, errors.Join(err, later)
	}
	list, later := s.revisions(choice.Default)
	if len(list) > 0 && !slices.Contains(list, v.Rev) {
		v.Rev = list[0]
	}
	if v.Try == v.Rev {
		v.Try = ""
	}
	return v, errors.Join(err, later)
}

// Booted returns a revision of the partition that runs: the one under test or the good one if
// its BSP is there.
func (s *slots) Booted() (string, error) {
	choice, number, err := s.running()
	if err != nil {
		return "", err
	}
	list, err := s.revisions(number)
	if err != nil {
		return "", err
	}
	if len(list) == 0 {
		return "", fmt.Errorf("reading the booted revision: %s of partition %d is empty", autoboot.RevisionFile, number)
	}
	v, err := s.Load()
	pairs, _ := s.read() // Load has its error
	test := v.Try != "" && slices.Contains(list, v.Try)
	switch {
	case test && (number != choice.Default || get(pairs, keyTrying) != v.Try):
		return v.Try, err
	case slices.Contains(list, v.Rev):
		return v.Rev, err
	}
	return list[0], err
}

// started marks that the test of a revision from the default partition has begun.
func (s *slots) started(rev string) error {
	choice, number, err := s.running()
	if err != nil || number != choice.Default {
		return err
	}
	return s.file.change(func(p []pair) []pair { return set(p, keyTrying, rev) })
}

// SetTry has the loader boot the revision once.
func (s *slots) SetTry(rev string) error {
	if err := Validate(rev); err != nil {
		return fmt.Errorf("setting the revision to try: %w", err)
	}
	v, err := s.Load()
	if err != nil {
		return fmt.Errorf("setting the revision to try: %w", err)
	}
	if rev == v.Rev {
		return s.ClearTry()
	}
	same, err := s.sameImage(v.Rev, rev)
	if err != nil {
		return fmt.Errorf("comparing the boot images of revisions %s and %s: %w", v.Rev, rev, err)
	}
	try := s.tryOther
	if same {
		try = s.tryDefault
	}
	if err := try(v.Rev, rev); err != nil {
		return fmt.Errorf("setting the revision to try: %w", err)
	}
	return nil
}

// tryDefault orders a test from the default partition, which has the boot image already.
func (s *slots) tryDefault(good, rev string) error {
	choice, _, err := s.running()
	if err != nil {
		return err
	}
	if err := s.firmware.forget(); err != nil {
		return err
	}
	if err := s.note(choice.Default, []string{good, rev}); err != nil {
		return err
	}
	return s.order(good, rev)
}

// tryOther writes the revision's boot image and asks the firmware to boot from it once.
func (s *slots) tryOther(good, rev string) error {
	if err := s.firmware.ready(); err != nil {
		return err
	}
	choice, _, err := s.running()
	if err != nil {
		return err
	}
	// While the image is written, a flag that nobody has used would boot a part of it.
	if err := s.firmware.forget(); err != nil {
		return err
	}
	// An older revision of that name had the good one's image: it is not the one to be tested.
	if list, err := s.revisions(choice.Default); err != nil {
		return err
	} else if slices.Contains(list, rev) {
		if err := s.note(choice.Default, []string{good}); err != nil {
			return err
		}
	}
	if err := s.install(rev, choice.Try); err != nil {
		return fmt.Errorf("writing revision %s to boot partition %d: %w", rev, choice.Try, err)
	}
	if err := s.order(good, rev); err != nil {
		return err
	}
	if err := s.firmware.ask(choice.Try); err != nil {
		return errors.Join(err, s.ClearTry())
	}
	return nil
}

// order writes what is to be tested to the storage.
func (s *slots) order(good, rev string) error {
	return s.file.change(func(p []pair) []pair { return set(set(endTest(p), keyRev, good), keyTry, rev) })
}

// Commit makes the partition that runs the default one, with the revision as its good one. A
// revision that came without a restart has its BSP there too.
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
		if err = s.remember(number); err == nil {
			err = s.change(selector, autoboot.FileName, s.text(choice.Swapped()))
		}
	case !slices.Equal(list, []string{rev}):
		err = s.note(number, []string{rev})
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
	return s.change(number, autoboot.RevisionFile, autoboot.Pad(strings.Join(list, ",")+"\n"))
}

// keyBooted is the partition that a boot was from: "BOOT-ID NUMBER".
const keyBooted = "pv_booted"

// remember notes the partition that runs before autoboot.txt is changed.
func (s *slots) remember(number int) error {
	if s.bootID == nil {
		return nil
	}
	id, err := s.bootID()
	if err != nil {
		return err
	}
	return s.file.change(func(p []pair) []pair { return set(p, keyBooted, fmt.Sprintf("%s %d", id, number)) })
}

// remembered returns what remember has noted in this boot, 0 for nothing.
func (s *slots) remembered() (number int) {
	if s.bootID == nil {
		return 0
	}
	id, err := s.bootID()
	if err != nil {
		return 0
	}
	pairs, _ := s.read() // a store that cannot be read has no note
	if text, ok := strings.CutPrefix(get(pairs, keyBooted), id+" "); ok {
		number, _ = strconv.Atoi(text)
	}
	return number
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
	number := s.remembered()
	if number != choice.Default && number != choice.Try {
		number, err = s.firmware.booted(choice)
	}
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

// imageFile opens the file with the boot image of a revision.
func (s *slots) imageFile(rev string) (*os.File, error) {
	name := filepath.Join(s.trails, rev, ".pv", s.boot)
	f, err := os.Open(name + ".gz")
	if errors.Is(err, fs.ErrNotExist) {
		return os.Open(name)
	}
	return f, err
}

// image opens the boot image of a revision.
func (s *slots) image(rev string) (io.ReadCloser, error) {
	f, err := s.imageFile(rev)
	if err != nil || !strings.HasSuffix(f.Name(), ".gz") {
		return f, err
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("unpacking %s: %w", f.Name(), err), f.Close())
	}
	return &unpacked{z, f}, nil
}

// sameImage reports whether a revision has the boot image of the good one: as a rule its file is
// a link to the same object. A good revision without its file has another one.
func (s *slots) sameImage(good, rev string) (bool, error) {
	f, err := s.imageFile(rev)
	if err != nil {
		return false, err
	}
	defer f.Close()
	g, err := s.imageFile(good)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer g.Close()
	return sameContent(f, g)
}

// sameContent reports whether files have the same content.
func sameContent(f, g *os.File) (bool, error) {
	a, err := f.Stat()
	if err != nil {
		return false, err
	}
	b, err := g.Stat()
	if err != nil || os.SameFile(a, b) || a.Size() != b.Size() {
		return err == nil && os.SameFile(a, b), err
	}
	x, y := make([]byte, chunk), make([]byte, chunk)
	for at := int64(0); at < a.Size(); at += chunk {
		n := min(chunk, a.Size()-at)
		if _, err := f.ReadAt(x[:n], at); err != nil {
			return false, err
		}
		if _, err := g.ReadAt(y[:n], at); err != nil {
			return false, err
		}
		if !bytes.Equal(x[:n], y[:n]) {
			return false, nil
		}
	}
	return true, nil
}

// unpacked is a compressed file.
type unpacked struct {
	*gzip.Reader
	file *os.File
}

// Close implements io.Closer.
func (u *unpacked) Close() error { return errors.Join(u.Reader.Close(), u.file.Close()) }

// chunk is the unit in which a boot image is compared and written.
const chunk = 64 << 10

// write makes a partition begin with an image and compares what the medium has then. What is
// there already is not written.
func write(p Partition, image io.Reader) error {
	size, err := p.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	sum := sha256.New()
	image = io.TeeReader(image, sum)
	var at int64
	written := false
	want, have := make([]byte, chunk), make([]byte, chunk)
	for {
		n, err := io.ReadFull(image, want)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		if at+int64(n) > size {
			return fmt.Errorf("the image does not fit: the partition has %d bytes", size)
		}
		if _, err := p.ReadAt(have[:n], at); err != nil || !bytes.Equal(want[:n], have[:n]) {
			written = true
			if _, err := p.WriteAt(want[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
	}
	if !written {
		return nil
	}
	return verify(p, at, sum.Sum(nil))
}

// verify compares the first n bytes of a partition, as the medium has them, with a SHA-256.
func verify(p Partition, n int64, sum []byte) error {
	if err := p.Sync(); err != nil {
		return err
	}
	forget(p)
	back := sha256.New()
	if _, err := io.Copy(back, io.NewSectionReader(p, 0, n)); err != nil {
		return fmt.Errorf("reading back: %w", err)
	}
	if !bytes.Equal(back.Sum(nil), sum) {
		return errors.New("the medium returns other data than was written; replace it")
	}
	return nil
}
