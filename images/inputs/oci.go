package inputs

import (
	"context"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/app/rootfs"
	"github.com/pantavisor/pantavisor/revision/canon"
	"github.com/pantavisor/pantavisor/targets"
)

// maxImageConfig bounds the configuration of an image, in bytes.
const maxImageConfig = 4 << 20

// fillOCI adds the layers of the one image in an OCI layout (OCI image specification, "Image
// Layout") that is for an architecture, and returns its configuration.
func fillOCI(ctx context.Context, t *rootfs.Tree, dir string, arch targets.Arch) (canon.Value, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return canon.Value{}, fault.Wrap(fault.BadInput, err, "reading the OCI layout")
	}
	found, err := imagesFor(index, arch, 0)
	if err != nil {
		return canon.Value{}, fault.Wrap(fault.BadInput, err, "reading the OCI layout")
	}
	if len(found) != 1 {
		return canon.Value{}, fault.New(fault.BadInput, "the OCI layout has %d images for %s; want one", len(found), platform(arch))
	}
	layers, err := found[0].Layers()
	if err != nil {
		return canon.Value{}, fault.Wrap(fault.BadInput, err, "reading the image's layers")
	}
	for i, layer := range layers {
		if err := applyLayer(ctx, t, layer); err != nil {
			return canon.Value{}, fault.Wrap(fault.BadInput, err, "applying layer %d of the image", i)
		}
	}
	return imageConfig(found[0])
}

// maxIndices bounds how deep indices are nested.
const maxIndices = 8

// imagesFor returns the images of an index that are for an architecture.
func imagesFor(index v1.ImageIndex, arch targets.Arch, depth int) ([]v1.Image, error) {
	if depth > maxIndices {
		return nil, fmt.Errorf("more than %d indices in each other", maxIndices)
	}
	m, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	var out []v1.Image
	for _, d := range m.Manifests {
		switch {
		case d.MediaType.IsIndex():
			below, err := index.ImageIndex(d.Digest)
			if err != nil {
				return nil, err
			}
			more, err := imagesFor(below, arch, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		case d.MediaType.IsImage():
			img, err := index.Image(d.Digest)
			if err != nil {
				return nil, err
			}
			fits, err := isFor(img, arch)
			if err != nil {
				return nil, err
			}
			if fits {
				out = append(out, img)
			}
		}
	}
	return out, nil
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
func applyLayer(ctx context.Context, t *rootfs.Tree, layer v1.Layer) error {
	want, err := layer.DiffID()
	if err != nil {
		return err
	}
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
	if err == nil && len(text) > maxImageConfig {
		err = bounded.LimitError(maxImageConfig)
	}
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
