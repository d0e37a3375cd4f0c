package tarball

import (
	"archive/tar"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/formats/tree"
)

// Reader reads the members of one archive as entries of a tree.
type Reader struct {
	// Passed, unless nil, is called for attributes of members that entries do not have:
	// access control lists.
	Passed func(member, attribute string)

	in     *tar.Reader
	global map[string]string // records for all following members, see takeGlobal
}

// NewReader reads an uncompressed archive.
func NewReader(r io.Reader) *Reader { return &Reader{in: tar.NewReader(r)} }

// Next goes to the next member and returns it without its content, which [Reader.Read]
// returns. Its Name is that of the archive: check it before use. It returns io.EOF at the
// end. Errors about a member name it.
func (r *Reader) Next() (tree.Entry, error) {
	for {
		h, err := r.in.Next()
		if errors.Is(err, io.EOF) {
			return tree.Entry{}, io.EOF
		}
		if err != nil {
			return tree.Entry{}, fmt.Errorf("reading a tar header: %w", err)
		}
		e, member, err := r.entry(h)
		if err != nil {
			return e, fmt.Errorf("reading the member %.200q: %w", h.Name, err)
		}
		if member {
			return e, nil
		}
	}
}

// Read reads the content of the member that Next returned last, holes as zeros.
func (r *Reader) Read(p []byte) (int, error) { return r.in.Read(p) }

// Member types beside those of package tar.
const (
	typeDumpdir   = 'D' // GNU tar, incremental: a directory, with the names in it as content
	typeLabel     = 'V' // GNU tar: name of the volume
	typeSolarisAC = 'A' // Solaris tar: access control list of the next member
)

// types maps member types to the type bits of a mode.
var types = map[byte]fs.FileMode{
	tar.TypeReg: 0, tar.TypeCont: 0, tar.TypeGNUSparse: 0,
	tar.TypeDir: fs.ModeDir, typeDumpdir: fs.ModeDir,
	tar.TypeSymlink: fs.ModeSymlink, tar.TypeFifo: fs.ModeNamedPipe,
	tar.TypeBlock: fs.ModeDevice, tar.TypeChar: fs.ModeDevice | fs.ModeCharDevice,
}

// unreadable are the member types that cannot be read, by what they are.
var unreadable = map[byte]string{
	'M': "the continuation of a file of another volume: archives of several volumes must be joined first",
	'N': "a list of long names in the form of GNU tar before 1.11",
	'X': "an extended header in the form of Solaris tar: write the archive with pax",
	'E': "an extended attribute in the form of Solaris tar: write the archive with pax",
	'I': "an inode without content in the form of star",
}

// entry returns the member that a header describes; the result is false for a header that
// describes none.
func (r *Reader) entry(h *tar.Header) (tree.Entry, bool, error) {
	t, known := types[h.Typeflag]
	switch {
	case h.Typeflag == tar.TypeXGlobalHeader:
		return tree.Entry{}, false, r.takeGlobal(h)
	case h.Typeflag == typeLabel:
		return tree.Entry{}, false, nil
	case h.Typeflag == typeSolarisAC:
		r.pass(h.Name, "access control list")
		return tree.Entry{}, false, nil
	case h.Typeflag == tar.TypeLink:
		return tree.Entry{Name: h.Name, HardLink: h.Linkname}, true, nil
	case unreadable[h.Typeflag] != "":
		return tree.Entry{}, false, fmt.Errorf("it is %s: %w", unreadable[h.Typeflag], errors.ErrUnsupported)
	case !known:
		return tree.Entry{}, false, fmt.Errorf("member type %q is not known: %w", h.Typeflag, errors.ErrUnsupported)
	case t == 0 && strings.HasSuffix(h.Name, "/"):
		t = fs.ModeDir // as in archives from before POSIX
	}
	// The type bits in the mode are not POSIX and may differ from the member type.
	e := tree.Entry{Name: h.Name, ModTime: h.ModTime, Mode: tree.FileMode(uint32(h.Mode)&0o7777)&^fs.ModeType | t}
	if err := errors.Join(setOwner(&e, h), r.applyGlobal(&e, h)); err != nil {
		return e, false, err
	}
	r.setXattrs(&e, h)
	return e, true, setKind(&e, h)
}

// setKind sets what entries of only one type have.
func setKind(e *tree.Entry, h *tar.Header) error {
	switch t := e.Mode.Type(); {
	case t == 0:
		e.Size = h.Size
	case t == fs.ModeSymlink:
		e.Mode, e.Link = fs.ModeSymlink|0o777, h.Linkname // Linux has no other mode
	case t&fs.ModeDevice != 0:
		if h.Devmajor < 0 || h.Devmajor > int64(limits.Major) || h.Devminor < 0 || h.Devminor > int64(limits.Minor) {
			return fmt.Errorf("device %d:%d is out of range", h.Devmajor, h.Devminor)
		}
		e.Major, e.Minor = uint32(h.Devmajor), uint32(h.Devminor)
	}
	return nil
}

func setOwner(e *tree.Entry, h *tar.Header) error {
	uid, gid := int64(h.Uid), int64(h.Gid)
	if uid < 0 || uid >= math.MaxUint32 || gid < 0 || gid >= math.MaxUint32 {
		return fmt.Errorf("owner %d:%d is out of range", h.Uid, h.Gid)
	}
	e.UID, e.GID = uint32(uid), uint32(gid)
	return nil
}

// Prefixes and names of records.
const (
	xattrPrefix      = "SCHILY.xattr."
	libarchivePrefix = "LIBARCHIVE.xattr."
	selinuxRecord    = "RHT.security.selinux"
	aclPrefix        = "SCHILY.acl."
)

// setXattrs takes the extended attributes from the records of a member.
func (r *Reader) setXattrs(e *tree.Entry, h *tar.Header) {
	for key, value := range h.PAXRecords {
		if strings.HasPrefix(key, aclPrefix) {
			r.pass(h.Name, "access control list")
			continue
		}
		name, text, ok := xattr(key, value)
		if _, there := e.Xattrs[name]; !ok || there && !strings.HasPrefix(key, xattrPrefix) {
			continue
		}
		if e.Xattrs == nil {
			e.Xattrs = map[string][]byte{}
		}
		e.Xattrs[name] = text
	}
}

// xattr returns the extended attribute that a record holds.
func xattr(key, value string) (name string, data []byte, ok bool) {
	if name, ok := strings.CutPrefix(key, xattrPrefix); ok {
		return name, []byte(value), true
	}
	if key == selinuxRecord {
		return "security.selinux", []byte(value), true
	}
	coded, ok := strings.CutPrefix(key, libarchivePrefix)
	if !ok {
		return "", nil, false
	}
	name, err := url.PathUnescape(coded)
	data, err2 := base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "="))
	return name, data, errors.Join(err, err2) == nil
}

// takeGlobal keeps the records of a global header that may differ between members: times
// and owners. Records that would make one member of all are rejected, others have no
// meaning here.
func (r *Reader) takeGlobal(h *tar.Header) error {
	for key, value := range h.PAXRecords {
		_, _, attribute := xattr(key, "")
		switch {
		case key == "path", key == "linkpath", key == "size", attribute, strings.HasPrefix(key, "GNU.sparse."):
			return fmt.Errorf("it sets %s for all members: %w", key, errors.ErrUnsupported)
		case key == "mtime", key == "uid", key == "gid":
			if r.global == nil {
				r.global = map[string]string{}
			}
			r.global[key] = value
		}
	}
	return nil
}

// applyGlobal sets what a global header says and the member's own records do not.
func (r *Reader) applyGlobal(e *tree.Entry, h *tar.Header) error {
	for key, value := range r.global {
		if _, own := h.PAXRecords[key]; own || value == "" {
			continue
		}
		whole, _, _ := strings.Cut(value, ".") // of seconds
		n, err := strconv.ParseInt(whole, 10, 64)
		switch {
		case err != nil || key != "mtime" && (n < 0 || n >= math.MaxUint32):
			return fmt.Errorf("its global header has the %s %.40q", key, value)
		case key == "mtime":
			e.ModTime = time.Unix(n, 0)
		case key == "uid":
			e.UID = uint32(n)
		case key == "gid":
			e.GID = uint32(n)
		}
	}
	return nil
}

func (r *Reader) pass(member, attribute string) {
	if r.Passed != nil {
		r.Passed(member, attribute)
	}
}
