// Package container makes the bill of materials of a part of a revision, from the state and its
// objects: of a container made by pvr or by a build, and the frame of a BSP's. What is in root file
// systems is found by package scan, and what others say of an image is added to that.
package container

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/sbom"
	"github.com/pantavisor/pantavisor/sbom/part"
	"github.com/pantavisor/pantavisor/sbom/scan"
)

// Options say what to describe.
type Options struct {
	// Part is the part's name; Of what it belongs to, for people; may be empty.
	Part, Of string
	// Version is that of the part; may be empty.
	Version string
	// Time is the document's: the same input gives the same document. Zero takes that of the newest root
	// file system, or 1970.
	Time time.Time
	// State has the part's keys, Objects is the directory with its objects by their SHA-256.
	State   *state.State
	Objects string
	// File returns the path of an object in place of Objects; nil takes those.
	File func(key, sum string) (string, error)
	// Root has the trees of which root file systems were made, by their key, where they are at hand: they are
	// read in place of the images, which have the same in them. May be nil.
	Root map[string]scan.Walk
	// Attached are documents that others attached to the images of which the part was made.
	Attached []Attached
	// Before is an earlier document of the same images, of which the attached documents are not at
	// hand now: what they said is kept. Nil for none.
	Before *sbom.Document
}

// path returns the path of an object.
func (o *Options) path(key, sum string) (string, error) {
	if o.File != nil {
		return o.File(key, sum)
	}
	return filepath.Join(o.Objects, sum), nil
}

// Creator is who makes the documents of this project, in the form of SPDX.
const Creator = "Tool: pantavisor"

// bsp is the name of the one part that is no container.
const bsp = "bsp"

// Of returns a document with all files of the part, and the packages in its root file systems.
func Of(ctx context.Context, o Options) (*sbom.Document, error) {
	d := &sbom.Document{Name: o.Part, Created: o.Time.UTC(), Creators: []string{Creator}}
	if o.Of != "" {
		d.Name += " of " + o.Of
	}
	root := sbom.Package{Name: o.Part, Version: o.Version, Purpose: sbom.Container}
	if o.Part == bsp {
		root.Purpose = sbom.Firmware
	}
	whole := sha256.New()
	for _, key := range o.State.Keys() {
		if state.PartOf(key) != o.Part || key == state.SpecKey || key == part.Key(o.Part) || strings.HasPrefix(key, "_sigs/") {
			continue
		}
		f, err := file(o, key)
		if err != nil {
			return nil, err
		}
		whole.Write([]byte(f.Name + "\x00" + f.SHA256 + "\n"))
		d.AddFile(f)
	}
	// Of the same name and version, but with another content, it is another package.
	root.ID = "Part-" + sbom.PackageID(sbom.Package{Name: o.Part, SHA256: hex.EncodeToString(whole.Sum(nil))})[len("Package-"):]
	for _, f := range d.Files {
		d.Relate(root.ID, sbom.Contains, f.ID)
	}
	notes, err := rootfs(ctx, o, d, root.ID)
	if err != nil {
		return nil, err
	}
	kept(o.Before, d, root.ID)
	notes = append(notes, attached(o.Attached, d, root.ID)...)
	root.Comment = strings.Join(notes, "\n")
	if d.Created.IsZero() {
		d.Created = time.Unix(0, 0).UTC()
	}
	d.AddPackage(root)
	d.Roots = []string{root.ID}
	return d, ctx.Err()
}

// file describes the content of a key. A value counts as its canonical JSON.
func file(o Options, key string) (sbom.File, error) {
	sum, object := o.State.Object(key)
	if !object {
		text, _ := o.State.Get(key)
		h := sha256.Sum256(text)
		return sbom.File{Name: key, SHA256: hex.EncodeToString(h[:]), Size: int64(len(text))}, nil
	}
	path, err := o.path(key, sum)
	if err != nil {
		return sbom.File{}, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return sbom.File{}, fault.Wrap(fault.Missing, err, "looking for the object %s", key)
	}
	return sbom.File{Name: key, SHA256: sum, Size: info.Size()}, nil
}
