package workspace

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// partsDir has the packages in a directory of ExportParts, by their digests.
const partsDir = "debian"

// Kept are the parts that Workspace.ExportParts or ImportParts has copied.
type Kept struct {
	Directory string `json:"directory"`
	Packages  int    `json:"packages"`
	Bytes     int64  `json:"bytes"`
}

// ExportParts copies the packages that a target's build uses into a directory, by their digests,
// with the lock, and with their checksums in the form of sha256sum. The directory may have the
// parts of other targets.
func (w *Workspace) ExportParts(ctx context.Context, target, dir string) error {
	j, err := w.open(ctx, target)
	if err != nil {
		return err
	}
	defer j.close() //nolint:errcheck // nothing was built
	dir = w.path(dir)
	to := filepath.Join(dir, partsDir)
	if err := os.MkdirAll(to, 0o755); err != nil {
		return fault.Wrap(fault.IO, err, "exporting the parts of %s", target)
	}
	store := debian.Open(j.Cache.Dir(), func(text string) { fmt.Fprintln(w.Stderr, "warning ", text) })
	kept := Kept{Directory: dir}
	for _, e := range j.lock.Packages {
		file, err := store.Get(ctx, e)
		if err != nil {
			return err
		}
		if err := build.CopyFile(ctx, filepath.Join(to, e.SHA256+".deb"), file); err != nil {
			return fault.Wrap(fault.IO, err, "exporting %s", e)
		}
		kept.Packages, kept.Bytes = kept.Packages+1, kept.Bytes+e.Size
	}
	if err := sums(dir, to); err != nil {
		return err
	}
	// The lock is last: what it names is there.
	if err := j.lock.Save(filepath.Join(dir, j.target.Name+".lock")); err != nil {
		return err
	}
	return w.tell(kept, func(out io.Writer) error {
		_, err := fmt.Fprintf(out, "%s has the %d packages of %s, %d bytes\n", dir, kept.Packages, j.target.Name, kept.Bytes)
		return err
	})
}

// sums writes the checksums of all packages in a directory.
func sums(dir, packages string) error {
	names, err := os.ReadDir(packages)
	if err != nil {
		return fault.Wrap(fault.IO, err, "listing the exported parts")
	}
	var text strings.Builder
	for _, n := range names {
		if sum, ok := strings.CutSuffix(n.Name(), ".deb"); ok {
			fmt.Fprintf(&text, "%s  %s/%s\n", sum, partsDir, n.Name())
		}
	}
	return fault.Wrap(fault.IO, atomicfile.Write(filepath.Join(dir, "SHA256SUMS"), []byte(text.String()), 0o644), "writing the checksums of the parts")
}

// ImportParts puts the packages of a directory of ExportParts into the download cache, so that
// builds find them that the archive does not have any more. Each is checked; nothing is kept of
// one that is damaged.
func (w *Workspace) ImportParts(ctx context.Context, dir string) error {
	dir = w.path(dir)
	cache, err := build.CacheDir()
	if err != nil {
		return err
	}
	locks, err := filepath.Glob(filepath.Join(dir, "*.lock"))
	if err != nil || len(locks) == 0 {
		return fault.New(fault.BadInput, "importing parts: %s has no lock: it is not a directory of mage parts:export", dir)
	}
	from := &debian.Store{Dir: filepath.Join(dir, partsDir)}
	store := &debian.Store{Dir: debian.Open(cache, nil).Dir, Archive: partsArchive{from}}
	kept, seen := Kept{Directory: dir}, map[string]bool{}
	for _, file := range locks {
		lock, err := debian.LoadLock(file)
		if err != nil {
			return err
		}
		for _, e := range lock.Packages {
			if seen[e.SHA256] {
				continue
			}
			seen[e.SHA256] = true
			if _, err := store.Get(ctx, e); err != nil {
				return err
			}
			kept.Packages, kept.Bytes = kept.Packages+1, kept.Bytes+e.Size
		}
	}
	return w.tell(kept, func(out io.Writer) error {
		_, err := fmt.Fprintf(out, "the download cache has the %d packages of %s, %d bytes\n", kept.Packages, dir, kept.Bytes)
		return err
	})
}

// partsArchive gives the packages of a directory of ExportParts.
type partsArchive struct{ from *debian.Store }

var _ debian.Archive = partsArchive{}

// Resolve implements debian.Archive: only what a lock names can be found.
func (a partsArchive) Resolve(context.Context, debian.Request) ([]debian.Entry, error) {
	return nil, fault.New(fault.Unsupported, "a directory of parts lists no packages")
}

// Download implements debian.Archive; the store checks the digest.
func (a partsArchive) Download(ctx context.Context, e debian.Entry, file string) error {
	if !a.from.Has(e) {
		return fault.New(fault.Missing, "%s has no file %s.deb of %d bytes", a.from.Dir, e.SHA256, e.Size)
	}
	return build.CopyFile(ctx, file, filepath.Join(a.from.Dir, e.SHA256+".deb"))
}
