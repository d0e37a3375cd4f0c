package powercut

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/ctxio"
)

// writeTo writes the disk over a file with a copy of the lowest base.
func (d *disk) writeTo(w io.WriterAt) error {
	if below, ok := d.base.(*disk); ok {
		if err := below.writeTo(w); err != nil {
			return err
		}
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	for n, c := range d.blocks {
		if _, err := w.WriteAt(c.data[:min(block, d.size-n*block)], n*block); err != nil {
			return err
		}
	}
	return nil
}

// partition makes a file with what is behind the first bytes of the disk, whose lowest base is the
// file base. Holes stay holes: e2fsck would take ?offset=, but it forgets it behind the journal.
func (d *disk) partition(ctx context.Context, path, base string, from int64) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Truncate(d.size - from); err != nil {
		return err
	}
	in, err := os.Open(base)
	if err != nil {
		return err
	}
	defer in.Close()
	shifted := behind{f, from}
	for at := from; ; {
		data, err := unix.Seek(int(in.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			return err
		}
		if at, err = unix.Seek(int(in.Fd()), data, unix.SEEK_HOLE); err != nil {
			return err
		}
		if _, err := io.Copy(io.NewOffsetWriter(shifted, data), ctxio.Reader(ctx, io.NewSectionReader(in, data, at-data))); err != nil {
			return err
		}
	}
	return d.writeTo(shifted)
}

// behind is a file in which a disk begins before the file does; what is there is left out.
type behind struct {
	f    *os.File
	from int64
}

// WriteAt implements io.WriterAt.
func (b behind) WriteAt(p []byte, off int64) (int, error) {
	if off < b.from {
		return len(p), nil
	}
	return b.f.WriteAt(p, off-b.from)
}

// expected are the lines that e2fsck prints about a storage whose power was cut: the journal was
// replayed, and files that were removed while they were open are freed.
var expected = regexp.MustCompile(`(?i)recovering journal|orphaned inode|orphan file|^\S+: \d+/\d+ files|^$`)

// fsck has e2fsck mount a copy of the disk in its way and check it. What it then reads must be
// what the replay of the journal here has led to.
func (p *replayer) fsck(ctx context.Context, d *disk) error {
	file := filepath.Join(p.work.Path, "fsck.img")
	defer os.Remove(file)
	if err := d.partition(ctx, file, p.rec.Image, p.rec.Storage); err != nil {
		return fault.Wrap(fault.IO, err, "copying the disk")
	}
	out, err := exec.CommandContext(ctx, "e2fsck", "-fp", file).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 { // mended, as it is told to
		err = nil
	}
	for line := range strings.Lines(string(out)) {
		if err == nil && !expected.MatchString(strings.TrimSpace(line)) {
			err = errors.New("it finds more than a power cut leaves")
		}
	}
	if err != nil {
		return fmt.Errorf("e2fsck: %w\n%s", err, out)
	}
	return p.compare(file, d)
}

// compare reads what the runtime reads from a file that e2fsck has mended and from the disk.
func (p *replayer) compare(file string, d *disk) error {
	f, err := os.Open(file)
	if err != nil {
		return fault.Wrap(fault.IO, err, "opening the copy")
	}
	defer f.Close()
	mended, err := openExt4(f)
	if err != nil {
		return err
	}
	mounted := part{newDisk(d, p.rec.Size), p.rec.Storage}
	if _, err := mount(mounted); err != nil {
		return err
	}
	ours, err := openExt4(mounted)
	if err != nil {
		return err
	}
	a, err := runtimeFiles(mended)
	if err != nil {
		return err
	}
	b, err := runtimeFiles(ours)
	if err != nil {
		return err
	}
	if a.key() != b.key() {
		return errors.New("e2fsck and the reader of the journal here get different files")
	}
	return nil
}
