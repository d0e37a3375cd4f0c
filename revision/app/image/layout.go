package image

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// fromLayout opens the directory of an OCI image layout.
func fromLayout(l location, opts Options) (*Image, error) {
	i := &Image{Name: layoutPrefix + l.path, Tag: l.tag, opts: opts, form: layoutPrefix + "DIRECTORY:TAG"}
	root, err := os.OpenRoot(opts.join(l.path))
	if err == nil {
		i.onClose(func() { _ = root.Close() })
		err = i.fromFiles(directory{root}, l)
	}
	if err != nil {
		i.Close()
		return nil, fault.Wrap(fault.BadInput, err, "opening the OCI layout %s", l.path)
	}
	return i, nil
}

// fromFiles chooses an image of a layout (OCI image specification, image-layout.md).
func (i *Image) fromFiles(f files, l location) error {
	if _, err := document(f, layoutMark); err != nil {
		return err
	}
	raw, err := document(f, "index.json")
	if err != nil {
		return err
	}
	digest, err := i.fromIndex(&layoutIndex{f, types.OCIImageIndex, raw}, l.tag, l.digest)
	i.Digest = i.Name + "@" + digest
	return err
}

// layoutMark is the file that each layout has.
const layoutMark = "oci-layout"

// layoutIndex is an index of a layout.
type layoutIndex struct {
	files files
	media types.MediaType
	raw   []byte
}

var _ v1.ImageIndex = (*layoutIndex)(nil)

// MediaType implements v1.ImageIndex.
func (x *layoutIndex) MediaType() (types.MediaType, error) { return x.media, nil }

// Digest implements v1.ImageIndex.
func (x *layoutIndex) Digest() (v1.Hash, error) { return partial.Digest(x) }

// Size implements v1.ImageIndex.
func (x *layoutIndex) Size() (int64, error) { return int64(len(x.raw)), nil }

// RawManifest implements v1.ImageIndex.
func (x *layoutIndex) RawManifest() ([]byte, error) { return x.raw, nil }

// IndexManifest implements v1.ImageIndex.
func (x *layoutIndex) IndexManifest() (*v1.IndexManifest, error) {
	m, err := v1.ParseIndexManifest(bytes.NewReader(x.raw))
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading an index")
	}
	return m, nil
}

// ImageIndex implements v1.ImageIndex.
func (x *layoutIndex) ImageIndex(h v1.Hash) (v1.ImageIndex, error) {
	raw, err := blob(x.files, h)
	if err != nil {
		return nil, err
	}
	return &layoutIndex{x.files, types.OCIImageIndex, raw}, nil
}

// Image implements v1.ImageIndex.
func (x *layoutIndex) Image(h v1.Hash) (v1.Image, error) {
	raw, err := blob(x.files, h)
	if err != nil {
		return nil, err
	}
	i := &layoutImage{files: x.files, raw: raw}
	i.config = sync.OnceValues(i.readConfig)
	return partial.CompressedToImage(i)
}

// layoutImage is an image of a layout.
type layoutImage struct {
	files  files
	raw    []byte
	config func() ([]byte, error)
}

var _ partial.CompressedImageCore = (*layoutImage)(nil)

// RawManifest implements partial.CompressedImageCore.
func (i *layoutImage) RawManifest() ([]byte, error) { return i.raw, nil }

// MediaType implements partial.CompressedImageCore.
func (i *layoutImage) MediaType() (types.MediaType, error) {
	m, err := partial.Manifest(i)
	if err != nil {
		return "", err
	}
	return cmp.Or(m.MediaType, types.OCIManifestSchema1), nil
}

// RawConfigFile implements partial.CompressedImageCore.
func (i *layoutImage) RawConfigFile() ([]byte, error) { return i.config() }

func (i *layoutImage) readConfig() ([]byte, error) {
	m, err := partial.Manifest(i)
	if err != nil {
		return nil, fault.Wrap(fault.BadInput, err, "reading the manifest")
	}
	return blob(i.files, m.Config.Digest)
}

// LayerByDigest implements partial.CompressedImageCore.
func (i *layoutImage) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	m, err := partial.Manifest(i)
	if err != nil {
		return nil, err
	}
	for _, d := range m.Layers {
		if d.Digest == h {
			return &layoutLayer{i.files, d}, nil
		}
	}
	return nil, fmt.Errorf("the manifest has no layer %s", h)
}

// layoutLayer is a layer of a layout.
type layoutLayer struct {
	files files
	desc  v1.Descriptor
}

// Digest implements partial.CompressedLayer.
func (l *layoutLayer) Digest() (v1.Hash, error) { return l.desc.Digest, nil }

// Size implements partial.CompressedLayer.
func (l *layoutLayer) Size() (int64, error) { return l.desc.Size, nil }

// MediaType implements partial.CompressedLayer.
func (l *layoutLayer) MediaType() (types.MediaType, error) { return l.desc.MediaType, nil }

// Compressed implements partial.CompressedLayer. Who reads it checks the digest.
func (l *layoutLayer) Compressed() (io.ReadCloser, error) {
	name, err := blobPath(l.desc.Digest)
	if err != nil {
		return nil, err
	}
	return l.files.open(name)
}
