package space

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/revision/state"
)

// sized returns the name of an object that stands for its size.
func sized(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:])
}

func TestNeedsOfAnUpdate(t *testing.T) {
	t.Parallel()
	st, err := state.Parse([]byte(`{"#spec":"pantavisor-service-system@1","app/run.json":{"name":"app"},"app/etc/deep/set.bind":"` +
		sized("set") + `","app/root.squashfs":"` + sized("new") + `","app/copy.squashfs":"` + sized("new") + `","bsp/kernel.img":"` + sized("kernel") + `"}`))
	if err != nil {
		t.Fatal(err)
	}
	sizes := map[string]int64{sized("set"): 10_000, sized("kernel"): 5 << 20}
	coming := map[string]int64{sized("new"): 100<<20 + 1}
	const (
		block = 4096
		added = 100<<20 + block // the new object, once
		bind  = 3 * block       // the copy of the .bind file
		notes = small*block + block + block + 4*block
	)
	usage := Usage{Total: 1 << 40, Free: 200<<20 + Own, Reserved: 50 << 20, Block: block}
	in := Install{
		State: st,
		Have:  func(sum string) (int64, bool) { n, ok := sizes[sum]; return n, ok },
		Comes: func(sum string) (int64, bool) { n, ok := coming[sum]; return n, ok },
	}
	for _, c := range []struct {
		name     string
		change   func(in *Install, u *Usage)
		required int64
		unknown  []string
	}{
		{"a new object", func(*Install, *Usage) {}, added + bind + notes, nil},
		{"one of unknown size", func(in *Install, _ *Usage) { in.Comes = nil }, bind + notes, []string{sized("new")}},
		{"no links", func(_ *Install, u *Usage) { u.NoLinks = true }, added + bind + notes + 2*added + 5<<20, nil},
		{"nothing new", func(in *Install, _ *Usage) {
			in.Have = func(string) (int64, bool) { return 1, true }
			in.LaidOut = true
		}, 0, nil},
	} {
		in, u := in, usage
		c.change(&in, &u)
		needs, unknown := in.Needs(u)
		if diff := cmp.Diff([]Need{{storage, c.required, 150 << 20}}, needs); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		if diff := cmp.Diff(c.unknown, unknown); diff != "" {
			t.Errorf("%s, of unknown size (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestImageThatDoesNotFitItsPartition(t *testing.T) {
	t.Parallel()
	in := Install{State: state.New(state.Spec), LaidOut: true, Images: []Image{{"boota", 65, 64}, {"bootb", 64, 64}}}
	needs, _ := in.Needs(Usage{Total: 1})
	if len(needs) != 3 || !needs[0].Fits() || needs[1].Fits() || !needs[2].Fits() || needs[2].Err() != nil {
		t.Fatalf("%+v", needs)
	}
	err := needs[1].Err()
	if _, ok := errors.AsType[*Error](err); !ok || err.Error() != "partition boota: Space required 65 B, available 64 B" {
		t.Errorf("%v", err)
	}
}

// TestUpdateThatMendsAFullDevice brings nothing but a smaller state.
func TestUpdateThatMendsAFullDevice(t *testing.T) {
	t.Parallel()
	in := Install{State: state.New(state.Spec)}
	full := Usage{Total: 1 << 30, Free: Own, Reserved: 50 << 20, Block: 4096}
	if needs, _ := in.Needs(full); full.Available() != 0 || !needs[0].Fits() {
		t.Errorf("%+v", needs)
	}
	full.Free = 4096
	if needs, _ := in.Needs(full); needs[0].Fits() {
		t.Errorf("without a free block: %+v", needs)
	}
}
