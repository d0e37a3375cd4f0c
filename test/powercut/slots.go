package powercut

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/pantavisor/pantavisor/formats/autoboot"
	"github.com/pantavisor/pantavisor/formats/fatfile"
	"github.com/pantavisor/pantavisor/formats/grubenv"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/revision/trail"
	"github.com/pantavisor/pantavisor/runtime/boot"
)

// slotted is a loader that starts one of two boot partitions (package autoboot): GRUB as the first
// stage of a machine with UEFI, or the firmware of a Raspberry Pi. Which revision that is says the
// runtime.
type slotted struct {
	kind   string // PV_BOOTLOADER_TYPE
	parts  []extentOf
	dir    string               // for the runtime's store
	images map[string]slotImage // by the digests of the objects
}

// program is a file that a boot partition must have to be started; name is that of its image in a
// revision's directory .pv.
func (l *slotted) program() (file, name string) {
	if l.kind == "efiab" {
		return "pv-linux.efi", "efiboot.img.gz"
	}
	return "kernel.img", "rpiboot.img.gz"
}

// slot is a partition of a disk that was switched off.
type slot struct {
	*io.SectionReader
	part
}

// ReadAt implements io.ReaderAt.
func (s slot) ReadAt(p []byte, off int64) (int, error) { return s.SectionReader.ReadAt(p, off) }

// Close implements io.Closer.
func (slot) Close() error { return nil }

// Sync does nothing: there is no cache.
func (slot) Sync() error { return nil }

// partition opens a partition.
func (l *slotted) partition(d *disk, number int) (slot, error) {
	if number < 1 || number > len(l.parts) {
		return slot{}, fmt.Errorf("the disk has no partition %d", number)
	}
	p := l.parts[number-1]
	return slot{io.NewSectionReader(d, p.Start, p.Size), part{d, p.Start}}, nil
}

// choose returns the partition that the first stage starts, which is the one to try if it is
// asked for and can be started.
func (l *slotted) choose(d *disk) (number int, read string, err error) {
	selector, err := l.partition(d, 1)
	if err != nil {
		return 0, "", err
	}
	text, err := fatfile.Read(selector, autoboot.FileName)
	if err != nil {
		return 0, "", err
	}
	choice, err := autoboot.Parse(string(text))
	if err != nil {
		return 0, "", err
	}
	once := l.once(selector)
	for _, n := range []int{once, choice.Default} {
		if n > 0 && l.startable(d, n) {
			return n, fmt.Sprintln(choice, once), nil
		}
	}
	return 0, "", errors.New("the loader finds no partition that it can start")
}

// once is the partition that is asked for; 0 when none is, or the file cannot be read. A Raspberry Pi
// forgets it with the power.
func (l *slotted) once(selector slot) int {
	text, err := fatfile.Read(selector, autoboot.OnceFile)
	if err != nil || l.kind != "efiab" {
		return 0
	}
	env, err := grubenv.Parse(text)
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(env[autoboot.OnceVariable]) // 0 when it is empty
	return n
}

// startable reports whether a partition has a program.
func (l *slotted) startable(d *disk, number int) bool {
	p, err := l.partition(d, number)
	if err != nil {
		return false
	}
	file, _ := l.program()
	_, err = fatfile.Read(p, file)
	return err == nil
}

// slotStore is the runtime's store when there are boot partitions.
type slotStore interface {
	boot.Store
	boot.Booter
}

// store is the runtime's store when a partition was started.
func (l *slotted) store(v *view, number int, dir string) (slotStore, error) {
	s, err := boot.OpenOn(l.kind, dir, boot.Machine{
		Open:   func(n int) (boot.Partition, error) { return l.partition(v.disk, n) },
		Booted: func() (int, error) { return number, nil },
		Tree:   l.dir, // without a word of tryboot: the firmware forgets it with the power
		BootID: func() (string, error) { return "after the power cut", nil },
	})
	if err != nil {
		return nil, err
	}
	return s.(slotStore), nil
}

func (l *slotted) pick(v *view) (start, error) {
	number, read, err := l.choose(v.disk)
	if err != nil {
		return start{}, err
	}
	list := files{}
	if err := list.read(v.after, l.file()); err != nil {
		return start{}, err
	}
	if err := list.write(l.dir); err != nil {
		return start{}, err
	}
	store, err := l.store(v, number, l.dir)
	if err != nil {
		return start{}, err
	}
	rev, err := store.Booted()
	if err != nil {
		return start{}, fmt.Errorf("the runtime cannot say which revision partition %d has: %w", number, err)
	}
	return start{rev: rev, partition: number, read: fmt.Sprint(number, read)}, nil
}

// file is the runtime's own, on the storage.
func (l *slotted) file() string { return "boot/" + l.kind + ".txt" }

func (l *slotted) values(v *view, s start, dir string) (boot.Values, error) {
	store, err := l.store(v, s.partition, dir)
	if err != nil {
		return boot.Values{}, err
	}
	return store.Load()
}

// there reports whether the default partition has the revision.
func (l *slotted) there(v *view, rev string) bool {
	selector, err := l.partition(v.disk, 1)
	if err != nil {
		return false
	}
	text, err := fatfile.Read(selector, autoboot.FileName)
	if err != nil {
		return false
	}
	choice, err := autoboot.Parse(string(text))
	if err != nil || !l.startable(v.disk, choice.Default) {
		return false
	}
	p, err := l.partition(v.disk, choice.Default)
	if err != nil {
		return false
	}
	list, err := fatfile.Read(p, autoboot.RevisionFile)
	return err == nil && slices.Contains(bytesFields(list), rev)
}

func bytesFields(text []byte) (out []string) {
	for _, f := range bytes.FieldsFunc(text, func(c rune) bool { return c == ',' || c <= ' ' }) {
		out = append(out, string(f))
	}
	return out
}

// slotImage is what a boot partition is to begin with: its digest without what [masked] leaves out.
type slotImage struct {
	size int64
	sum  string
}

func (l *slotted) whole(j *judge, v *view, s start, st *state.State) error {
	links, err := trail.BootLinks(st, nil)
	if err != nil {
		return err
	}
	_, name := l.program()
	at := slices.IndexFunc(links, func(l trail.BootLink) bool { return l.Name == name })
	if at < 0 {
		return errors.New("the state names no image of a boot partition")
	}
	object, _ := st.Object(links[at].Target)
	want, err := l.image(v, object)
	if err != nil {
		return fmt.Errorf("the boot image of revision %s: %w", s.rev, err)
	}
	p, err := l.partition(v.disk, s.partition)
	if err != nil {
		return err
	}
	got, err := j.slot(v.disk, p.at, want.size)
	if err == nil && got != want.sum {
		err = fmt.Errorf("its content is that of %.12s and not of %.12s", got, want.sum)
	}
	if err != nil {
		return fmt.Errorf("boot partition %d, which starts as revision %s: %w", s.partition, s.rev, err)
	}
	return nil
}

// image reads the object with the image of a boot partition.
func (l *slotted) image(v *view, object string) (slotImage, error) {
	if image, ok := l.images[object]; ok {
		return image, nil
	}
	data, err := v.after.file("objects/"+object, 256<<20)
	if err != nil {
		return slotImage{}, err
	}
	content, err := unpack(data)
	if err != nil {
		return slotImage{}, err
	}
	image := slotImage{size: int64(len(content))}
	d, err := masked(newDisk(bytes.NewReader(content), image.size), 0)
	if err != nil {
		return slotImage{}, err
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(d, 0, image.size)); err != nil {
		return slotImage{}, err
	}
	image.sum = hex.EncodeToString(h.Sum(nil))
	l.images[object] = image
	return image, nil
}

// masked is a disk on which a boot partition that begins at byte at is without what differs from its
// image: the list of revisions, and in its boot sectors its number and its place on the disk.
func masked(d *disk, at int64) (*disk, error) {
	over := newDisk(d, d.Size())
	p := part{over, at}
	if err := fatfile.Write(p, autoboot.RevisionFile, []byte(autoboot.Pad(""))); err != nil {
		return nil, err
	}
	var bpb [sector]byte
	if _, err := p.ReadAt(bpb[:], 0); err != nil {
		return nil, err
	}
	const hidden, id16, id32, fatSize16, copyAt = 28, 39, 67, 22, 6 * sector // Microsoft FAT specification 1.03
	fields := []int64{hidden, id16}
	if binary.LittleEndian.Uint16(bpb[fatSize16:]) == 0 { // FAT32, which has a copy of the sector
		fields = []int64{hidden, id32, copyAt + hidden, copyAt + id32}
	}
	for _, f := range fields {
		if _, err := p.WriteAt(make([]byte, 4), f); err != nil {
			return nil, err
		}
	}
	return over, nil
}

// slot is the digest of the first size bytes of a boot partition that begins at byte at, without
// what differs from its image. It is computed once for a content.
func (j *judge) slot(d *disk, at, size int64) (string, error) {
	over, err := masked(d, at)
	if err != nil {
		return "", err
	}
	newest, h := uint64(0), sha256.New()
	for n := at / block; n < (at+size+block-1)/block; n++ {
		if b := over.blocks[n]; b != nil {
			h.Write(b.data[:])
		} else {
			newest = max(newest, d.version(n))
		}
	}
	key := fmt.Sprintf("slot %d %d %d %x", at, size, newest, h.Sum(nil))
	if sum, ok := j.sums[key]; ok {
		return sum, nil
	}
	h.Reset()
	if _, err := io.Copy(h, io.NewSectionReader(over, at, size)); err != nil {
		return "", err
	}
	j.sums[key] = hex.EncodeToString(h.Sum(nil))
	return j.sums[key], nil
}

// otherMaker is the packed image of a boot partition with another name of its maker, which nobody
// reads.
func otherMaker(packed []byte) ([]byte, error) {
	data, err := unpack(packed)
	if err != nil {
		return nil, err
	}
	const makerAt = 3 // BS_OEMName
	copy(data[makerAt:], "ANOTHER ")
	return compress(data)
}

func unpack(packed []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

func compress(data []byte) ([]byte, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err == nil {
		_, err = z.Write(data)
	}
	if err == nil {
		err = z.Close()
	}
	return b.Bytes(), err
}
