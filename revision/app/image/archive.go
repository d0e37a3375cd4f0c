package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/pantavisor/pantavisor/internal/decompress"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// fromArchive opens a file written by docker save or a layout in a tar archive, plain or
// compressed.
func fromArchive(ctx context.Context, l location, opts Options) (*Image, error) {
	i := &Image{Tag: l.tag, opts: opts}
	m, err := i.openArchive(ctx, opts.join(l.path))
	if err == nil {
		err = i.fromMembers(m, l)
	}
	if err != nil {
		i.Close()
		return nil, fault.Wrap(fault.BadInput, err, "opening the archive %s", l.path)
	}
	return i, nil
}

// fromMembers chooses an image of an archive. Newer versions of docker save write a layout
// and for older readers manifest.json, which comes first unless the reference asks for the
// layout or the image in manifest.json is for another platform.
func (i *Image) fromMembers(m *members, l location) error {
	layout := m.has(layoutMark)
	switch {
	case m.has(manifestName) && !l.layout:
		err := i.fromSaved(m, l)
		if err != nil || !layout || i.checkPlatform() == nil {
			return err
		}
		i.direct = false
	case m.has("repositories") && !layout:
		return fault.New(fault.Unsupported, "it has the form of docker save before version 1.10; docker load and docker save of today write it anew")
	case !layout:
		return fault.New(fault.BadInput, "it has neither %s, which docker save writes, nor %s of an OCI layout; pvr app add --type rootfs takes a root file system", manifestName, layoutMark)
	}
	i.Name, i.form = layoutArchivePrefix+l.path, layoutArchivePrefix+"FILE:TAG"
	return i.fromFiles(m, l)
}

// manifestName is the list of images in an archive of docker save.
const manifestName = "manifest.json"

// saved is an image in an archive of docker save (Docker image specification v1.2,
// "Combined Image JSON + Filesystem Changeset Format").
type saved struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// fromSaved chooses an image of docker save: the only one, or that with a tag, which is a
// whole reference or only what is behind its last colon.
func (i *Image) fromSaved(m *members, l location) error {
	i.Name, i.form, i.direct = archivePrefix+l.path, archivePrefix+"FILE:TAG", true
	text, err := document(m, manifestName)
	if err != nil {
		return err
	}
	var all []saved
	if err := json.Unmarshal(text, &all); err != nil {
		return fault.Wrap(fault.BadInput, err, "reading %s", manifestName)
	}
	one, err := i.chooseSaved(all, l.tag)
	if err != nil {
		return err
	}
	if err := i.openSaved(m, one); err != nil {
		return err
	}
	if l.digest != "" && l.digest != i.Digest {
		return fault.New(fault.BadInput, "its image is %s, not %s", i.Digest, l.digest)
	}
	return nil
}

// openSaved makes an image of docker save the image; its ID is its digest.
func (i *Image) openSaved(m *members, one saved) error {
	text, err := document(m, one.Config)
	if err != nil {
		return fault.Wrap(fault.BadInput, err, "reading the image's configuration")
	}
	img := &savedImage{files: m, config: text, layers: one.Layers}
	file, err := partial.ConfigFile(img)
	if err != nil {
		return fault.Wrap(fault.BadInput, err, "reading the image's configuration")
	}
	if img.diffs = file.RootFS.DiffIDs; len(img.diffs) != len(img.layers) {
		return fault.New(fault.BadInput, "the image's configuration has %d layers and %s %d", len(img.diffs), manifestName, len(img.layers))
	}
	id, err := partial.ConfigName(img)
	if err != nil {
		return err
	}
	i.Digest = id.String()
	i.img, err = partial.UncompressedToImage(img)
	return err
}

// chooseSaved returns the one image of an archive that a tag is for.
func (i *Image) chooseSaved(all []saved, tag string) (saved, error) {
	if len(all) == 0 {
		return saved{}, fault.New(fault.BadInput, "it has no container image")
	}
	if tag == "" && len(all) == 1 {
		return all[0], nil
	}
	var tags []string
	found := map[string]saved{}
	for _, image := range all {
		for _, text := range image.RepoTags {
			tags = append(tags, text)
			if tag != "" && isReference(text, tag) {
				found[image.Config] = image
			}
		}
	}
	if len(found) == 1 {
		for _, image := range found {
			return image, nil
		}
	}
	return saved{}, several(tag, i.form, tags)
}

// isReference reports whether a reference is the one that a user wrote, in full or only
// its tag.
func isReference(text, tag string) bool {
	ref, err := name.NewTag(text)
	if err != nil {
		return false
	}
	wanted, err := name.NewTag(tag)
	return ref.TagStr() == tag || err == nil && wanted.Name() == ref.Name()
}

// several is the error for a source of several images of which none, or more than one, is
// chosen by its tag.
func several(tag, form string, tags []string) error {
	list := strings.Join(tags, ", ")
	switch {
	case len(tags) == 0:
		return fault.New(fault.BadInput, "it has several images and no tags to choose by")
	case tag == "":
		return fault.New(fault.BadInput, "it has several images; choose one with %s: %.2000s", form, list)
	}
	return fault.New(fault.BadInput, "it has no image, or several, with the tag %.200q; it has %.2000s", tag, list)
}

// savedImage is an image of docker save.
type savedImage struct {
	files  files
	config []byte
	layers []string // members
	diffs  []v1.Hash
}

var _ partial.UncompressedImageCore = (*savedImage)(nil)

// RawConfigFile implements partial.UncompressedImageCore.
func (i *savedImage) RawConfigFile() ([]byte, error) { return i.config, nil }

// MediaType implements partial.UncompressedImageCore.
func (i *savedImage) MediaType() (types.MediaType, error) { return types.DockerManifestSchema2, nil }

// LayerByDiffID implements partial.UncompressedImageCore.
func (i *savedImage) LayerByDiffID(h v1.Hash) (partial.UncompressedLayer, error) {
	for n, diff := range i.diffs {
		if diff == h {
			return &savedLayer{i.files, h, i.layers[n]}, nil
		}
	}
	return nil, fmt.Errorf("the image has no layer %s", h)
}

// savedLayer is a layer of docker save, which may be compressed.
type savedLayer struct {
	files  files
	diff   v1.Hash
	member string
}

// DiffID implements partial.UncompressedLayer.
func (l *savedLayer) DiffID() (v1.Hash, error) { return l.diff, nil }

// MediaType implements partial.UncompressedLayer.
func (l *savedLayer) MediaType() (types.MediaType, error) { return types.DockerLayer, nil }

// Uncompressed implements partial.UncompressedLayer.
func (l *savedLayer) Uncompressed() (io.ReadCloser, error) {
	r, err := l.files.open(l.member)
	if err != nil {
		return nil, err
	}
	return decompress.Reader(r)
}
