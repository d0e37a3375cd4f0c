package inputs

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/app/rootfs"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/targets"
)

// maxManifest bounds an index, a manifest and the configuration of an image, in bytes.
const maxManifest = 4 << 20

// fillOCI adds the layers of the one image in an OCI layout (OCI image specification, "Image
// Layout") that is for an architecture, and returns its configuration.
func fillOCI(ctx context.Context, t *rootfs.Tree, dir string, arch targets.Arch) (canon.Value, error) {
	found, err := findImages(dir, arch)
	if err != nil {
		return canon.Value{}, err
	}
	if len(found) != 1 {
		return canon.Value{}, fault.New(fault.BadInput, "the OCI layout has %d images for %s; want one", len(found), platform(arch))
	}
	layers, err := found[0].Layers()
	if err != nil {
		return canon.Value{}, fault.Wrap(fault.BadInput, err, "reading the image's layers")
	}
	config, err := found[0].ConfigFile()
	if err != nil {
		return canon.Value{}, fault.Wrap(fault.BadInput, err, "reading the image's configuration")
	}
	digests := config.RootFS.DiffIDs
	if len(digests) != len(layers) {
		return canon.Value{}, fault.New(fault.BadInput, "the image has %d layers, and its configuration the digests of %d", len(layers), len(digests))
	}
	for i, layer := range layers {
		if err := applyLayer(ctx, t, layer, digests[i]); err != nil {
			return canon.Value{}, fault.Wrap(fault.BadInput, err, "applying layer %d of the image", i)
		}
	}
	return imageConfig(found[0])
}

// Names in a layout.
const (
	indexFile = "index.json"
	blobsDir  = "blobs"
)

// findImages returns the images of a layout that are for an architecture.
func findImages(dir string, arch targets.Arch) ([]v1.Image, error) {
	info, err := os.Lstat(filepath.Join(dir, indexFile))
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fault.New(fault.BadInput, "its %s is not a regular file", indexFile)
	case info.Size() > maxManifest:
		return nil, fault.New(fault.BadInput, "its %s has more than %d bytes", indexFile, maxManifest)
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	l := &ociLayout{dir: dir, arch: arch}
	found, err := l.images(index, 0)
	return found, fault.Wrap(fault.BadInput, err, "reading the images in its %s", indexFile)
}

// ociLayout is a layout that is read.
type ociLayout struct {
	dir  string
	arch targets.Arch
}

// maxIndices bounds how deep indices are nested.
const maxIndices = 8

// images returns the images of an index that are for the architecture.
func (l *ociLayout) images(index v1.ImageIndex, depth int) ([]v1.Image, error) {
	if depth > maxIndices {
		return nil, fmt.Errorf("more than %d indices in each other", maxIndices)
	}
	m, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	var out []v1.Image
	for _, d := range m.Manifests {
		if !d.MediaType.IsIndex() && !d.MediaType.IsImage() {
			continue
		}
		if err := l.check(d.Digest); err != nil {
			return nil, err
		}
		found, err := l.entry(index, d, depth)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

// entry returns the images of one entry of an index.
func (l *ociLayout) entry(index v1.ImageIndex, d v1.Descriptor, depth int) ([]v1.Image, error) {
	if d.MediaType.IsIndex() {
		below, err := index.ImageIndex(d.Digest)
		if err != nil {
			return nil, err
		}
		return l.images(below, depth+1)
	}
	img, err := index.Image(d.Digest)
	if err != nil {
		return nil, err
	}
	m, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	if err := l.check(m.Config.Digest); err != nil {
		return nil, err
	}
	if fits, err := isFor(img, l.arch); err != nil || !fits {
		return nil, err
	}
	return []v1.Image{img}, nil
}

// check checks that an index, a manifest or a configuration has its digest. The library does so
// for what it gets from a registry, not for files.
func (l *ociLayout) check(want v1.Hash) error {
	text, err := bounded.ReadRegular(filepath.Join(l.dir, blobsDir, want.Algorithm, want.Hex), maxManifest)
	if err != nil {
		return err
	}
	got, _, err := v1.SHA256(bytes.NewReader(text))
	if err == nil && got != want {
		err = fault.New(fault.Digest, "a blob has the digest %s, not %s", got, want)
	}
	return err
}

// isFor reports whether an image is for Linux on an architecture. Which variant it is for is
// left to whoever made the list.
func isFor(img v1.Image, arch targets.Arch) (bool, error) {
	c, err := img.ConfigFile()
	if err != nil {
		return false, err
	}
	return c.OS == "linux" && c.Architecture == arch.Go, nil
}

// platform is the name of an architecture in OCI indices.
func platform(a targets.Arch) string { return "linux/" + a.Go }

// applyLayer applies a layer whose content must have the digest in the image's configuration.
// The layer's own DiffID is that of the content, whatever it is.
func applyLayer(ctx context.Context, t *rootfs.Tree, layer v1.Layer, want v1.Hash) error {
	r, err := layer.Uncompressed()
	if err != nil {
		return err
	}
	defer r.Close()
	return t.ApplyVerified(ctx, r, want.Hex)
}

// imageConfig returns the member config of an image's configuration.
func imageConfig(img v1.Image) (canon.Value, error) {
	text, err := img.RawConfigFile()
	if err != nil {
		return canon.Value{}, fault.Wrap(fault.BadInput, err, "reading the image's configuration")
	}
	v, err := canon.Parse(text)
	if err != nil {
		return v, fault.Wrap(fault.BadInput, err, "reading the image's configuration")
	}
	config, ok := v.Get("config")
	if !ok {
		return canon.Obj(), nil
	}
	return config, nil
}
