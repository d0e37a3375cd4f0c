package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/ctxio"
	"github.com/pantavisor/pantavisor/internal/decompress"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/scratch"
	"github.com/pantavisor/pantavisor/revision/app/rootfs"
)

// Progress reports the state of a layer of an image.
type Progress struct {
	// Layer counts from 0.
	Layer int
	// State is the state of the layer.
	State State
	// Bytes is the stored size of the layer, with State Downloaded.
	Bytes int64
}

// State of a layer.
type State string

// The states that a layer goes through.
const (
	Downloaded State = "downloaded" // from the registry
	Cached     State = "cached"     // was already in the cache
	Extracting State = "extracting" // being applied to the tree
)

// maxLayers bounds the layers of one image; builders use far fewer.
const maxLayers = 1024

// Compose applies the image's layers to a tree in their order: first all are
// downloaded, then applied. It reports each step of each layer, downloads in any
// order. Errors name layer and member.
func (i *Image) Compose(ctx context.Context, tree *rootfs.Tree, report func(Progress)) error {
	layers, err := i.img.Layers()
	if err != nil {
		return fmt.Errorf("reading the layers of %s: %w", i.Name, err)
	}
	if len(layers) > maxLayers {
		return fault.New(fault.BadInput, "reading the layers of %s: %d are more than %d", i.Name, len(layers), maxLayers)
	}
	c := &composer{image: i, report: report, dir: i.opts.Cache, paths: make([]string, len(layers))}
	if i.direct {
		return c.applyAll(ctx, tree, layers)
	}
	if c.dir == "" {
		tmp, err := scratch.New("pvr-layers-")
		if err != nil {
			return fmt.Errorf("storing the layers of %s: %w", i.Name, err)
		}
		defer tmp.Remove()
		c.dir = tmp.Path
	} else if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return fmt.Errorf("creating the cache of layers: %w", err)
	}
	if err := c.fetchAll(ctx, layers); err != nil {
		return err
	}
	return c.applyAll(ctx, tree, layers)
}

type composer struct {
	image  *Image
	report func(Progress)
	dir    string
	paths  []string // of the stored layers
}

func (c *composer) fetchAll(ctx context.Context, layers []v1.Layer) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(c.image.opts.Jobs, 0))
	if c.image.opts.Jobs <= 0 {
		group.SetLimit(defaultJobs)
	}
	reports := make([]Progress, len(layers))
	for n, layer := range layers {
		group.Go(func() (err error) {
			if reports[n], err = c.fetch(ctx, n, layer); err != nil {
				return fmt.Errorf("downloading layer %d of %s: %w", n, c.image.Name, err)
			}
			return nil
		})
	}
	err := group.Wait()
	for _, p := range reports {
		if p.State != "" {
			c.report(p)
		}
	}
	return err
}

// fetch ensures that the complete layer is in the cache.
func (c *composer) fetch(ctx context.Context, n int, layer v1.Layer) (Progress, error) {
	digest, err := layer.Digest()
	if err != nil {
		return Progress{}, err
	}
	if digest.Algorithm != "sha256" || len(digest.Hex) != hex.EncodedLen(sha256.Size) {
		return Progress{}, fault.New(fault.Unsupported, "digest %s: sha256 is expected", digest)
	}
	c.paths[n] = filepath.Join(c.dir, digest.String()+".tar.gz")
	if size, err := verifyFile(ctx, c.paths[n], digest.Hex); err == nil {
		return Progress{n, Cached, size}, nil
	}
	size, err := c.download(ctx, layer, c.paths[n], digest)
	return Progress{n, Downloaded, size}, err
}

func verifyFile(ctx context.Context, path, want string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, ctxio.Reader(ctx, f))
	if err != nil {
		return 0, err
	}
	return size, compare(sum, want)
}

func compare(sum hash.Hash, want string) error {
	if got := hex.EncodeToString(sum.Sum(nil)); got != want {
		return fault.New(fault.Digest, "its bytes have the digest sha256:%s, not sha256:%s", got, want)
	}
	return nil
}

func (c *composer) download(ctx context.Context, layer v1.Layer, path string, digest v1.Hash) (int64, error) {
	body, err := layer.Compressed()
	if err != nil {
		return 0, c.image.answers.explain(err)
	}
	defer body.Close()
	f, err := atomicfile.Create(path, 0o644)
	if err != nil {
		return 0, err
	}
	defer f.Abort()
	limit := c.image.opts.limit()
	if size, err := layer.Size(); err == nil && size >= 0 && size < limit {
		limit = size
	}
	sum := sha256.New()
	size, err := io.Copy(io.MultiWriter(f, sum), &bounded{ctxio.Reader(ctx, body), limit})
	if err == nil {
		err = compare(sum, digest.Hex)
	}
	if err != nil {
		return 0, fmt.Errorf("receiving %s: %w", digest, err)
	}
	return size, f.Commit()
}

func (c *composer) applyAll(ctx context.Context, tree *rootfs.Tree, layers []v1.Layer) error {
	for n, layer := range layers {
		c.report(Progress{Layer: n, State: Extracting})
		if err := c.apply(ctx, tree, n, layer); err != nil {
			return fmt.Errorf("applying layer %d of %s: %w", n, c.image.Name, err)
		}
	}
	return nil
}

func (c *composer) apply(ctx context.Context, tree *rootfs.Tree, n int, layer v1.Layer) error {
	if mt, err := layer.MediaType(); err == nil && !mt.IsLayer() {
		return fault.New(fault.Unsupported, "layers of type %s are not known", mt)
	}
	if c.image.direct {
		return applyDirect(ctx, tree, layer)
	}
	if c.image.opts.Unpacked != "" {
		return c.applyUnpacked(ctx, tree, n)
	}
	return c.unpack(c.paths[n], func(r io.Reader) error { return tree.ApplyLayer(ctx, r) })
}

// unpack calls do with the content of a stored layer, and reads it to its end.
func (c *composer) unpack(path string, do func(io.Reader) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := decompress.Reader(f)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := do(r); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, &bounded{r, maxTrailer}); err != nil { // on to the checksum
		return fmt.Errorf("reading its end: %w", err)
	}
	return nil
}

// applyUnpacked applies a layer that is kept without its compression, and keeps one that is not.
func (c *composer) applyUnpacked(ctx context.Context, tree *rootfs.Tree, n int) error {
	path := filepath.Join(c.image.opts.Unpacked, filepath.Base(c.paths[n])+".tar")
	if f, err := os.Open(path); err == nil {
		defer f.Close()
		return tree.ApplyLayer(ctx, f)
	}
	if err := os.MkdirAll(c.image.opts.Unpacked, 0o700); err != nil {
		return fmt.Errorf("keeping it: %w", err)
	}
	f, err := os.CreateTemp(c.image.opts.Unpacked, ".layer-")
	if err != nil {
		return fmt.Errorf("keeping it: %w", err)
	}
	err = c.unpack(c.paths[n], func(r io.Reader) error { return tree.ApplyLayer(ctx, io.TeeReader(r, f)) })
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path) // it need not survive this process
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the directory's owner removes it in any case
	}
	return err
}

const maxTrailer = 64 << 20 // bytes behind a layer's last member

// applyDirect applies a layer of an archive and then checks it against the digest of
// its content in the configuration.
func applyDirect(ctx context.Context, tree *rootfs.Tree, layer v1.Layer) error {
	want, err := layer.DiffID()
	if err != nil {
		return err
	}
	r, err := layer.Uncompressed()
	if err != nil {
		return err
	}
	defer r.Close()
	return tree.ApplyVerified(ctx, r, want.Hex)
}
