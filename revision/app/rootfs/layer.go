package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/pantavisor/pantavisor/formats/tarball"
	"github.com/pantavisor/pantavisor/formats/tree"
)

// Names in a layer that remove files of the layers below (OCI image specification,
// "Whiteouts").
const (
	whiteoutPrefix = ".wh."
	opaqueMarker   = ".wh..wh..opq"
)

// ApplyLayer applies one layer, an uncompressed tar stream, to the tree: its whiteouts
// remove files of earlier layers only, its other members are added. Errors name the
// member.
func (t *Tree) ApplyLayer(ctx context.Context, layer io.Reader) error {
	l := &layerState{tree: t, brought: map[*inode]bool{}}
	return eachMember(ctx, layer, l.apply)
}

// AddTar adds the members of an uncompressed tar archive; names that look like
// whiteouts have no meaning in it.
func (t *Tree) AddTar(ctx context.Context, archive io.Reader) error {
	return eachMember(ctx, archive, t.member)
}

func eachMember(ctx context.Context, r io.Reader, do func(*tar.Header, io.Reader) error) error {
	in := tar.NewReader(r)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading a tar header: %w", err)
		}
		if err := do(h, in); err != nil {
			return fmt.Errorf("applying %q: %w", h.Name, err)
		}
	}
}

// layerState records which inodes the layer itself added, because its whiteouts apply
// only to the layers below, wherever they are in the archive.
type layerState struct {
	tree    *Tree
	brought map[*inode]bool
}

func (l *layerState) apply(h *tar.Header, r io.Reader) error {
	dir, base, err := clean(h.Name)
	if err != nil {
		return err
	}
	switch {
	case base == opaqueMarker:
		return l.empty(dir)
	case strings.HasPrefix(base, whiteoutPrefix):
		return l.remove(dir, base[len(whiteoutPrefix):])
	}
	if err := l.tree.member(h, r); err != nil {
		return err
	}
	if parent, err := l.tree.directory(dir); err == nil && base != "" {
		l.brought[parent.children[base]] = true
	}
	return nil
}

func (l *layerState) remove(dir, base string) error {
	if base == "" || base == "." || base == ".." {
		return errors.New("a whiteout of no name")
	}
	parent, err := l.tree.directory(dir)
	if err != nil {
		return err
	}
	if old := parent.children[base]; old != nil && !l.keep(old) {
		delete(parent.children, base)
	}
	return nil
}

func (l *layerState) empty(dir string) error {
	parent, err := l.tree.directory(dir)
	if err != nil {
		return err
	}
	for name, child := range parent.children {
		if !l.keep(child) {
			delete(parent.children, name)
		}
	}
	return nil
}

// keep reports whether n or anything below it belongs to this layer, and removes
// everything else below n.
func (l *layerState) keep(n *inode) bool {
	kept := l.brought[n]
	for name, child := range n.children {
		if l.keep(child) {
			kept = true
		} else {
			delete(n.children, name)
		}
	}
	return kept
}

// member adds one member of an archive.
func (t *Tree) member(h *tar.Header, r io.Reader) error {
	dir, base, err := clean(h.Name)
	if err != nil {
		return err
	}
	e, ok, err := tarball.Entry(h)
	if err != nil || !ok {
		return err
	}
	if e.HardLink != "" {
		return t.hardLink(dir, base, e.HardLink)
	}
	n := newInode(e)
	if n.Mode.IsRegular() {
		if err := t.take(n, r, h.Size); err != nil {
			return err
		}
	}
	return t.put(dir, base, n)
}

func (t *Tree) hardLink(dir, base, target string) error {
	targetDir, targetBase, err := clean(target)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", target, err)
	}
	parent, err := t.directory(targetDir)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", target, err)
	}
	n := parent.children[targetBase]
	if n == nil || n.isDir() {
		return fmt.Errorf("hard link to %q, which is not a file before it", target)
	}
	return t.put(dir, base, n)
}

// Whiteouts in the form of overlayfs, as in a mounted layer (Linux:
// Documentation/filesystems/overlayfs.rst).
func overlayWhiteout() *inode {
	return &inode{Entry: tree.Entry{Mode: fs.ModeDevice | fs.ModeCharDevice | 0o644}}
}

// Overlay returns the tree that shows t when mounted over base: it holds what is new or
// differs in content, kind, mode, owner, link, device or attributes; names that only
// base has become whiteouts. The result reads from t, which must stay open. Times are
// not compared, because they differ between equal builds.
func (t *Tree) Overlay(ctx context.Context, base *Tree) (*Tree, error) {
	top, err := t.overlayDir(ctx, base, t.root, base.root, ".")
	if err != nil {
		return nil, fmt.Errorf("comparing with the base: %w", err)
	}
	if top == nil {
		top = &inode{Entry: t.root.Entry, children: map[string]*inode{}}
	}
	return &Tree{root: top, spool: t.spool, limit: t.limit}, nil
}

// overlayDir returns nil when nothing differs.
func (t *Tree) overlayDir(ctx context.Context, base *Tree, n, old *inode, name string) (*inode, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	out := *n
	out.children = map[string]*inode{}
	changed := !sameAttributes(n, old)
	for child := range old.children {
		if n.children[child] == nil {
			out.children[child], changed = overlayWhiteout(), true
		}
	}
	for child, c := range n.children {
		d, err := t.overlayChild(ctx, base, c, old.children[child], path.Join(name, child))
		if err != nil {
			return nil, err
		}
		if d != nil {
			out.children[child], changed = d, true
		}
	}
	if !changed {
		return nil, nil
	}
	return &out, nil
}

func (t *Tree) overlayChild(ctx context.Context, base *Tree, c, old *inode, name string) (*inode, error) {
	switch {
	case old == nil:
		return c, nil
	case c.isDir() && old.isDir():
		return t.overlayDir(ctx, base, c, old, name)
	case c.isDir():
		return c, nil // over a file: overlayfs shows the upper directory alone
	}
	same, err := t.same(base, c, old)
	if err != nil {
		return nil, fmt.Errorf("comparing %s: %w", name, err)
	}
	if same {
		return nil, nil
	}
	return c, nil
}
