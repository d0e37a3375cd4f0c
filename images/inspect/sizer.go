package inspect

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/cell"
)

// sizer measures one thing.
type sizer struct {
	*Reader
	firmware bool // what is looked into is the file system with firmware
}

// node returns a thing that takes so many bytes on the medium.
func (s *sizer) node(ctx context.Context, n *Node, bytes int64, deep int) (*Sized, error) {
	out := &Sized{Name: label(n), Bytes: bytes, Sort: SortFile}
	if n.Content != nil {
		out.Unpacked = n.Content.Size
	}
	if s.named(n, out) || deep == maxNested || !worthLooking(n) {
		return out, ctx.Err()
	}
	mark := len(s.open)
	defer func() { _ = s.closeFrom(mark) }() // temporary files: what was read of them is here
	inside, content, err := s.unpacked(ctx, n)
	switch {
	case ofMachine(err):
		return out, err
	case err != nil:
		out.Problem = cell.Printable(err.Error())
	}
	if inside == nil || len(inside.Nodes) == 0 {
		if n.Content.Size <= maxProgram {
			s.program(ctx, n, out)
		}
		return out, ctx.Err()
	}
	out.Sort = SortArchive
	if isDiskForm(inside.Form) {
		out.Sort = SortDisk
	}
	s.named(n, out) // a partition
	defer func(outer bool) { s.firmware = outer }(s.firmware)
	s.firmware = strings.HasPrefix(path.Base(n.Name), "firmware.")
	return out, s.parts(ctx, inside, content, out, deep)
}

// label is the name of a thing; partitions have one in the table too.
func label(n *Node) string {
	for _, a := range n.Attributes {
		if a.Name == "name" && a.Value != "" && strings.HasPrefix(n.Name, "partition ") {
			return cell.Printable(n.Name + " " + a.Value)
		}
	}
	return cell.Printable(n.Name)
}

// isDiskForm reports whether a form is that of a medium.
func isDiskForm(form string) bool {
	return slices.Contains([]string{"gpt", "mbr", "hybrid", "ubi"}, form)
}

// unpacked looks into a thing and, where that is only compressed, into what it unpacks to. The
// content is the one that the result is in.
func (s *sizer) unpacked(ctx context.Context, n *Node) (*Inside, *Content, error) {
	content := n.Content
	in, err := s.inside(ctx, n)
	for range maxOuter {
		if err != nil || in == nil || len(in.Nodes) != 1 || in.Nodes[0].Name != unpacked {
			break
		}
		inner := in.Nodes[0]
		deeper, wrong := s.inside(ctx, inner)
		if deeper == nil || wrong != nil {
			break
		}
		in, content = deeper, inner.Content
	}
	return in, content, err
}

// parts measures what is inside of a thing, and puts it below out.
func (s *sizer) parts(ctx context.Context, in *Inside, content *Content, out *Sized, deep int) error {
	var nodes []*Node
	var raw []float64
	sum := 0.0
	seen := map[string]bool{}
	for _, n := range in.Nodes {
		size := portion(n.Content, content)
		if size == 0 || n.Content.ID != "" && seen[n.Content.ID] {
			continue // directories, links, empty files
		}
		seen[n.Content.ID] = true
		nodes, raw = append(nodes, n), append(raw, size)
		sum += size
	}
	whole := 0.0
	if content != nil {
		whole = float64(content.stored())
		if content.blocks != nil {
			whole = content.packed(0, content.Size)
		}
	}
	scale := float64(out.Bytes) / max(whole, sum, 1)
	packages := s.packages(ctx, in)
	top := &folder{Sized: out}
	left := out.Bytes
	for i, n := range nodes {
		bytes := min(int64(raw[i]*scale), left)
		left -= bytes
		one, err := s.node(ctx, n, bytes, deep+1)
		if err != nil {
			return err
		}
		one.Package = packages[cleaned(n.Name)]
		top.add(strings.Split(cleaned(n.Name), "/"), one)
	}
	if left > 0 {
		out.Parts = append(out.Parts, &Sized{Name: overhead(in.Form), Sort: SortRest, Bytes: left})
	}
	arrange(out)
	return nil
}

// portion returns how much a part takes of the thing that it is in.
func portion(part, of *Content) float64 {
	switch {
	case part == nil:
		return 0
	case of != nil && of.blocks != nil && part.known:
		return of.packed(part.from, part.Size)
	}
	return float64(part.stored())
}

// overhead is the name of what a form needs for itself.
func overhead(form string) string { return fmt.Sprintf("(%s itself)", form) }

// cleaned is a name as a path below the top.
func cleaned(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// folder is a thing with its directories.
type folder struct {
	*Sized
	folders map[string]*folder
}

// add adds a thing at a path.
func (f *folder) add(names []string, one *Sized) {
	if len(names) == 1 {
		f.Parts = append(f.Parts, one)
		return
	}
	at := f
	for _, name := range names[:min(len(names)-1, maxDirectory)] {
		next := at.folders[name]
		if next == nil {
			next = &folder{Sized: &Sized{Name: cell.Printable(name), Sort: SortDirectory}}
			if at.folders == nil {
				at.folders = map[string]*folder{}
			}
			at.folders[name] = next
			at.Parts = append(at.Parts, next.Sized)
		}
		next.Bytes += one.Bytes
		next.Unpacked += one.Unpacked
		at = next
	}
	one.Name = cell.Printable(names[len(names)-1])
	at.Parts = append(at.Parts, one)
}

// arrange sorts what is in a thing by size, and joins a directory with the only one in it.
func arrange(t *Sized) {
	for _, p := range t.Parts {
		if p.Sort != SortDirectory {
			continue
		}
		for len(p.Parts) == 1 && p.Parts[0].Sort == SortDirectory {
			p.Name, p.Parts = p.Name+"/"+p.Parts[0].Name, p.Parts[0].Parts
		}
		arrange(p)
	}
	slices.SortStableFunc(t.Parts, func(a, b *Sized) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), strings.Compare(a.Name, b.Name))
	})
}

// named says what a file is whose name says it, which is then not looked into.
func (s *sizer) named(n *Node, out *Sized) bool {
	base := path.Base(n.Name)
	switch {
	case strings.HasPrefix(n.Name, "partition ") || strings.HasPrefix(n.Name, "volume "):
		out.Sort = SortPartition
		return false
	case isKernel(base) && out.Unpacked > 1<<20:
		out.Sort = SortKernel
	case strings.HasSuffix(base, ".ko") || strings.Contains(base, ".ko."):
		out.Sort = SortModule
	case s.firmware || strings.Contains(n.Name, "lib/firmware/"):
		out.Sort = SortFirmware
	default:
		return false
	}
	return true
}

// worthLooking reports whether a thing may have others in it. To look at a file of a compressed
// file system it has to be unpacked.
func worthLooking(n *Node) bool {
	switch {
	case n.inside != nil:
		return true
	case n.Content == nil || n.Content.Open == nil:
		return false
	case n.Content.member != nil:
		return n.Content.Size >= minMember
	}
	return n.Content.Size >= minInside
}

// packages returns the names of the packages that files are of, by their paths, from the databases
// of dpkg and apk in a file system. One that cannot be read has nothing to say.
func (s *sizer) packages(ctx context.Context, in *Inside) map[string]string {
	out := map[string]string{}
	for _, n := range in.Nodes {
		if ctx.Err() != nil || n.Content == nil || n.Content.Open == nil || n.Content.Size > maxDatabase {
			continue
		}
		name := cleaned(n.Name)
		dir, base := path.Split(name)
		switch {
		case strings.HasSuffix(dir, "var/lib/dpkg/info/") && strings.HasSuffix(base, ".list"):
			pkg, _, _ := strings.Cut(strings.TrimSuffix(base, ".list"), ":")
			readLines(n.Content, func(line string) { out[cleaned(line)] = pkg })
		case strings.HasSuffix(name, "lib/apk/db/installed"):
			apkFiles(n.Content, out)
		}
	}
	return out
}

// apkFiles adds the files of apk's database: P is the package, F a directory, R a file of it.
func apkFiles(c *Content, out map[string]string) {
	pkg, dir := "", ""
	readLines(c, func(line string) {
		kind, value, _ := strings.Cut(line, ":")
		switch kind {
		case "P":
			pkg = value
		case "F":
			dir = value
		case "R":
			out[cleaned(dir+"/"+value)] = pkg
		}
	})
}

// readLines calls do for each line of a text.
func readLines(c *Content, do func(line string)) {
	in, err := c.Open()
	if err != nil {
		return
	}
	defer in.Close()
	text, err := bounded.ReadSized(in, c.Size, maxDatabase)
	if err != nil {
		return
	}
	lines := bufio.NewScanner(strings.NewReader(string(text)))
	for lines.Scan() {
		do(lines.Text())
	}
}

// at returns access to any part of a content, unpacked where it is in a compressed file system.
func (s *sizer) at(ctx context.Context, c *Content) (io.ReaderAt, error) {
	if c.At != nil {
		return c.At, nil
	}
	spooled, err := s.spool(ctx, c.Open)
	if err != nil {
		return nil, err
	}
	if spooled.At == nil {
		return nil, errors.New("it cannot be read")
	}
	return spooled.At, nil
}
