package inspect

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/cell"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/repo"
	"github.com/pantavisor/pantavisor/revision/state"
)

// maxState bounds the document of a revision, in bytes.
const maxState = 64 << 20

// exported turns the members of an archive that is an export into the parts of its revision.
func exported(in *Inside) error {
	var doc *Content
	sums := map[string]*Node{}
	for _, n := range in.Nodes {
		sum, ok := strings.CutPrefix(n.Name, objectsDir)
		switch {
		case n.Name == "json":
			doc = n.Content
		case ok && state.IsSum(sum):
			sums[sum] = n
		default:
			if n.Name != "." && n.Name != "objects" {
				return nil // another archive
			}
		}
	}
	if doc == nil {
		return nil
	}
	st, err := parseState(doc)
	if err != nil {
		return err
	}
	in.Form = formRevision
	in.Nodes = revisionNodes(st, func(_, sum string) *Content {
		if n := sums[sum]; n != nil && n.Content != nil {
			c := *n.Content
			c.ID = sum
			return &c
		}
		return nil
	})
	return nil
}

// revisionNodes returns the parts of a revision by their keys. An object that is not at hand is
// known by its digest.
func revisionNodes(st *state.State, object func(key, sum string) *Content) (out []*Node) {
	for _, key := range st.Keys() {
		n := &Node{Name: key, part: state.PartOf(key)}
		if sum, ok := st.Object(key); ok {
			if n.Content = object(key, sum); n.Content == nil {
				n.Content = &Content{sum: sum}
			}
		} else if value, ok := st.Get(key); ok {
			n.Content = textContent(value)
		}
		out = append(out, n)
	}
	return out
}

// textContent returns a content in memory.
func textContent(text []byte) *Content {
	return atContent(bytes.NewReader(text), int64(len(text)), nil)
}

// State opens a revision of which only the document is at hand, as a device answers it.
func (r *Reader) State(name string, document []byte) (*Node, error) {
	st, err := state.Parse(document)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading the revision of %s", name)
	}
	nodes := revisionNodes(st, func(string, string) *Content { return nil })
	return &Node{Name: name, inside: &Inside{Form: formRevision, Nodes: nodes}}, nil
}

// formRevision is the form of exports, checkouts and revisions of devices alike.
const formRevision = "revision"

// formBuild is that of what a build has left.
const formBuild = "build"

// formDirectory is that of any other directory of this machine.
const formDirectory = "directory"

// directory opens a checkout, what a build has left of a target, or any directory.
func (r *Reader) directory(ctx context.Context, dir string) (*Node, error) {
	node := &Node{Name: filepath.Base(filepath.Clean(dir))}
	for _, pvr := range []string{filepath.Join(dir, repo.Dir), dir} {
		text, err := bounded.ReadFile(filepath.Join(pvr, "json"), maxState)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fault.Wrap(fault.IO, err, "reading the checkout %s", dir)
		}
		st, err := state.Parse(text)
		if err != nil {
			return nil, fault.Wrap(fault.BadInput, err, "reading the checkout %s", dir)
		}
		var problem error
		nodes := revisionNodes(st, func(key, sum string) *Content {
			c, err := r.file(filepath.Join(pvr, "objects", sum))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				problem = cmp.Or(problem, err)
			}
			return c
		})
		if problem != nil {
			return nil, problem
		}
		node.inside = &Inside{Form: formRevision, Nodes: nodes}
		return node, nil
	}
	in := &Inside{Form: formDirectory}
	node.inside = in
	switch _, err := os.Stat(filepath.Join(dir, build.ReportName)); {
	case err == nil:
		return node, r.built(ctx, dir, in)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fault.Wrap(fault.IO, err, "opening what to compare")
	}
	return node, tree.Walk(ctx, dir, tree.Options{Xattrs: true}, func(e tree.Entry) error {
		n := &Node{Name: e.Name, Attributes: attributes(&e)}
		if e.Open != nil && e.HardLink == "" {
			n.Content = &Content{Size: e.Size, Open: e.Open}
		}
		in.Nodes = append(in.Nodes, n)
		return nil
	})
}

// built opens what a build has left: the files that its report lists, by what they are. Their
// names have that of the target, so that two targets would have nothing in common.
func (r *Reader) built(ctx context.Context, dir string, in *Inside) error {
	report, err := build.LoadReport(filepath.Join(dir, build.ReportName))
	if err != nil {
		return err
	}
	in.Form = formBuild
	for _, a := range report.Artefacts {
		name := artefactName(report.Target, a.Path)
		if strings.HasSuffix(a.Path, ".bmap") {
			continue // it follows from the image
		}
		if !filepath.IsLocal(filepath.FromSlash(a.Path)) {
			return fault.New(fault.BadInput, "the report in %s names %q, which is not in that directory", dir, a.Path)
		}
		file := filepath.Join(dir, filepath.FromSlash(a.Path))
		if info, err := os.Stat(file); err == nil && info.IsDir() {
			if err := in.below(ctx, file, name); err != nil {
				return err
			}
			continue
		}
		c, err := r.file(file)
		if err != nil {
			return err
		}
		in.Nodes = append(in.Nodes, &Node{Name: name, Content: c})
	}
	slices.SortStableFunc(in.Nodes, func(a, b *Node) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

// below adds the files below a directory that a build has left.
func (in *Inside) below(ctx context.Context, dir, name string) error {
	return tree.Walk(ctx, dir, tree.Options{}, func(e tree.Entry) error {
		if e.Open != nil && e.HardLink == "" {
			in.Nodes = append(in.Nodes, &Node{Name: path.Join(name, e.Name), Content: &Content{Size: e.Size, Open: e.Open}})
		}
		return nil
	})
}

// artefactName is the name of an artefact without that of its target and the size of an image.
func artefactName(target, file string) string {
	name := strings.TrimPrefix(file, target)
	if i := strings.Index(name, ".img"); i >= 0 {
		return "image" + name[i:]
	}
	if strings.HasSuffix(name, ".pvr.tgz") && name != file {
		return "export" + name
	}
	return name
}

// trailDir is where the storage has revision 0.
const trailDir = "trails/0/"

// node returns the part of a name, nil when there is none.
func (in *Inside) node(name string) *Node {
	i, ok := slices.BinarySearchFunc(in.Nodes, name, func(n *Node, name string) int { return strings.Compare(n.Name, name) })
	if !ok {
		return nil
	}
	return in.Nodes[i]
}

// revision returns the revision that is in something: in the storage of a disk, or the thing
// itself. Without one the result is nil, with the errors about what could not be looked into.
// deep counts what is around it.
func (r *Reader) revision(ctx context.Context, in *Inside, deep int) (*Inside, error) {
	if in.Form == formRevision {
		return in, nil
	}
	if doc := in.node(trailDir + repo.Dir + "/json"); doc != nil && doc.Content != nil {
		return trailRevision(in, doc.Content)
	}
	var problems []error
	for _, n := range in.Nodes {
		if !isOuter(n.Name) || deep == maxOuter {
			continue
		}
		inner, err := r.inside(ctx, n)
		if err == nil && inner != nil {
			var found *Inside
			if found, err = r.revision(ctx, inner, deep+1); found != nil {
				return found, nil
			}
		}
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case ofMachine(err):
			return nil, fault.Wrap(fault.IO, err, "looking for a revision in %s", cell.Printable(n.Name))
		case err != nil && len(problems) < maxProblems: // another one may have it
			problems = append(problems, fmt.Errorf("looking for a revision in %s: %w", cell.Printable(n.Name), err))
		}
	}
	return nil, errors.Join(problems...)
}

// maxProblems is how many errors about parts of one thing are kept.
const maxProblems = 4

// maxOuter is how many things are around a storage: a disk, a partition and compression.
const maxOuter = 6

// isOuter reports whether a name is that of something that may have the storage in it.
func isOuter(name string) bool {
	return name == unpacked || slices.ContainsFunc([]string{"partition ", "volume ", imagePrefix, exportPrefix}, func(start string) bool {
		return strings.HasPrefix(name, start)
	})
}

// Names of what a build has left begin with these.
const (
	imagePrefix  = "image."
	exportPrefix = "export."
)

// trailRevision returns the revision of a storage.
func trailRevision(in *Inside, doc *Content) (*Inside, error) {
	st, err := parseState(doc)
	if err != nil {
		return nil, err
	}
	return &Inside{Form: formRevision, Nodes: revisionNodes(st, func(key, sum string) *Content {
		if n := in.node(trailDir + key); n != nil && n.Content != nil {
			return n.Content
		}
		if n := in.node(objectsDir + sum); n != nil {
			return n.Content
		}
		return nil
	})}, nil
}

// parseState reads the document of a revision.
func parseState(c *Content) (*state.State, error) {
	in, err := c.Open()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	text, err := bounded.ReadSized(in, c.Size, maxState)
	if err != nil {
		return nil, fmt.Errorf("reading the state: %w", err)
	}
	return state.Parse(text)
}
