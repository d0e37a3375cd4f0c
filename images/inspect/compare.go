package inspect

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/formats/bmap"
	"github.com/pantavisor/pantavisor/formats/region"
	"github.com/pantavisor/pantavisor/internal/cell"
	"github.com/pantavisor/pantavisor/internal/ctxio"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Kind is what happened to a thing.
type Kind string

// The kinds.
const (
	Added   Kind = "added"
	Removed Kind = "removed"
	Changed Kind = "changed"
)

// Difference is one thing that two trees of things do not have in common.
type Difference struct {
	Kind Kind `json:"kind"`
	// Part is the container or part of the revision that it is in; empty outside of one.
	Part string `json:"part,omitempty"`
	// Path are the names from the top down, and Form the format of what the last one holds:
	// "image.img", "partition 2", "trails/0/bsp/modules.squashfs", "lib/modules/...".
	Path []string `json:"path"`
	Form string   `json:"form,omitempty"`
	// Attributes are those that differ.
	Attributes []Change `json:"attributes,omitempty"`
	// Place is where the contents first differ, as their format names it, and Offset this
	// byte; nil when only attributes differ.
	Place  string `json:"place,omitempty"`
	Offset *int64 `json:"offset,omitempty"`
	// Problem is why one of the two could not be looked into.
	Problem string `json:"problem,omitempty"`
	// OldBytes and NewBytes are the sizes of the content.
	OldBytes int64 `json:"old_bytes"`
	NewBytes int64 `json:"new_bytes"`
	// Derived is set for what follows from other differences: identifiers, and documents with
	// digests of content.
	Derived bool `json:"derived,omitempty"`
	// Details are what is known about the content: packages, options, keys.
	Details []Detail `json:"details,omitempty"`

	// Repeated is set for a difference of an export that the image of the same build has too.
	Repeated bool `json:"repeated,omitempty"`

	names   int  // things below it that are not listed
	counted bool // it is a file of the outermost file system or revision: sums have its size
}

// Change is a value that differs; it is empty where there is none.
type Change struct {
	Name string `json:"name"`
	Old  string `json:"old,omitempty"`
	New  string `json:"new,omitempty"`
}

// Name returns the path as text that can be printed, without the steps through compression.
func (d *Difference) Name() string {
	names := slices.DeleteFunc(slices.Clone(d.Path), func(name string) bool { return name == unpacked })
	if len(names) == 0 {
		return "the whole"
	}
	return cell.Printable(strings.Join(names, ": "))
}

// comparison is one run of Compare.
type comparison struct {
	*Reader
	out  []Difference
	same map[[2]string]bool // pairs of contents by ID that are equal
	part string             // of the revision, in which the run is
	// level counts the lists of files that the run is in, the outermost first.
	level int
}

// Compare returns how b differs from a, in the order of a. It is empty when both are the same.
func (r *Reader) Compare(ctx context.Context, a, b *Node) ([]Difference, error) {
	c := &comparison{Reader: r, same: map[[2]string]bool{}}
	ia, ib, err := r.align(ctx, a, b)
	if err != nil {
		return nil, err
	}
	if ia != nil && ib != nil {
		_, err = c.insides(ctx, []string{}, ia, ib)
		return c.out, err
	}
	_, err = c.nodes(ctx, []string{}, a, b)
	return c.out, err
}

// align looks into two things of different form, so that they have one: of two builds, of an
// image in a build, or of the revision that both have. The results are nil when they need not be
// looked into.
func (r *Reader) align(ctx context.Context, a, b *Node) (ia, ib *Inside, err error) {
	same, err := sameForm(a, b)
	if same || err != nil {
		return nil, nil, err
	}
	ia, err = r.whole(ctx, a)
	if err == nil {
		ib, err = r.whole(ctx, b)
	}
	if err == nil && ia != nil && ib != nil {
		if ia, err = r.artefact(ctx, ia, ib.Form); err == nil {
			ib, err = r.artefact(ctx, ib, ia.Form)
		}
	}
	if err != nil || ia == nil || ib == nil || comparable(ia.Form, ib.Form) {
		return ia, ib, err
	}
	return r.revisions(ctx, a.Name, b.Name, ia, ib)
}

// sameForm reports whether two contents have one format, or one whose format is not known.
func sameForm(a, b *Node) (bool, error) {
	if a.inside != nil || b.inside != nil {
		return false, nil
	}
	fa, errA := formatOf(a.Content)
	fb, errB := formatOf(b.Content)
	return fa == nil || fb == nil || fa == fb, errors.Join(errA, errB)
}

// revisions returns the revisions that are in two things with nothing else in common.
func (r *Reader) revisions(ctx context.Context, a, b string, ia, ib *Inside) (ra, rb *Inside, err error) {
	ra, errA := r.revision(ctx, ia, 0)
	rb, errB := r.revision(ctx, ib, 0)
	err = errors.Join(errA, errB)
	switch {
	case ctx.Err() != nil:
		return nil, nil, ctx.Err()
	case ofMachine(errA) || ofMachine(errB):
		return nil, nil, err
	case ra != nil && rb != nil:
		return ra, rb, nil
	case err != nil:
		return nil, nil, fault.New(fault.BadInput, "%s is %s and %s is %s: no revision was found in both: %w", a, ia.Form, b, ib.Form, err)
	}
	return nil, nil, fault.New(fault.BadInput, "%s is %s and %s is %s: they have nothing in common to compare", a, ia.Form, b, ib.Form)
}

// artefact returns the file of a build that is to be compared with something of another form:
// its image with an image, its export with a revision. Anything else is returned as it is.
func (r *Reader) artefact(ctx context.Context, in *Inside, other string) (*Inside, error) {
	want := imagePrefix
	switch {
	case in.Form != formBuild || other == formBuild:
		return in, nil
	case other == formRevision:
		want = exportPrefix
	case !isTable(other):
		return in, nil
	}
	for _, n := range in.Nodes {
		if strings.HasPrefix(n.Name, want) {
			return r.whole(ctx, n)
		}
	}
	return in, nil
}

// comparable reports whether things of two forms have the same kinds of parts.
func comparable(a, b string) bool {
	tables := []string{"gpt", "mbr", "hybrid"}
	return a == b || slices.Contains(tables, a) && slices.Contains(tables, b)
}

// filesOf reports whether a form is that of a list of files, and not of disks or partitions.
func filesOf(form string) bool {
	switch form {
	case "ext4", "ubifs", "fat16", "fat32", "squashfs", "cpio", "tar", formRevision, formDirectory:
		return true
	}
	return false
}

// isTable reports whether a form is that of a disk.
func isTable(form string) bool {
	return form == "gpt" || form == "mbr" || form == "hybrid" || form == "ubi" || form == "ubifs" || form == "ext4"
}

// whole looks into a thing, and through compression.
func (r *Reader) whole(ctx context.Context, n *Node) (*Inside, error) {
	in, err := r.inside(ctx, n)
	if err != nil || in == nil || len(in.Nodes) != 1 || in.Nodes[0].Name != unpacked || in.Form == "uImage" {
		return in, err
	}
	return r.whole(ctx, in.Nodes[0])
}

// inside looks into a node.
func (r *Reader) inside(ctx context.Context, n *Node) (*Inside, error) {
	if n.inside != nil {
		return n.inside, nil
	}
	return r.Inside(ctx, n.Content)
}

// below returns a path with one more name.
func below(path []string, name string) []string {
	return append(append(make([]string, 0, len(path)+1), path...), name)
}

// nodes compares two things with one name and reports whether they differ.
func (c *comparison) nodes(ctx context.Context, path []string, a, b *Node) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if a.part != "" {
		defer func(outer string) { c.part = outer }(c.part)
		c.part = a.part
	}
	d := Difference{Kind: Changed, Part: c.part, Path: path, Derived: true, counted: c.level == 1}
	d.Attributes = changes(a.Attributes, b.Attributes, &d.Derived)
	inner, err := c.contents(ctx, path, a, b, &d)
	if err != nil {
		return false, err
	}
	if len(d.Attributes) == 0 && d.Offset == nil && d.Problem == "" && !c.sizesDiffer(a, b) {
		return inner, nil
	}
	if inner && a.Name == unpacked && len(d.Attributes) == 0 {
		return true, nil
	}
	d.OldBytes, d.NewBytes = sizeOf(a), sizeOf(b)
	if inner && len(d.Attributes) == 0 && d.Offset == nil && d.Problem == "" { // the size alone
		d.Derived = true
	}
	c.out = append(c.out, d)
	return true, nil
}

// sizesDiffer reports whether one of two things has content of another size, or none.
func (c *comparison) sizesDiffer(a, b *Node) bool {
	return (a.Content == nil) != (b.Content == nil) || sizeOf(a) != sizeOf(b)
}

func sizeOf(n *Node) int64 {
	if n.Content == nil {
		return 0
	}
	return n.Content.Size
}

// changes returns the attributes that differ; derived becomes false when one of them is not
// derived.
func changes(a, b []Attribute, derived *bool) (out []Change) {
	values := map[string]string{}
	for _, x := range b {
		values[x.Name] = x.Value
	}
	for _, x := range a {
		if v, ok := values[x.Name]; !ok || v != x.Value {
			out = append(out, Change{x.Name, x.Value, v})
			*derived = *derived && x.Derived
		}
		delete(values, x.Name)
	}
	for _, x := range b {
		if _, ok := values[x.Name]; ok {
			out = append(out, Change{Name: x.Name, New: x.Value})
			*derived = *derived && x.Derived
		}
	}
	return out
}

// contents compares the contents of two things, first as they are, then what is inside. It
// reports whether something inside differs; what differs otherwise goes into d.
func (c *comparison) contents(ctx context.Context, path []string, a, b *Node, d *Difference) (bool, error) {
	ca, cb := a.Content, b.Content
	if ca == nil || cb == nil {
		d.Derived = d.Derived && ca == cb
		return false, nil
	}
	at, err := c.first(ctx, ca, cb)
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case ofMachine(err):
		return false, fault.Wrap(fault.IO, err, "comparing %s", d.Name())
	case err != nil:
		d.Problem, d.Derived = err.Error(), false
	case at < 0:
		return false, nil
	}
	if ca.Open == nil || cb.Open == nil { // only digests are known
		d.Offset, d.Derived = &at, false
		return false, nil
	}
	return c.looked(ctx, path, ca, cb, at, d)
}

// ofMachine reports whether an error is about this machine, and says nothing about what is read.
func ofMachine(err error) bool {
	kind := fault.Of(err)
	return kind == fault.IO || kind == fault.NoSpace || kind == fault.Cancelled
}

// looked looks into two contents that differ from a byte on. What it unpacks is gone when it
// returns.
func (c *comparison) looked(ctx context.Context, path []string, a, b *Content, at int64, d *Difference) (inner bool, err error) {
	mark := len(c.open)
	defer func() { err = errors.Join(err, c.closeFrom(mark)) }()
	ia, ib, err := c.both(ctx, a, b, d)
	if err != nil {
		return false, err
	}
	if d.Problem == "" && ia != nil && ib != nil && comparable(ia.Form, ib.Form) {
		if inner, err := c.formed(ctx, path, ia, ib, d); inner || err != nil {
			return true, err
		}
	}
	// What is not in a file follows from an identifier that has changed.
	d.Derived = d.Derived && d.Form != "" && len(d.Attributes) > 0
	d.Offset = &at
	if d.Place = place(ctx, at, ia, ib); ia == nil && ib == nil && d.Problem == "" {
		d.Details = explain(ctx, path, a, b)
		d.Derived = isDocument(path)
	}
	return false, ctx.Err()
}

// both looks into two contents. That one of them is damaged goes into d.
func (c *comparison) both(ctx context.Context, a, b *Content, d *Difference) (ia, ib *Inside, err error) {
	var errA, errB error
	if len(d.Path) < maxNested {
		ia, errA = c.Inside(ctx, a)
		ib, errB = c.Inside(ctx, b)
	}
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	for _, err := range []error{errA, errB} {
		if ofMachine(err) {
			return nil, nil, fault.Wrap(fault.IO, err, "looking into %s", d.Name())
		}
	}
	if d.Problem == "" {
		d.Problem = problem(errA, errB)
	}
	return ia, ib, nil
}

// first returns the offset of the first byte in which two contents differ, -1 for none. Pairs
// that were found to be equal are remembered.
func (c *comparison) first(ctx context.Context, a, b *Content) (int64, error) {
	pair := [2]string{a.ID, b.ID}
	known := a.ID != "" && b.ID != ""
	if known && c.same[pair] {
		return -1, nil
	}
	at, err := firstDifference(ctx, a, b)
	if known && at < 0 && err == nil {
		c.same[pair] = true
	}
	return at, err
}

// formed compares the attributes of two things of one form and what is in them. It reports
// whether something in them differs.
func (c *comparison) formed(ctx context.Context, path []string, a, b *Inside, d *Difference) (bool, error) {
	d.Form = b.Form
	if a.Form != b.Form {
		d.Attributes = append(d.Attributes, Change{"form", a.Form, b.Form})
		d.Derived = false
	}
	d.Attributes = append(d.Attributes, changes(a.Attributes, b.Attributes, &d.Derived)...)
	return c.insides(ctx, path, a, b)
}

// isDocument reports whether a file is the document of a revision, in which digests follow from
// the contents.
func isDocument(path []string) bool {
	return len(path) > 0 && strings.HasSuffix(path[len(path)-1], "/.pvr/json")
}

// problem returns which of two things cannot be looked into.
func problem(a, b error) string {
	switch {
	case a != nil && b != nil:
		return "neither can be read: " + b.Error()
	case a != nil:
		return "the first cannot be read: " + a.Error()
	case b != nil:
		return "the second cannot be read: " + b.Error()
	}
	return ""
}

// place names where a byte is, by the first of two descriptions that knows it.
func place(ctx context.Context, at int64, both ...*Inside) string {
	for _, in := range both {
		if in == nil || in.regions == nil {
			continue
		}
		found := region.Find(at)
		_ = in.regions(ctx, found.Add) // where there is damage, what could be described counts
		if r, ok := found.Place(); ok {
			name := in.Form + ": " + r.Name
			if r.File != "" {
				name += " of " + r.File
			}
			return name
		}
	}
	return ""
}

// insides compares what is in two things of one form, and reports whether something differs.
func (c *comparison) insides(ctx context.Context, path []string, a, b *Inside) (bool, error) {
	if c.level > 0 || filesOf(a.Form) {
		c.level++
		defer func() { c.level-- }()
	}
	differ := false
	for i, j := 0, 0; i < len(a.Nodes) || j < len(b.Nodes); {
		order := 0
		switch {
		case i == len(a.Nodes):
			order = 1
		case j == len(b.Nodes):
			order = -1
		default:
			order = strings.Compare(a.Nodes[i].Name, b.Nodes[j].Name)
		}
		switch {
		case order < 0:
			c.one(Removed, path, a.Nodes[i])
			i, differ = i+1, true
		case order > 0:
			c.one(Added, path, b.Nodes[j])
			j, differ = j+1, true
		default:
			inner, err := c.nodes(ctx, below(path, a.Nodes[i].Name), a.Nodes[i], b.Nodes[j])
			if err != nil {
				return false, err
			}
			i, j, differ = i+1, j+1, differ || inner
		}
	}
	return differ, nil
}

// one adds a thing that only one side has.
func (c *comparison) one(kind Kind, path []string, n *Node) {
	d := Difference{Kind: kind, Part: cmp.Or(n.part, c.part), Path: below(path, n.Name), counted: c.level == 1}
	if n.Content == nil {
		d.Form = "no content"
	}
	if kind == Added {
		d.NewBytes = sizeOf(n)
	} else {
		d.OldBytes = sizeOf(n)
	}
	c.out = append(c.out, d)
}

// bufferSize is how much of two contents is compared at once, in bytes.
const bufferSize = 256 << 10

// firstDifference returns the offset of the first byte in which two contents differ, -1 for none.
func firstDifference(ctx context.Context, a, b *Content) (int64, error) {
	if a.Open == nil || b.Open == nil {
		return compareSums(ctx, a, b)
	}
	if a.member != nil && b.member != nil {
		if same, err := a.member.SameStored(b.member); same && err == nil {
			return -1, nil
		}
	}
	if a.At != nil && b.At != nil {
		return differenceAt(ctx, a, b)
	}
	return differenceOfStreams(ctx, a, b)
}

// compareSums compares contents of which one is known by its digest alone.
func compareSums(ctx context.Context, a, b *Content) (int64, error) {
	sa, err := a.digest(ctx)
	if err != nil {
		return 0, err
	}
	sb, err := b.digest(ctx)
	if err != nil || sa == sb {
		return -1, err
	}
	return 0, nil
}

// digest returns the SHA-256 of a content.
func (c *Content) digest(ctx context.Context) (string, error) {
	if c.sum != "" || c.Open == nil {
		return c.sum, nil
	}
	in, err := c.Open()
	if err != nil {
		return "", err
	}
	defer in.Close()
	h := sha256.New()
	if _, err := io.Copy(h, ctxio.Reader(ctx, in)); err != nil {
		return "", err
	}
	c.sum = hex.EncodeToString(h.Sum(nil))
	return c.sum, nil
}

// differenceAt compares what one of two contents has data for; all else is zeros in both.
func differenceAt(ctx context.Context, a, b *Content) (int64, error) {
	bufA, bufB := make([]byte, bufferSize), make([]byte, bufferSize)
	shorter := min(a.Size, b.Size)
	for _, e := range union(a.Data, b.Data, shorter) {
		for at := e.Offset; at < e.Offset+e.Length; at += bufferSize {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			n := min(bufferSize, e.Offset+e.Length-at)
			for _, side := range []struct {
				c    *Content
				into []byte
			}{{a, bufA[:n]}, {b, bufB[:n]}} {
				if got, err := side.c.At.ReadAt(side.into, at); int64(got) < n {
					return at + int64(got), fmt.Errorf("reading %d bytes at %d: %w", n, at, err)
				}
			}
			if !bytes.Equal(bufA[:n], bufB[:n]) {
				return at + int64(mismatch(bufA[:n], bufB[:n])), nil
			}
		}
	}
	if a.Size != b.Size {
		return shorter, nil
	}
	return -1, nil
}

func mismatch(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return len(a)
}

// union joins the extents of two contents up to an end; nil is everything.
func union(a, b []bmap.Extent, end int64) (out []bmap.Extent) {
	if a == nil || b == nil {
		return []bmap.Extent{{Offset: 0, Length: end}}
	}
	for i, j := 0, 0; i < len(a) || j < len(b); {
		var e bmap.Extent
		if j == len(b) || i < len(a) && a[i].Offset <= b[j].Offset {
			e = a[i]
			i++
		} else {
			e = b[j]
			j++
		}
		e.Length = min(e.Length, end-e.Offset)
		if last := len(out) - 1; last >= 0 && out[last].Offset+out[last].Length >= e.Offset {
			out[last].Length = max(out[last].Length, e.Offset+e.Length-out[last].Offset)
		} else if e.Length > 0 {
			out = append(out, e)
		}
	}
	return out
}

// differenceOfStreams reads two contents from front to end.
func differenceOfStreams(ctx context.Context, a, b *Content) (int64, error) {
	ra, err := a.Open()
	if err != nil {
		return 0, err
	}
	defer ra.Close()
	rb, err := b.Open()
	if err != nil {
		return 0, err
	}
	defer rb.Close()
	bufA, bufB := make([]byte, bufferSize), make([]byte, bufferSize)
	for at := int64(0); ; at += bufferSize {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		na, errA := io.ReadFull(ra, bufA)
		nb, errB := io.ReadFull(rb, bufB)
		for _, err := range []error{errA, errB} {
			if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return at, err
			}
		}
		n := min(na, nb)
		if i := mismatch(bufA[:n], bufB[:n]); i < n || na != nb {
			return at + int64(i), nil
		}
		if errA != nil {
			return -1, nil
		}
	}
}
