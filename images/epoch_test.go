package images

import (
	"testing"

	"github.com/pantavisor/pantavisor/build"
)

// TestTimeStampDecidesTheBytes makes each artefact with two different times, and with the
// same time twice.
func TestTimeStampDecidesTheBytes(t *testing.T) {
	root := boardTree(t)
	digests := func(at build.Stamp) map[string]string {
		d := disk(root, board())
		d.Epoch = at
		i := initrd(root, board())
		i.Files.Epoch, i.Modules.Epoch, i.Runtime.Epoch = at, at, at
		b := d.Storage.(*Trail).Parts[1].(*BSP)
		b.Epoch = at
		out := map[string]string{}
		r := newRunner(t)
		for _, s := range []build.Step{d, i.Files, i.Modules, i.Runtime, b, &Export{Epoch: at, Part: b}} {
			tree, err := build.DigestTree(r.must(s))
			if err != nil {
				t.Fatal(err)
			}
			out[s.Name()] = tree.Digest
		}
		return out
	}
	one, same, other := digests(1600000000), digests(1600000000), digests(1700000000)
	for name := range one {
		if one[name] != same[name] {
			t.Errorf("%s: one time, two outputs", name)
		}
		if one[name] == other[name] {
			t.Errorf("%s: two times, one output", name)
		}
	}
}
