package bench

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// The measured image: files that all platforms share, and programs of each.
const (
	imageShared = 27e6
	imageOwn    = 3e6
)

// imagePlatforms are the platforms of the article on packages of containers.
var imagePlatforms = []string{"linux/amd64", "linux/arm/v6", "linux/arm/v7", "linux/arm64", "linux/mips", "linux/riscv64"}

// packages measures exports of a container for one platform and for six.
func packages(ctx context.Context, root string) ([]Row, error) {
	work, err := os.MkdirTemp("", "bench-packages-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	b := &tool{ctx: ctx, work: work, program: filepath.Join(work, "pvci"), cpu: map[string][]float64{}}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", b.program, "./cmd/pvci")
	build.Dir, build.Stderr = root, os.Stderr
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("building pvci: %w", err)
	}
	for name, size := range map[string]int64{"shared": imageShared, "own": imageOwn, "all": imageShared + imageOwn} {
		if _, err := systemFiles(filepath.Join(work, name), size); err != nil {
			return nil, fmt.Errorf("making the files: %w", err)
		}
	}
	for name, layers := range map[string][2]string{"common": {"shared", "own"}, "apart": {"", "all"}} {
		if err := platformImage(filepath.Join(work, name, "image"), work, layers[0], layers[1]); err != nil {
			return nil, fmt.Errorf("making the image: %w", err)
		}
		if err := b.run("", filepath.Join(work, name), work, b.program, "container", "install", "-p", strings.Join(imagePlatforms, ","), "oci:image", "web"); err != nil {
			return nil, err
		}
	}
	for range runs {
		for _, c := range []struct {
			name, dir string
			more      []string
		}{
			{"one", "common", []string{"-p", imagePlatforms[0]}},
			{"six", "common", nil},
			{"six apart", "apart", nil},
		} {
			if err := b.run(c.name, filepath.Join(work, c.dir), work, append([]string{b.program, "container", "build", "--build-version", "1"}, c.more...)...); err != nil {
				return nil, err
			}
		}
	}
	times := make([]float64, runs)
	for i := range times {
		times[i] = b.cpu["six"][i] / b.cpu["one"][i]
	}
	note := fmt.Sprintf("of this machine's /usr, %g MB shared by the platforms and %g MB different on each", imageShared/1e6, imageOwn/1e6)
	return []Row{
		row("`pvci container build` for one platform, image of 30 MB", "CPU s", 0, b.cpu["one"], note),
		row("`pvci container build` for six platforms, image of 30 MB", "CPU s", 0, b.cpu["six"], note),
		row("`pvci container build` for six platforms", "times one", 2.2, times, note),
		row("`pvci container build` for six platforms that share nothing", "CPU s", 0, b.cpu["six apart"], "for comparison"),
		row("`pvci container build`, peak memory", "MiB", 0, []float64{b.peak}, "the largest of these"),
	}, nil
}

// platformImage writes an OCI layout with an image for each platform: a layer of the files below shared, unless
// it is empty, and one of those below own, which have other bytes for each.
func platformImage(dir, work, shared, own string) error {
	var index v1.ImageIndex = empty.Index
	var common []v1.Layer
	if shared != "" {
		layer, err := layerOf(filepath.Join(work, shared), "data", 0)
		if err != nil {
			return err
		}
		common = append(common, layer)
	}
	for i, name := range imagePlatforms {
		p, err := v1.ParsePlatform(name)
		if err != nil {
			return err
		}
		layer, err := layerOf(filepath.Join(work, own), "app", byte(i))
		if err != nil {
			return err
		}
		img, err := mutate.AppendLayers(empty.Image, append(common[:len(common):len(common)], layer)...)
		if err != nil {
			return err
		}
		c, err := img.ConfigFile()
		if err != nil {
			return err
		}
		c = c.DeepCopy()
		c.OS, c.Architecture, c.Variant, c.Config = p.OS, p.Architecture, p.Variant, v1.Config{Entrypoint: []string{"/app/start"}}
		if img, err = mutate.ConfigFile(img, c); err != nil {
			return err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: p}})
	}
	_, err := layout.Write(dir, index)
	return err
}

// layerOf makes a layer of a directory's regular files below a name; by is added to each byte, which leaves
// them as compressible as they are.
func layerOf(dir, below string, by byte) (v1.Layer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for i := range data {
			data[i] += by
		}
		rel, err := filepath.Rel(dir, path)
		header := w.WriteHeader(&tar.Header{Name: below + "/" + filepath.ToSlash(rel), Mode: 0o755, Size: int64(len(data)), Typeflag: tar.TypeReg})
		_, writing := w.Write(data)
		return errors.Join(err, header, writing)
	})
	if err := errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
}
