package powercut

import (
	"encoding/binary"
	"os"
	"path"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// Kinds of what is written to a disk.
const (
	ofObjects   = "objects"
	ofRevisions = "revisions" // the files in trails, without those below
	ofProgress  = "progress"  // of revisions
	ofUpdates   = "journal of updates"
	ofLogs      = "logs"
	ofLoader    = "boot loader's store"
	ofFiles     = "other files"
	ofDirs      = "directories"
	ofJournal   = "journal of ext4"
	ofInodes    = "inode tables"
	ofMaps      = "superblock and bitmaps"
	ofOutside   = "other partitions"
	ofNobody    = "removed files" // that no flush has found in a directory
)

// shares returns how many bytes of the entries from..to of a recording were written for what.
func shares(rec *recording, from, to int) (map[string]int, error) {
	base, err := os.Open(rec.Image)
	if err != nil {
		return nil, fault.Wrap(fault.IO, err, "opening the image")
	}
	defer base.Close()
	d := newDisk(base, rec.Size)
	s := &sharer{rec: rec, disk: d, bytes: map[string]int{}}
	for i, e := range rec.Log[:to] {
		if e.Kind == wrote {
			if _, err := d.WriteAt(e.Data, e.Off); err != nil {
				return nil, err
			}
		}
		if i < from {
			continue
		}
		if e.Kind == wrote {
			s.write(e)
		}
		if e.Kind == flushed || i == to-1 {
			if err := s.settle(); err != nil {
				return nil, err
			}
		}
	}
	for range s.open {
		s.bytes[ofNobody] += sector
	}
	return s.bytes, nil
}

// sharer counts what writes are for. Who owns a block of data is known when the journal has it,
// which is later than its write.
type sharer struct {
	rec   *recording
	disk  *disk
	bytes map[string]int
	open  []int64 // sectors that were written and have no owner yet
}

func (s *sharer) write(e entry) {
	for at := e.Off; at < e.Off+int64(len(e.Data)); at += sector {
		if at < s.rec.Storage {
			s.bytes[ofOutside] += sector
			continue
		}
		s.open = append(s.open, at-s.rec.Storage)
	}
}

// settle finds owners in the storage as it would be mounted now.
func (s *sharer) settle() error {
	mounted := part{newDisk(s.disk, s.rec.Size), s.rec.Storage}
	if _, err := mount(mounted); err != nil {
		return err
	}
	f, err := openExt4(mounted)
	if err != nil {
		return err
	}
	owners, err := f.owners()
	if err != nil {
		return err
	}
	rest := s.open[:0]
	for _, at := range s.open {
		if kind, ok := owners[at/f.size]; ok {
			s.bytes[kind] += sector
		} else {
			rest = append(rest, at)
		}
	}
	s.open = rest
	return nil
}

// owners returns what the blocks that are in use are used for.
func (f *ext4) owners() (map[int64]string, error) {
	out := map[int64]string{}
	if err := f.ownMetadata(out); err != nil {
		return nil, err
	}
	in, err := f.inode(journalInode)
	if err == nil {
		err = f.own(out, in, ofJournal)
	}
	if err == nil {
		in, err = f.inode(rootInode)
	}
	if err != nil {
		return nil, err
	}
	return out, f.ownTree(out, in, "")
}

// ownMetadata adds what is in no file.
func (f *ext4) ownMetadata(out map[int64]string) error {
	for at := range f.descAt/f.size + (f.groups*f.descSize+f.size-1)/f.size {
		out[at] = ofMaps
	}
	le := binary.LittleEndian
	for g := range f.groups {
		desc := make([]byte, 64)
		if _, err := f.r.ReadAt(desc[:min(f.descSize, 64)], f.descAt+g*f.descSize); err != nil {
			return err
		}
		place := func(at int) int64 { return int64(le.Uint32(desc[at:])) | int64(le.Uint32(desc[at+0x20:]))<<32 }
		out[place(0)], out[place(4)] = ofMaps, ofMaps
		for n := range (int64(f.inodesPerGroup)*f.inodeSize + f.size - 1) / f.size {
			out[place(8)+n] = ofInodes
		}
	}
	return nil
}

func (f *ext4) ownTree(out map[int64]string, dir *inode, name string) error {
	if err := f.own(out, dir, ofDirs); err != nil {
		return err
	}
	list, err := f.list(dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		if e.name == "." || e.name == ".." {
			continue
		}
		in, err := f.inode(e.inode)
		if err != nil {
			return err
		}
		below := path.Join(name, e.name)
		switch {
		case in.dir():
			err = f.ownTree(out, in, below)
		case in.flags&extentsFlag != 0: // a short link has none
			err = f.own(out, in, kindOf(below))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *ext4) own(out map[int64]string, in *inode, kind string) error {
	list, err := f.extents(in)
	for _, x := range list {
		for n := range x.length {
			if x.start > 0 && out[x.start+n] == "" { // an object before its links
				out[x.start+n] = kind
			}
		}
	}
	return err
}

// kindOf is the kind of a file of the storage. An object and its links in revisions are one.
func kindOf(name string) string {
	top, _, _ := strings.Cut(name, "/")
	switch {
	case strings.HasSuffix(name, "/.pv/progress"):
		return ofProgress
	case top == "objects", top == "trails":
		return map[string]string{"objects": ofObjects, "trails": ofRevisions}[top]
	case top == "updates":
		return ofUpdates
	case top == "logs":
		return ofLogs
	case top == "boot":
		return ofLoader
	}
	return ofFiles
}
