package container

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/pantavisor/pantavisor/formats/squashfs"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/scan"
)

// Names of root file systems in a container, the second of which lies over the first.
const (
	suffix  = ".squashfs"
	base    = "root" + suffix
	overlay = "root.ovl" + suffix
)

// rootfs adds what is in the root file systems of a container, and returns notes on what is not described.
// Those of the BSP are of modules and firmware: what made them says what they are.
func rootfs(ctx context.Context, o Options, d *sbom.Document, root string) (notes []string, err error) {
	if o.Part == bsp {
		return nil, nil
	}
	sums := map[string]string{} // by key
	for _, obj := range o.State.Objects() {
		if strings.HasPrefix(obj.Path, o.Part+"/") && strings.HasSuffix(obj.Path, suffix) {
			sums[obj.Path] = obj.Sum
		}
	}
	under, over := o.Part+"/"+base, o.Part+"/"+overlay
	for _, f := range d.Files {
		sum, image := sums[f.Name]
		if !image || f.Name == over && sums[under] != "" {
			continue
		}
		layers := []string{f.Name}
		if f.Name == under && sums[over] != "" {
			layers = append(layers, over)
		}
		more, err := describe(ctx, o, d, scan.Options{Root: root, Prefix: f.Name + "/"}, layers, sums)
		if err != nil {
			return nil, fmt.Errorf("describing %s (%.12s): %w", f.Name, sum, err)
		}
		notes = append(notes, more...)
	}
	return notes, nil
}

// describe adds what is in the images with these keys, of which the second lies over the first.
func describe(ctx context.Context, o Options, d *sbom.Document, so scan.Options, keys []string, sums map[string]string) ([]string, error) {
	var walk scan.Walk
	for _, key := range keys {
		name, err := o.path(key, sums[key])
		if err != nil {
			return nil, err
		}
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		image, err := squashfs.Open(f)
		if err != nil {
			// What a kernel does not mount is not described: a volume may be encrypted or of another kind.
			return []string{fmt.Sprintf("%s is not described: %v", key, err)}, nil
		}
		if made := image.Made(); o.Time.IsZero() && made.After(d.Created) {
			d.Created = made
		}
		upper := scan.Walk(func(ctx context.Context, do func(tree.Entry) error) error {
			return image.Walk(ctx, func(m *squashfs.Member) error { return do(m.Entry) })
		})
		if source := o.Root[key]; source != nil {
			upper = source
		}
		if walk == nil {
			walk = upper
		} else {
			walk = merged(walk, upper)
		}
	}
	found, err := scan.Scan(ctx, walk, so)
	if err != nil {
		return nil, err
	}
	d.Add(found.Document)
	return found.Notes, nil
}

// merged is a tree with another one mounted over it by overlayfs (Linux:
// Documentation/filesystems/overlayfs.rst): a device 0:0 hides a name, an opaque directory what is
// in that of the lower tree.
func merged(lower, upper scan.Walk) scan.Walk {
	return func(ctx context.Context, do func(tree.Entry) error) error {
		names := map[string]bool{} // whether what is below the name in the lower tree is to be seen
		err := upper(ctx, func(e tree.Entry) error {
			names[e.Name] = e.Mode.IsDir() && string(e.Xattrs["trusted.overlay.opaque"]) != "y"
			return nil
		})
		if err != nil {
			return err
		}
		hidden := func(name string) bool {
			if _, ok := names[name]; ok {
				return true
			}
			for name != "." {
				name = path.Dir(name)
				if seen, ok := names[name]; ok && !seen {
					return true
				}
			}
			return false
		}
		err = lower(ctx, func(e tree.Entry) error {
			if hidden(e.Name) {
				return nil
			}
			if e.HardLink != "" && hidden(e.HardLink) {
				e.HardLink = ""
			}
			return do(e)
		})
		if err != nil {
			return err
		}
		return upper(ctx, func(e tree.Entry) error {
			if e.Mode.Type() == fs.ModeDevice|fs.ModeCharDevice && e.Major == 0 && e.Minor == 0 {
				return nil
			}
			return do(e)
		})
	}
}
