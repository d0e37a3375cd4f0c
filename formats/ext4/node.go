package ext4

import (
	"fmt"
	"io/fs"
	"path"

	"github.com/pantavisor/pantavisor/formats/tree"
)

// node is a name in the tree. Nodes are referred to by their index; 0 stands for none where
// the root cannot be meant.
type node struct {
	*tree.Entry
	inode uint32
	links uint32
	// file is the node with the content: another one for a hard link.
	file int32
	// first and last are the names in a directory, next is the one behind this in its own.
	first, last, next int32
}

// Indexes of nodes that every file system has.
const (
	rootNode = iota
	lostFoundNode
)

const lostFound = "lost+found"

// index is a tree with its inodes.
type index struct {
	nodes  []node
	byName map[string]int32
	files  int64 // inodes from firstInode on
}

// number gives inodes to the entries of a tree, in their order.
func number(entries []tree.Entry, limits *tree.Limits, o *Options) (*index, error) {
	if err := tree.Validate(entries, limits.Check); err != nil {
		return nil, err
	}
	root, lost := tree.Dir(".", 0o755), tree.Dir(lostFound, 0o700)
	root.ModTime, lost.ModTime = o.Time, o.Time
	x := &index{nodes: make([]node, 2, len(entries)+2), byName: make(map[string]int32, len(entries)+2)}
	x.nodes[rootNode] = node{Entry: &root, inode: rootInode, links: 2}
	x.nodes[lostFoundNode] = node{Entry: &lost, inode: lostFoundInode, links: 2, file: lostFoundNode}
	x.byName["."], x.byName[lostFound] = rootNode, lostFoundNode
	for i := range entries {
		if err := x.enter(&entries[i]); err != nil {
			return nil, err
		}
	}
	x.attach(lostFoundNode)
	for i := range entries {
		if n := x.byName[entries[i].Name]; n > lostFoundNode {
			x.attach(n)
		}
	}
	return x, x.checkLinks()
}

// enter makes the node of an entry.
func (x *index) enter(e *tree.Entry) error {
	if n, there := x.byName[e.Name]; there { // the root or lost+found: names are unique
		x.nodes[n].Entry = e
		if !e.Mode.IsDir() || e.HardLink != "" {
			return fmt.Errorf("%q has to be a directory", e.Name)
		}
		return nil
	}
	n := node{Entry: e, file: int32(len(x.nodes)), links: 1}
	if e.HardLink != "" {
		to, there := x.byName[e.HardLink]
		if !there || x.nodes[to].HardLink != "" || x.nodes[to].Mode.IsDir() {
			return fmt.Errorf("%.200q is a hard link to %.200q, which is not a file before it", e.Name, e.HardLink)
		}
		x.nodes[to].links++
		n.file, n.inode = to, x.nodes[to].inode
	} else {
		n.inode = uint32(firstInode + x.files)
		x.files++
	}
	if n.Mode.IsDir() && e.HardLink == "" {
		n.links = 2
	}
	x.byName[e.Name] = int32(len(x.nodes))
	x.nodes = append(x.nodes, n)
	return nil
}

// attach puts a node into its directory.
func (x *index) attach(n int32) {
	dir := &x.nodes[x.byName[path.Dir(x.nodes[n].Name)]]
	if dir.first == 0 {
		dir.first = n
	} else {
		x.nodes[dir.last].next = n
	}
	dir.last = n
	if x.isDir(n) {
		dir.links++
	}
}

func (x *index) isDir(n int32) bool { return x.nodes[x.nodes[n].file].Mode.Type() == fs.ModeDir }

// checkLinks limits the number of links of files. That of directories has no limit: 1 says
// that it is not counted.
func (x *index) checkLinks() error {
	for i := range x.nodes {
		n := &x.nodes[i]
		switch {
		case n.links <= maxLinks:
		case n.Mode.IsDir():
			n.links = 1
		default:
			return fmt.Errorf("%.200q has %d names, ext4 takes %d", n.Name, n.links, maxLinks)
		}
	}
	return nil
}
