package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/pantavisor/pantavisor/internal/ctxio"
	"github.com/pantavisor/pantavisor/internal/decompress"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// fromArchive opens a file written by docker save, plain or compressed.
func fromArchive(ctx context.Context, l location, opts Options) (*Image, error) {
	i := &Image{Name: archivePrefix + l.path, Tag: l.tag, opts: opts, direct: true}
	open, err := i.plain(ctx, opts.join(l.path))
	if err == nil {
		err = i.fromSaved(open, l.tag)
	}
	if err == nil {
		err = i.identify()
	}
	if err == nil && l.digest != "" && l.digest != i.Digest {
		err = fault.New(fault.BadInput, "its image is %s, not %s", i.Digest, l.digest)
	}
	if err != nil {
		i.Close()
		return nil, fault.Wrap(fault.BadInput, err, "opening the docker archive %s", l.path)
	}
	return i, nil
}

// plain returns a function that opens the uncompressed archive, which is a temporary file
// unless path is one: its members are read out of order.
func (i *Image) plain(ctx context.Context, path string) (tarball.Opener, error) {
	open := func() (io.ReadCloser, error) { return os.Open(path) }
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := decompress.Reader(f)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if !decompress.Compressed(r) {
		return open, nil
	}
	spool, err := os.CreateTemp("", "pvr-image-")
	if err != nil {
		return nil, fmt.Errorf("creating a file for the image: %w", err)
	}
	i.cleanup = func() { _ = os.Remove(spool.Name()) }
	_, err = io.Copy(spool, &bounded{ctxio.Reader(ctx, r), i.opts.limit()})
	path = spool.Name()
	return open, errors.Join(err, spool.Close())
}

// fromSaved chooses an image of an archive: the only one, or that with a tag, which is a
// whole reference or only what is behind its last colon.
func (i *Image) fromSaved(open tarball.Opener, tag string) error {
	manifest, err := tarball.LoadManifest(open)
	if err != nil {
		return fmt.Errorf("reading manifest.json, which docker save writes (an OCI layout in an archive has to be unpacked: oci:DIRECTORY): %w", err)
	}
	if len(manifest) == 0 {
		return fault.New(fault.BadInput, "it has no container image")
	}
	if tag == "" && len(manifest) == 1 {
		i.img, err = tarball.Image(open, nil)
		return err
	}
	found, err := tagged(manifest, tag)
	if err != nil {
		return err
	}
	i.img, err = tarball.Image(open, found)
	return err
}

// tagged returns the one reference of an archive that a tag is for.
func tagged(manifest tarball.Manifest, tag string) (*name.Tag, error) {
	var found []name.Tag
	var all []string
	images := map[string]bool{}
	for _, image := range manifest {
		for _, text := range image.RepoTags {
			all = append(all, text)
			ref, err := name.NewTag(text)
			if err != nil || tag == "" {
				continue
			}
			if wanted, err := name.NewTag(tag); ref.TagStr() == tag || err == nil && wanted.Name() == ref.Name() {
				found = append(found, ref)
				images[image.Config] = true
			}
		}
	}
	if len(images) == 1 {
		return &found[0], nil
	}
	return nil, several(tag, archivePrefix+"FILE:TAG", all)
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
