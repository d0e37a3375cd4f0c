package rootfs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/pantavisor/pantavisor/formats/cpio"
	"github.com/pantavisor/pantavisor/formats/tarball"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/ctxio"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Names in a layer that remove files of the layers below (OCI image specification,
// "Whiteouts").
const (
	whiteoutPrefix = ".wh."
	opaqueMarker   = ".wh..wh..opq"
)

// Names that AUFS makes for itself.
const (
	aufsPrefix = ".wh..wh."
	aufsLinks  = ".wh..wh.plnk/"
)

// ApplyLayer applies one layer, an uncompressed tar stream, to the tree: its whiteouts
// remove files of earlier layers only, its other members are added. The order in which
// whiteouts and other members come makes no difference. Errors name the member.
func (t *Tree) ApplyLayer(ctx context.Context, layer io.Reader) error {
	c := &changes{tree: t, links: map[string]*inode{}}
	t.layers = append(t.layers, t.end)
	if err := t.eachMember(ctx, layer, c.collect); err != nil {
		return err
	}
	return c.apply()
}

// ApplyVerified is ApplyLayer for a layer whose content must have a SHA-256 in hex. It reads the
// stream to its end.
func (t *Tree) ApplyVerified(ctx context.Context, layer io.Reader, digest string) error {
	sum := sha256.New()
	all := io.TeeReader(ctxio.Reader(ctx, layer), sum)
	if err := t.ApplyLayer(ctx, all); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(all, maxTrailer)); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != digest {
		return fault.New(fault.Digest, "its bytes have the digest sha256:%s, not sha256:%s", got, digest)
	}
	return nil
}

// maxTrailer bounds what may follow a layer's last member, in bytes.
const maxTrailer = 64 << 20

// AddTar adds the members of an uncompressed tar archive; names that look like
// whiteouts have no meaning in it.
func (t *Tree) AddTar(ctx context.Context, archive io.Reader) error {
	return t.eachMember(ctx, archive, func(e tree.Entry, r io.Reader) error {
		dir, base, err := clean(e.Name)
		if err != nil {
			return err
		}
		if e.HardLink != "" {
			return t.hardLink(dir, base, e.HardLink)
		}
		n, err := t.inode(e, r)
		if err != nil {
			return err
		}
		return t.put(dir, base, n)
	})
}

// AddCpio adds the members of an uncompressed archive in the form newc. Of a file with several
// names the content may come with any of them, as GNU cpio and the kernel's own tools have it.
func (t *Tree) AddCpio(ctx context.Context, archive io.Reader) error {
	in := cpio.NewReader(archive)
	first := map[uint32]*inode{}
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if err := t.cpioMember(h, in, first); err != nil {
			return fmt.Errorf("reading the member %.200q: %w", h.Name, err)
		}
	}
}

// cpioMember adds one member; first has the files with several names by their numbers.
func (t *Tree) cpioMember(h *cpio.Header, r io.Reader, first map[uint32]*inode) error {
	dir, base, err := clean(h.Name)
	if err != nil {
		return err
	}
	linked := h.Mode.IsRegular() && h.Links > 1
	if n := first[h.Inode]; linked && n != nil {
		if h.Size > 0 {
			err = t.take(n, r, h.Size)
		}
		return errors.Join(err, t.put(dir, base, n))
	}
	n, err := t.inode(h.Entry, r)
	if err != nil {
		return err
	}
	if linked {
		first[h.Inode] = n
	}
	return t.put(dir, base, n)
}

func (t *Tree) eachMember(ctx context.Context, r io.Reader, do func(tree.Entry, io.Reader) error) error {
	in := tarball.NewReader(r)
	in.Passed = t.pass
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		e, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := do(e, in); err != nil {
			return fmt.Errorf("applying %.200q: %w", e.Name, err)
		}
	}
}

// inode returns the inode of a member, its content spooled.
func (t *Tree) inode(e tree.Entry, r io.Reader) (*inode, error) {
	n := t.newInode(e)
	if n.Mode.IsRegular() {
		return n, t.take(n, r, e.Size)
	}
	return n, nil
}

// changes are what one layer changes, collected so that all its whiteouts come first.
type changes struct {
	tree      *Tree
	whiteouts []change
	members   []change
	links     map[string]*inode // files of AUFS that only serve as targets of hard links
}

// change is a whiteout or a member of a layer.
type change struct {
	dir, base string // the name; a whiteout without base is of all that is in dir
	node      *inode // nil for a hard link
	link      string // target of a hard link
}

// collect reads one member. What AUFS left in a layer is dropped, as every program for
// images does: names that begin with ".wh..wh.", of which only the opaque marker is a
// whiteout.
func (c *changes) collect(e tree.Entry, r io.Reader) error {
	dir, base, err := clean(e.Name)
	if err != nil {
		return err
	}
	switch hidden, whiteout := strings.CutPrefix(base, whiteoutPrefix); {
	case strings.HasPrefix(dir, aufsLinks):
		return c.keepLink(dir+base, e, r)
	case strings.Contains("/"+dir, "/"+aufsPrefix):
		return nil
	case base == opaqueMarker:
		c.whiteouts = append(c.whiteouts, change{dir: dir})
	case strings.HasPrefix(base, aufsPrefix):
		return nil
	case whiteout && (hidden == "" || hidden == "." || hidden == ".."):
		return errors.New("a whiteout of no name")
	case whiteout:
		c.whiteouts = append(c.whiteouts, change{dir: dir, base: hidden})
	default:
		return c.add(change{dir: dir, base: base, link: e.HardLink}, e, r)
	}
	return nil
}

func (c *changes) add(m change, e tree.Entry, r io.Reader) (err error) {
	if len(c.members)+c.tree.names >= maxNames {
		return errTooMany
	}
	if m.link == "" {
		m.node, err = c.tree.inode(e, r)
	}
	c.members = append(c.members, m)
	return err
}

// keepLink keeps a file below ".wh..wh.plnk", where AUFS gives each file that has several
// names one more.
func (c *changes) keepLink(name string, e tree.Entry, r io.Reader) error {
	if !e.Mode.IsRegular() || e.HardLink != "" {
		return nil
	}
	if len(c.links) >= maxNames {
		return errTooMany
	}
	n, err := c.tree.inode(e, r)
	c.links[name] = n
	return err
}

// apply makes the changes.
func (c *changes) apply() error {
	for _, w := range c.whiteouts {
		c.tree.remove(w.dir, w.base)
	}
	for i, m := range c.members {
		if err := c.put(m); err != nil {
			return fmt.Errorf("applying %.200q: %w", m.dir+m.base, err)
		}
		c.members[i] = change{}
	}
	return nil
}

func (c *changes) put(m change) error {
	if m.link == "" {
		return c.tree.put(m.dir, m.base, m.node)
	}
	if dir, base, err := clean(m.link); err == nil && c.links[dir+base] != nil {
		return c.tree.put(m.dir, m.base, c.links[dir+base])
	}
	return c.tree.hardLink(m.dir, m.base, m.link)
}

// remove removes a name, whatever it is, or all that is in a directory.
func (t *Tree) remove(dir, base string) {
	parent := t.existing(dir)
	switch {
	case parent == nil:
	case base == "":
		clear(parent.children)
	default:
		delete(parent.children, base)
	}
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
	return &inode{Mode: fs.ModeDevice | fs.ModeCharDevice | 0o644}
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
		root := *t.root
		top = &root
		top.children = map[string]*inode{}
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
