package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
)

// Limits are what a format can hold. An entry beyond them gives an error that wraps
// [errors.ErrUnsupported] and names entry and format.
type Limits struct {
	// Format is its name in errors.
	Format string
	// Symlinks, HardLinks, Devices, FIFOs, Sockets and Xattrs are set for what the format
	// has.
	Symlinks, HardLinks, Devices, FIFOs, Sockets, Xattrs bool
	// Name and Path are the longest last element and the longest path in bytes,
	// Target the longest target of a symbolic link; 0 is no limit.
	Name, Path, Target int
	// Size is the longest file in bytes; 0 is no limit.
	Size int64
	// Major and Minor are the highest device numbers.
	Major, Minor uint32
}

// Check returns an error if the format cannot hold the entry.
func (l *Limits) Check(e *Entry) error {
	if err := e.Check(); err != nil {
		return err
	}
	if err := l.checkLengths(e); err != nil {
		return err
	}
	if e.HardLink != "" {
		return l.demand(l.HardLinks, e, "hard links")
	}
	if err := l.checkType(e); err != nil {
		return err
	}
	return l.demand(l.Xattrs || len(e.Xattrs) == 0, e, "extended attributes")
}

func (l *Limits) checkType(e *Entry) error {
	t := e.Mode.Type()
	switch {
	case t == fs.ModeSymlink:
		return l.demand(l.Symlinks, e, typeName(t)+"s")
	case t == fs.ModeNamedPipe:
		return l.demand(l.FIFOs, e, typeName(t)+"s")
	case t == fs.ModeSocket:
		return l.demand(l.Sockets, e, typeName(t)+"s")
	case t&fs.ModeDevice == 0:
		return nil
	case !l.Devices:
		return l.demand(false, e, typeName(t)+"s")
	case e.Major > l.Major || e.Minor > l.Minor:
		return fmt.Errorf("%.200q is device %d:%d, out of the range of %s, %d:%d: %w", e.Name, e.Major, e.Minor, l.Format, l.Major, l.Minor, errors.ErrUnsupported)
	}
	return nil
}

func (l *Limits) demand(has bool, e *Entry, what string) error {
	if has {
		return nil
	}
	return fmt.Errorf("%.200q: %s cannot hold %s: %w", e.Name, l.Format, what, errors.ErrUnsupported)
}

func (l *Limits) checkLengths(e *Entry) error {
	for _, c := range []struct {
		what      string
		have, top int64
	}{
		{"name", int64(len(path.Base(e.Name))), int64(l.Name)},
		{"path", int64(len(e.Name)), int64(l.Path)},
		{"link target", int64(len(e.Link)), int64(l.Target)},
		{"content", e.Size, l.Size},
	} {
		if c.top > 0 && c.have > c.top {
			return fmt.Errorf("%.64q has a %s of %d bytes, %s takes %d: %w", e.Name, c.what, c.have, l.Format, c.top, errors.ErrUnsupported)
		}
	}
	return nil
}
