package images

import (
	"reflect"
	"testing"

	"github.com/pantavisor/pantavisor/build"
)

// TestTimeStampReachesEveryStep looks at each step of a target that has a stamp.
func TestTimeStampReachesEveryStep(t *testing.T) {
	o := options(t, "x64-uefi")
	o.Debug, o.Epoch = true, 1700000000
	c, err := Graph(o)
	if err != nil {
		t.Fatal(err)
	}
	stamped := map[string]bool{}
	eachStep(c.Wanted(), func(s build.Step) {
		f := reflect.ValueOf(s).Elem().FieldByName("Epoch")
		if !f.IsValid() {
			return
		}
		stamped[s.Name()] = true
		if f.Interface() != o.Epoch {
			t.Errorf("%s has the stamp %v", s.Name(), f.Interface())
		}
	})
	for _, name := range []string{
		"initrd/files", "initrd/modules", "initrd/runtime", "initrd/addon-debug", "kernel/modules", "kernel/firmware",
		"bsp/part", "bsp/export", "container/sdk/amd64", "image/disk",
	} {
		if !stamped[name] {
			t.Errorf("%s has no stamp", name)
		}
	}
}

func eachStep(steps []build.Step, do func(build.Step)) {
	for _, s := range steps {
		do(s)
		eachStep(s.Deps(), do)
	}
}

// TestTimeStampDecidesTheBits makes each artefact with two times and with one twice.
func TestTimeStampDecidesTheBits(t *testing.T) {
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
