// Package rootfs composes the root file system of a container from the layers of
// an image (OCI image specification, "Image Layer Filesystem Changeset"), a tar
// archive or a directory, and writes it as squashfs: owners, modes, times, extended
// attributes, hard links and device nodes as the source states them, and without
// being root, because nothing is unpacked. The tree is held in memory without its
// contents, which wait in one spool file.
package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/formats/squashfs"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/filecopy"
	"github.com/pantavisor/pantavisor/internal/scratch"
)

// inode is a file with one or more names. It is what trees have most of, so it has no more
// than it needs.
type inode struct {
	Mode         fs.FileMode
	UID, GID     uint32
	Major, Minor uint32
	names        uint32 // that it was given
	ModTime      time.Time
	Link         string
	Xattrs       map[string][]byte
	Size         int64
	Open         func() (io.ReadCloser, error) // nil when the content is in the spool
	offset       int64                         // of the content in the spool
	children     map[string]*inode             // directories
}

// newInode returns the inode that an entry describes, without the extended attributes
// that squashfs does not have.
func (t *Tree) newInode(e tree.Entry) *inode {
	for name := range e.Xattrs {
		if !squashfs.HasXattr(name) {
			t.pass(e.Name, name)
			delete(e.Xattrs, name)
		}
	}
	return newInode(e)
}

// pass counts an attribute that is left out.
func (t *Tree) pass(name, attribute string) {
	if t.passed++; t.passed == 1 {
		t.passedAt = fmt.Sprintf("%s of %.200q", attribute, name)
	}
}

// Passed describes the attributes of files that are left out because squashfs does not
// have them, such as access control lists; "" when there are none.
func (t *Tree) Passed() string {
	if t.passed < 2 {
		return t.passedAt
	}
	return fmt.Sprintf("%s and %d more", t.passedAt, t.passed-1)
}

func newInode(e tree.Entry) *inode {
	n := &inode{
		Mode: e.Mode, UID: e.UID, GID: e.GID, Major: e.Major, Minor: e.Minor, ModTime: e.ModTime,
		Link: e.Link, Xattrs: e.Xattrs, Size: e.Size, Open: e.Open,
	}
	if e.Mode.IsDir() {
		n.children = map[string]*inode{}
	}
	return n
}

func newDirectory(mode fs.FileMode) *inode {
	return newInode(tree.Entry{Mode: fs.ModeDir | mode, ModTime: time.Unix(0, 0)})
}

func (n *inode) isDir() bool { return n.children != nil }

// Tree is a root file system being composed. Make it with [New] and Close it.
type Tree struct {
	root  *inode
	spool *os.File
	end   int64
	buf   []byte // for copies into the spool
	limit int64
	names int
	// layers are where the content of each layer begins in the spool.
	layers []int64

	passed   int    // attributes left out
	passedAt string // the first of them
}

// maxNames bounds the memory of one tree; large distributions have a tenth as many
// names.
const maxNames = 4 << 20

var errTooMany = fmt.Errorf("the root file system has more than %d names", maxNames)

// defaultLimit is the most that the files of one tree may hold together: 32 GiB.
const defaultLimit = 32 << 30

// New returns an empty tree whose contents are spooled to an unnamed file in dir
// (default: the system's directory for temporary files). Limit bounds the bytes of
// all files together; 0 means 32 GiB.
func New(dir string, limit int64) (*Tree, error) {
	f, err := scratch.Unnamed(dir, ".rootfs-")
	if err != nil {
		return nil, fmt.Errorf("creating the spool of a root file system: %w", err)
	}
	if limit == 0 {
		limit = defaultLimit
	}
	return &Tree{root: newDirectory(0o755), spool: f, limit: limit}, nil
}

// Close closes the spool file, which frees its space.
func (t *Tree) Close() error { return t.spool.Close() }

// errEscapes is the error for a name that leads out of the tree.
var errEscapes = errors.New("it leads out of the root file system")

const maxLinks = 40 // as the kernel's MAXSYMLINKS

// directory walks to a directory, through symbolic links but never above the root, and
// creates missing ones.
func (t *Tree) directory(name string) (*inode, error) {
	return t.walk(name, func(parent *inode, part string) *inode {
		made := newDirectory(0o755)
		parent.children[part] = made
		return made
	})
}

// existing walks as directory does; it returns nil for what is not a directory.
func (t *Tree) existing(name string) *inode {
	n, err := t.walk(name, func(*inode, string) *inode { return nil })
	if err != nil {
		return nil
	}
	return n
}

// walk walks to a directory; missing returns what to take for a name that does not exist,
// nil to end the walk.
func (t *Tree) walk(name string, missing func(parent *inode, part string) *inode) (*inode, error) {
	at := []*inode{t.root}
	parts, links := split(name), 0
	for len(parts) > 0 {
		part := parts[0]
		parts = parts[1:]
		if part == ".." {
			at = at[:max(len(at)-1, 1)]
			continue
		}
		here := at[len(at)-1]
		next := here.children[part]
		if next == nil {
			next = missing(here, part)
		}
		switch {
		case next == nil:
			return nil, nil
		case next.Mode&fs.ModeSymlink != 0:
			if links++; links > maxLinks {
				return nil, fmt.Errorf("following %q: too many symbolic links", name)
			}
			if path.IsAbs(next.Link) {
				at = at[:1]
			}
			parts = append(split(next.Link), parts...)
		case !next.isDir():
			return nil, fmt.Errorf("%q in %q is not a directory", part, name)
		default:
			at = append(at, next)
		}
	}
	return at[len(at)-1], nil
}

// split cuts a path into names, dropping empty ones and dots.
func split(p string) []string {
	return slices.DeleteFunc(strings.Split(p, "/"), func(s string) bool { return s == "" || s == "." })
}

// maxPath is the longest path that a program can use: PATH_MAX without the final NUL.
const maxPath = 4095

// clean checks the name of an archive's member and returns its directory and base.
func clean(name string) (dir, base string, err error) {
	if strings.ContainsRune(name, 0) || slices.Contains(strings.Split(name, "/"), "..") {
		return "", "", errEscapes
	}
	name = path.Clean("/" + name)[1:]
	if len(name) > maxPath {
		return "", "", fmt.Errorf("its name is longer than %d bytes", maxPath)
	}
	dir, base = path.Split(name)
	return dir, base, nil
}

// put gives an inode a name; a directory that replaces a directory keeps what is in it.
func (t *Tree) put(dir, base string, n *inode) error {
	if t.names++; t.names > maxNames {
		return errTooMany
	}
	parent, err := t.directory(dir)
	if err != nil {
		return err
	}
	if base == "" {
		if !n.isDir() {
			return errors.New("the root is a directory")
		}
		n.children = t.root.children
		t.root = n
		return nil
	}
	if old := parent.children[base]; old != nil && old.isDir() && n.isDir() {
		n.children = old.children
	}
	n.names++
	parent.children[strings.Clone(base)] = n // not a part of the whole path
	return nil
}

// Empty reports whether the tree has nothing below its root.
func (t *Tree) Empty() bool { return len(t.root.children) == 0 }

// Remove removes a name and everything below it; the name may be missing.
func (t *Tree) Remove(name string) {
	dir, base := path.Split(strings.Trim(name, "/"))
	parent, ok := t.find(dir)
	if ok && parent.isDir() {
		delete(parent.children, base)
	}
}

// EnsureDirectories makes directories with mode 0755 where the name does not exist.
func (t *Tree) EnsureDirectories(names ...string) error {
	for _, name := range names {
		if _, ok := t.find(name); ok {
			continue
		}
		if _, err := t.directory(name); err != nil {
			return fmt.Errorf("making directory %s: %w", name, err)
		}
	}
	return nil
}

// find looks a name up without following symbolic links.
func (t *Tree) find(name string) (*inode, bool) {
	n := t.root
	for _, part := range split(name) {
		if n = n.children[part]; n == nil {
			return nil, false
		}
	}
	return n, true
}

// take spools the content of one file. Zeros take no space.
func (t *Tree) take(n *inode, r io.Reader, size int64) error {
	if size > t.limit-t.end {
		return fmt.Errorf("with its %d bytes the root file system is larger than %d", size, t.limit)
	}
	n.offset, n.Size = t.end, size
	copied, err := t.copySparse(r, size)
	if err != nil {
		return fmt.Errorf("spooling its content: %w", err)
	}
	if copied != size {
		return fmt.Errorf("it has %d bytes, its header says %d: %w", copied, size, io.ErrUnexpectedEOF)
	}
	t.end += size
	return nil
}

// copySparse writes size bytes to the end of the spool, zeros as holes.
func (t *Tree) copySparse(r io.Reader, size int64) (copied int64, err error) {
	if t.buf == nil {
		t.buf = make([]byte, 64<<10)
	}
	var hole bool
	for err == nil && copied < size {
		var n int
		n, err = io.ReadFull(r, t.buf[:min(size-copied, int64(len(t.buf)))])
		if hole = filecopy.IsZero(t.buf[:n]); !hole {
			if _, err := t.spool.WriteAt(t.buf[:n], t.end+copied); err != nil {
				return copied, err
			}
		}
		copied += int64(n)
	}
	if ended(err) {
		err = nil
	}
	if hole && err == nil {
		err = t.spool.Truncate(t.end + copied)
	}
	return copied, err
}

// open returns a file's content.
func (t *Tree) open(n *inode) (io.ReadCloser, error) {
	if n.Open != nil {
		return n.Open()
	}
	return spooled{io.NewSectionReader(t.spool, n.offset, n.Size)}, nil
}

// spooled is a file in the spool.
type spooled struct{ *io.SectionReader }

// Close implements io.Closer.
func (spooled) Close() error { return nil }

// ReadFile returns the content of a regular file of at most limit bytes, and nothing for
// a name that is not one.
func (t *Tree) ReadFile(name string, limit int64) ([]byte, error) {
	n, ok := t.find(name)
	if !ok || !n.Mode.IsRegular() {
		return nil, nil
	}
	r, err := t.open(n)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return bounded.Read(r, limit)
}

// WriteSquashfs writes the tree as an image, names in sorted order. With a cache the data is in the order of
// the layers, so that images with layers in common have the same blocks for them.
func (t *Tree) WriteSquashfs(ctx context.Context, f squashfs.File, opts squashfs.Options, normal tree.Normal) error {
	if opts.Cache != nil {
		return t.writeLayers(ctx, f, opts, normal)
	}
	return squashfs.Write(ctx, f, opts, func(add func(tree.Entry) error) error {
		fixed := func(e tree.Entry) error { return add(normal.Apply(e)) }
		return t.emit(fixed, ".", t.root, map[*inode]string{})
	})
}

// writeLayers writes the tree as an image with the data of each layer in blocks of its own.
func (t *Tree) writeLayers(ctx context.Context, f squashfs.File, opts squashfs.Options, normal tree.Normal) error {
	layers := make([][]tree.Entry, len(t.layers)+2)
	last := len(layers) - 1 // for hard links, behind what they are links to
	seen := map[*inode]string{}
	err := t.each(func(e tree.Entry, n *inode) error {
		at := 0
		switch {
		case e.HardLink != "":
			at = last
		case e.Mode.IsRegular() && n.Open == nil:
			at, _ = slices.BinarySearch(t.layers, n.offset+1)
		}
		layers[at] = append(layers[at], normal.Apply(e))
		return nil
	}, ".", t.root, seen)
	if err != nil {
		return err
	}
	w, err := squashfs.NewWriter(f, opts)
	if err != nil {
		return err
	}
	for _, entries := range layers {
		for _, e := range entries {
			if err == nil {
				err = w.Add(ctx, e)
			}
		}
		w.Seal()
	}
	return errors.Join(err, w.Close())
}

// Walk calls do for every name as an image made of the tree has it: sorted, directories before what is in
// them. Contents can be read until the tree is closed.
func (t *Tree) Walk(ctx context.Context, do func(tree.Entry) error) error {
	return t.emit(func(e tree.Entry) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return do(e)
	}, ".", t.root, map[*inode]string{})
}

// emit adds n and what is below it; seen are the first names of files that have several.
func (t *Tree) emit(add func(tree.Entry) error, name string, n *inode, seen map[*inode]string) error {
	return t.each(func(e tree.Entry, _ *inode) error { return add(e) }, name, n, seen)
}

// each is emit for what wants to know the inodes.
func (t *Tree) each(add func(tree.Entry, *inode) error, name string, n *inode, seen map[*inode]string) error {
	if len(name) > maxPath {
		return fmt.Errorf("adding %.200q: its path is longer than %d bytes", name, maxPath)
	}
	e := tree.Entry{
		Name: name, Mode: n.Mode, UID: n.UID, GID: n.GID, Major: n.Major, Minor: n.Minor, ModTime: n.ModTime,
		Link: n.Link, Xattrs: n.Xattrs, Size: n.Size, HardLink: seen[n],
	}
	if e.HardLink == "" && n.names > 1 {
		seen[n] = name
	}
	if e.Mode.IsRegular() {
		e.Open = func() (io.ReadCloser, error) { return t.open(n) }
	}
	if err := add(e, n); err != nil {
		return err
	}
	for _, child := range slices.Sorted(maps.Keys(n.children)) {
		if err := t.each(add, path.Join(name, child), n.children[child], seen); err != nil {
			return err
		}
	}
	return nil
}
