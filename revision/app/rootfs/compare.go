package rootfs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"strings"

	"github.com/pantavisor/pantavisor/formats/tree"
)

func sameAttributes(a, b *inode) bool {
	return a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID && a.Link == b.Link &&
		a.Major == b.Major && a.Minor == b.Minor && maps.EqualFunc(a.Xattrs, b.Xattrs, bytes.Equal)
}

// same compares two inodes that are not both directories, contents last.
func (t *Tree) same(base *Tree, n, old *inode) (bool, error) {
	if !sameAttributes(n, old) || n.Size != old.Size {
		return false, nil
	}
	if !n.Mode.IsRegular() {
		return true, nil
	}
	a, err := t.open(n)
	if err != nil {
		return false, err
	}
	defer a.Close()
	b, err := base.open(old)
	if err != nil {
		return false, err
	}
	defer b.Close()
	return sameContent(a, b)
}

func sameContent(a, b io.Reader) (bool, error) {
	bufA, bufB := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, errA := io.ReadFull(a, bufA)
		m, errB := io.ReadFull(b, bufB)
		if !bytes.Equal(bufA[:n], bufB[:m]) {
			return false, nil
		}
		if ended(errA) && ended(errB) {
			return true, nil
		}
		if errA != nil || errB != nil {
			return false, errors.Join(errA, errB)
		}
	}
}

func ended(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// AddDirectory adds what is in a directory of this machine with its owners, modes and
// extended attributes.
// Contents are read when the tree is written.
func (t *Tree) AddDirectory(ctx context.Context, dir string) error {
	return tree.Walk(ctx, dir, tree.Options{Xattrs: true, System: t.passSystem}, t.found)
}

// found adds an entry of this machine.
func (t *Tree) found(e tree.Entry) error {
	dir, base, err := clean(e.Name)
	if err != nil {
		return err
	}
	if e.HardLink != "" {
		return t.hardLink(dir, base, e.HardLink)
	}
	return t.put(dir, base, t.newInode(e))
}

// passSystem counts access control lists; the other attributes in system.* are what the
// file system makes of the rest.
func (t *Tree) passSystem(name, attribute string) {
	if strings.HasPrefix(attribute, "system.posix_acl_") {
		t.pass(name, attribute)
	}
}
