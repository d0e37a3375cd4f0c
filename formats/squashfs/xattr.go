package squashfs

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

const noXattr = ^uint32(0)

// Namespaces of extended attributes, by their number on disk.
var xattrSpaces = []string{"user.", "trusted.", "security."}

// HasXattr reports whether squashfs has the name space of an extended attribute.
func HasXattr(name string) bool { return xattrSpace(name) >= 0 }

func xattrSpace(name string) int {
	return slices.IndexFunc(xattrSpaces, func(s string) bool { return strings.HasPrefix(name, s) && len(name) > len(s) })
}

const (
	maxXattrName  = 255
	maxXattrValue = 64 << 10
	maxXattrNames = 64 << 10 // of one file, together with the NUL behind each
)

// xattrs collects attribute sets; equal sets are stored once.
type xattrs struct {
	table table
	ids   []byte
	count uint32
	known map[string]uint32
}

func (x *xattrs) add(set map[string][]byte) (uint32, error) {
	if len(set) == 0 {
		return noXattr, nil
	}
	body, err := encodeXattrs(set)
	if err != nil {
		return 0, err
	}
	if id, ok := x.known[string(body)]; ok {
		return id, nil
	}
	at := x.table.position()
	x.table.write(body)
	x.ids = le.AppendUint64(x.ids, at.ref())
	x.ids = le.AppendUint32(x.ids, uint32(len(set)))
	x.ids = le.AppendUint32(x.ids, uint32(len(body)))
	id := x.count
	x.known[string(body)] = id
	x.count++
	return id, nil
}

func encodeXattrs(set map[string][]byte) ([]byte, error) {
	var body []byte
	list := 0
	for _, name := range slices.Sorted(maps.Keys(set)) {
		space := xattrSpace(name)
		if space < 0 {
			return nil, fmt.Errorf("extended attribute %q: squashfs has the namespaces %s only", name, strings.Join(xattrSpaces, " "))
		}
		rest, value := name[len(xattrSpaces[space]):], set[name]
		list += len(name) + 1
		if list > maxXattrNames || len(name) > maxXattrName || len(value) > maxXattrValue {
			return nil, fmt.Errorf("extended attribute %q with %d bytes: beyond the kernel's limits", name, len(value))
		}
		body = le.AppendUint16(body, uint16(space))
		body = le.AppendUint16(body, uint16(len(rest)))
		body = append(body, rest...)
		body = le.AppendUint32(body, uint32(len(value)))
		body = append(body, value...)
	}
	return body, nil
}

// putXattrs writes all attributes and their lookup table.
func (w *Writer) putXattrs() (uint64, error) {
	if w.xattrs.count == 0 {
		return absent, nil
	}
	start, err := w.put(&w.xattrs.table)
	if err != nil {
		return 0, err
	}
	ids := &table{comp: w.comp}
	ids.write(w.xattrs.ids)
	idStart, err := w.put(ids)
	if err != nil {
		return 0, err
	}
	head := le.AppendUint64(nil, start)
	head = le.AppendUint32(head, w.xattrs.count)
	head = le.AppendUint32(head, 0)
	at := w.end
	return uint64(at), w.append(append(head, blockList(idStart, ids.starts)...))
}
