package inspect

// Bound sets how many contents are looked into, and how many bytes the names of one archive or file
// system may need. A bound of 0 is that of the package.
func (r *Reader) Bound(insides int, names int64) { r.most, r.mostNames = insides, names }

// Insides returns how many contents were looked into.
func (r *Reader) Insides() int { return r.insides }

// Opened returns how many files are open.
func (r *Reader) Opened() int { return len(r.open) }

// Digested returns a node of whose content only the digest is known.
func Digested(name, sum string, size int64) *Node {
	return &Node{Name: name, Content: &Content{Size: size, sum: sum}}
}

// Holding returns a directory with one file.
func Holding(n *Node) *Node { return &Node{inside: &Inside{Form: formDirectory, Nodes: []*Node{n}}} }
