package rootfs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/formats/squashfs"
	formatstree "github.com/pantavisor/pantavisor/formats/tree"
)

// words returns text that compresses, other for each seed.
func words(seed uint64, size int) string {
	var b bytes.Buffer
	r := rand.New(rand.NewPCG(seed, 1))
	for b.Len() < size {
		fmt.Fprintf(&b, "word%d ", r.IntN(3000))
	}
	return b.String()[:size]
}

// common are the members of a layer that images share: small files and one of several blocks.
func common() []m {
	list := []m{{name: "data/"}, {name: "data/large", data: words(1, 1<<20)}, {name: "data/link -> large"}}
	for i := range 300 {
		list = append(list, m{name: fmt.Sprintf("data/%03d", i), data: words(uint64(100+i), 700+i)})
	}
	return append(list, m{name: "data/hard = data/000"})
}

// own is the layer of one image only, whose files come first by their names and change one of the common ones.
func own(seed uint64) []m {
	return []m{
		{name: "app/"}, {name: "app/a", data: words(seed, 3000+int(seed)*1000)}, {name: "app/b", data: words(seed+50, 200_000)},
		{name: "data/150", data: words(seed, 900)}, {name: "data/.wh.151"}, {name: "app/hard = app/a"},
	}
}

func imageOf(t *testing.T, tree *Tree, o squashfs.Options) []byte {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := tree.WriteSquashfs(t.Context(), f, o, formatstree.Normal{}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// contents are the names of a tree or an image, each with what it is.
func contents(t *testing.T, walk func(context.Context, func(formatstree.Entry) error) error) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := walk(t.Context(), func(e formatstree.Entry) error {
		text := fmt.Sprintf("%v %d %q %v", e.Mode, e.UID, e.Link, e.ModTime.Unix())
		if e.Mode.IsRegular() && e.HardLink == "" {
			r, err := e.Open()
			if err != nil {
				return err
			}
			defer r.Close()
			data, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			text += string(data)
		}
		out[e.Name] = text + " " + e.HardLink
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestImagesShareLayers makes images with a layer in common: with a cache its data is the same bytes in both,
// whatever else they have, and nothing of the images is another one for that.
func TestImagesShareLayers(t *testing.T) {
	cache, err := squashfs.NewCache(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer cache.Close()
	for _, c := range []struct {
		name   string
		cache  *squashfs.Cache
		shared bool
	}{{"with a cache", cache, true}, {"without", nil, false}} {
		o := squashfs.Options{Compression: squashfs.XZ, BlockSize: 64 << 10, Cache: c.cache}
		var images [][]byte
		for seed := range uint64(2) {
			tree := compose(t, layer(t, common()...), layer(t, own(seed+1)...))
			images = append(images, imageOf(t, tree, o))
			image, err := squashfs.Open(bytes.NewReader(images[seed]))
			if err != nil {
				t.Fatal(err)
			}
			got := contents(t, func(ctx context.Context, do func(formatstree.Entry) error) error {
				return image.Walk(ctx, func(m *squashfs.Member) error { return do(m.Entry) })
			})
			if diff := cmp.Diff(contents(t, tree.Walk), got); diff != "" {
				t.Errorf("%s, image %d (-tree +image):\n%.2000s", c.name, seed, diff)
			}
		}
		const superblock = 96
		same := superblock
		for same < len(images[0]) && images[0][same] == images[1][same] {
			same++
		}
		if large := 250_000; (same > large) != c.shared {
			t.Errorf("%s: the images begin with %d equal bytes of %d", c.name, same, len(images[0]))
		}
	}
}
