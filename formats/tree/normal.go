package tree

import (
	"io/fs"
	"time"
)

// Normal replaces attributes that depend on who made a tree, where and when. With all
// fields set, equal contents give equal bytes for every user. The zero value keeps
// everything.
type Normal struct {
	// AllRoot makes 0:0 the owner of every entry.
	AllRoot bool
	// Time, unless zero, is the modification time of every entry.
	Time time.Time
	// Portable keeps only those permissions that version control keeps: directories and
	// files that their owner may execute become 0755, other files 0644, symbolic links
	// 0777. It drops setuid, setgid and sticky bits and extended attributes, and makes
	// hard links separate files.
	Portable bool
}

// Apply returns the normalized entry.
func (n Normal) Apply(e Entry) Entry {
	if n.AllRoot {
		e.UID, e.GID = 0, 0
	}
	if !n.Time.IsZero() {
		e.ModTime = n.Time
	}
	if n.Portable {
		e.Mode, e.Xattrs, e.HardLink = portable(e.Mode), nil, ""
	}
	return e
}

// All applies n to a whole list, in place.
func (n Normal) All(entries []Entry) []Entry {
	for i := range entries {
		entries[i] = n.Apply(entries[i])
	}
	return entries
}

func portable(m fs.FileMode) fs.FileMode {
	switch t := m.Type(); {
	case t == fs.ModeSymlink:
		return t | 0o777
	case t == fs.ModeDir || m&0o100 != 0:
		return t | 0o755
	default:
		return t | 0o644
	}
}
