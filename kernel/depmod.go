package kernel

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// Files returns, by name, the files that depmod would write beside the modules: the text
// forms, which busybox and our own runtime read, and the .bin forms, the only ones that
// libkmod reads (kmod: libkmod/libkmod-index.c).
func (x *Index) Files() map[string][]byte {
	dep, depIndex := x.dependencies()
	alias, aliasIndex := x.aliases()
	builtin := &trie{}
	for _, name := range x.Builtin {
		builtin.insert(name, "", 0)
	}
	return map[string][]byte{
		"modules.dep":         dep,
		"modules.dep.bin":     depIndex.bytes(),
		"modules.alias":       alias,
		"modules.alias.bin":   aliasIndex.bytes(),
		"modules.softdep":     x.softdeps(),
		"modules.builtin.bin": builtin.bytes(),
	}
}

// WriteFiles writes [Index.Files] into dir.
func (x *Index) WriteFiles(dir string) error {
	for name, data := range x.Files() {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return fault.Wrap(fault.IO, err, "writing the index of modules")
		}
	}
	return nil
}

// dependencies returns modules.dep: lines "PATH: PATH..." with all dependencies of a
// module in reverse order of loading, as modprobe expects.
func (x *Index) dependencies() ([]byte, *trie) {
	var text bytes.Buffer
	index := &trie{}
	for i := range x.Modules {
		m := &x.Modules[i]
		line := m.Path + ":"
		for _, d := range x.needs(m) {
			line += " " + d.Path
		}
		text.WriteString(line + "\n")
		index.insert(m.Name, line, uint32(i))
	}
	return text.Bytes(), index
}

// needs lists all hard dependencies of a module, each before its own dependencies.
func (x *Index) needs(m *Module) []*Module {
	seen := map[string]bool{m.Name: true}
	var order []*Module
	var walk func(m *Module)
	walk = func(m *Module) {
		for _, d := range m.Depends {
			dep := x.Module(d)
			if dep == nil || seen[dep.Name] {
				continue
			}
			seen[dep.Name] = true
			walk(dep)
			order = append(order, dep)
		}
	}
	walk(m)
	for i, j := 0, len(order)-1; i < j; i, j = i+1, j-1 {
		order[i], order[j] = order[j], order[i]
	}
	return order
}

func (x *Index) aliases() ([]byte, *trie) {
	var text bytes.Buffer
	text.WriteString("# Aliases extracted from modules themselves.\n")
	index := &trie{}
	for i, m := range x.Modules {
		for _, a := range m.Aliases {
			if strings.ContainsAny(a, " \t") {
				continue
			}
			a = normalAlias(a)
			fmt.Fprintf(&text, "alias %s %s\n", a, m.Name)
			index.insert(a, m.Name, uint32(i))
		}
	}
	return text.Bytes(), index
}

// normalAlias replaces '-' by '_', except inside brackets, where it denotes a range.
func normalAlias(s string) string {
	b := []byte(s)
	inside := false
	for i, c := range b {
		switch {
		case c == '[':
			inside = true
		case c == ']':
			inside = false
		case c == '-' && !inside:
			b[i] = '_'
		}
	}
	return string(b)
}

func (x *Index) softdeps() []byte {
	var text bytes.Buffer
	text.WriteString("# Soft dependencies extracted from modules themselves.\n")
	for _, m := range x.Modules {
		if len(m.Pre)+len(m.Post) == 0 {
			continue
		}
		fmt.Fprintf(&text, "softdep %s", m.Name)
		if len(m.Pre) > 0 {
			fmt.Fprintf(&text, " pre: %s", strings.Join(m.Pre, " "))
		}
		if len(m.Post) > 0 {
			fmt.Fprintf(&text, " post: %s", strings.Join(m.Post, " "))
		}
		text.WriteString("\n")
	}
	return text.Bytes()
}

// trie is libkmod's index: a radix tree over the bytes of a key, in a file of big-endian
// numbers. Header: magic, version, root. A reference to a node is its offset, with flags
// in the upper bits for what the node has: a prefix, ended by NUL; the range of its
// children's first bytes and their references; values with their priorities, lower first.
type trie struct {
	prefix   string
	children map[byte]*trie
	values   []trieValue
}

type trieValue struct {
	text     string
	priority uint32
}

const (
	trieMagic    = 0xB007F457
	trieVersion  = 2<<16 | 1
	triePrefix   = 0x80000000
	trieValues   = 0x40000000
	trieChildren = 0x20000000
)

// insert adds a value. Values of one key must come in the order of their priority.
func (t *trie) insert(key, value string, priority uint32) {
	common := 0
	for common < len(t.prefix) && common < len(key) && t.prefix[common] == key[common] {
		common++
	}
	if t.children == nil && t.values == nil && t.prefix == "" {
		t.prefix, common = key, len(key)
	}
	if common < len(t.prefix) {
		t.split(common)
	}
	if common == len(key) {
		t.values = append(t.values, trieValue{value, priority})
		return
	}
	if t.children == nil {
		t.children = map[byte]*trie{}
	}
	child := t.children[key[common]]
	if child == nil {
		t.children[key[common]] = &trie{prefix: key[common+1:], values: []trieValue{{value, priority}}}
		return
	}
	child.insert(key[common+1:], value, priority)
}

// split ends the node's prefix after n bytes and moves the rest into a child.
func (t *trie) split(n int) {
	below := &trie{prefix: t.prefix[n+1:], children: t.children, values: t.values}
	t.children = map[byte]*trie{t.prefix[n]: below}
	t.prefix, t.values = t.prefix[:n], nil
}

func (t *trie) bytes() []byte {
	b := binary.BigEndian.AppendUint32(nil, trieMagic)
	b = binary.BigEndian.AppendUint32(b, trieVersion)
	b = binary.BigEndian.AppendUint32(b, 0)
	b, root := t.append(b)
	binary.BigEndian.PutUint32(b[8:], root)
	return b
}

// append writes the node after its children and returns the reference to it.
func (t *trie) append(b []byte) ([]byte, uint32) {
	first, last := 256, -1
	for c := range t.children {
		first, last = min(first, int(c)), max(last, int(c))
	}
	var refs []uint32
	for c := first; c <= last; c++ {
		ref := uint32(0)
		if child := t.children[byte(c)]; child != nil {
			b, ref = child.append(b)
		}
		refs = append(refs, ref)
	}
	ref := uint32(len(b))
	if t.prefix != "" {
		ref |= triePrefix
		b = append(append(b, t.prefix...), 0)
	}
	if len(refs) > 0 {
		ref |= trieChildren
		b = append(b, byte(first), byte(last))
		for _, r := range refs {
			b = binary.BigEndian.AppendUint32(b, r)
		}
	}
	if len(t.values) > 0 {
		ref |= trieValues
		b = t.appendValues(b)
	}
	return b, ref
}

func (t *trie) appendValues(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(t.values)))
	for _, v := range t.values {
		b = binary.BigEndian.AppendUint32(b, v.priority)
		b = append(append(b, v.text...), 0)
	}
	return b
}
