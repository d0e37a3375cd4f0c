package ext4

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// errFound ends a listing.
var errFound = errors.New("found")

// Lookup returns the file at a path below the root, with slashes. The error wraps
// fs.ErrNotExist when there is none. Symbolic links are not followed.
func (f *FS) Lookup(name string) (*File, error) {
	n, err := f.inode(rootInode, ".")
	if err != nil {
		return nil, err
	}
	for part := range strings.SplitSeq(name, "/") {
		number := uint32(0)
		if n.Mode.IsDir() {
			err = f.listing(n, func(child string, inode uint32) error {
				if child != part {
					return nil
				}
				number = inode
				return errFound
			})
		}
		if err != nil && !errors.Is(err, errFound) {
			return nil, err
		}
		if number == 0 {
			return nil, fmt.Errorf("looking for %s: %w", name, fs.ErrNotExist)
		}
		if n, err = f.inode(number, name); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// needsRecovery is the feature of a file system that was not unmounted: its journal has changes
// that are not yet at their places.
const needsRecovery = 0x4

// Clean reports whether what is at its place is all: the file system was unmounted.
func (f *FS) Clean() bool { return f.Features()[1]&needsRecovery == 0 }
