package device

import (
	"bytes"
	"compress/gzip"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/boot"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/space"
)

// TestAdmission asks for space for a copy of an object.
func TestAdmission(t *testing.T) {
	s := newTestStorage(t, map[config.Key]string{config.StorageGCKeepFactory: "1"})
	sum, err := s.store.Put(t.Context(), strings.NewReader(strings.Repeat("x", 10<<20)), "")
	if err != nil {
		t.Fatal(err)
	}
	st := state.New(state.Spec)
	if err := st.SetObject("app/data.bind", sum); err != nil {
		t.Fatal(err)
	}
	free := int64(20<<20 + space.Own)
	a := &admission{
		usage: func() (space.Usage, error) {
			return space.Usage{Total: 1 << 30, Free: free, Reserved: 5 << 20, Block: 1}, nil
		},
		objects: s.paths.objects, garbage: s.garbage, loader: func() (boot.Store, error) { return boot.Open("grub", s.paths.storage) },
	}
	if err := errors.Join(a.check(st), a.answer(st)); err != nil {
		t.Errorf("with 15 MiB: %v", err)
	}
	free -= 10 << 20
	err = a.check(st)
	full, ok := errors.AsType[*space.Error](err)
	if !ok || full.Available != 5<<20 || full.Required < 10<<20 {
		t.Fatalf("with 5 MiB: %v", err)
	}
	before, err := s.store.List()
	if err != nil {
		t.Fatal(err)
	}
	e, ok := errors.AsType[*api.Error](a.answer(st))
	if !ok || e.Status != 507 || len(e.Details) != 2 || e.Details[0] != full.Error() || !strings.HasPrefix(e.Details[1], "collecting garbage would free 104") {
		t.Errorf("the answer: %+v", e)
	}
	after, err := s.store.List()
	if diff := cmp.Diff(before, after); diff != "" || err != nil {
		t.Errorf("the question changed the store: %v, %s", err, diff)
	}
}

// twoSlots is a loader with partitions of 100 bytes.
type twoSlots struct{ boot.Store }

func (twoSlots) Capacity() (int64, error) { return 100, nil }

// TestAdmissionOfBootImages has images that are larger than the partition, or become so when
// they are unpacked.
func TestAdmissionOfBootImages(t *testing.T) {
	s := newTestStorage(t, nil)
	a := &admission{
		usage:   func() (space.Usage, error) { return space.Usage{Total: 1 << 30, Free: 1 << 29, Block: 1}, nil },
		objects: s.paths.objects, loader: func() (boot.Store, error) { return twoSlots{}, nil },
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(make([]byte, 101)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, content, want string }{
		{"boot.img", strings.Repeat("x", 100), ""},
		{"boot.img", strings.Repeat("x", 101), "partition boot: Space required 101 B, available 100 B"},
		{"boot.img.gz", packed.String(), "partition boot: Space required 101 B, available 100 B"},
	} {
		sum, err := s.store.Put(t.Context(), strings.NewReader(c.content), "")
		if err != nil {
			t.Fatal(err)
		}
		st, err := state.Parse([]byte(`{"#spec":"pantavisor-service-system@1","bsp/run.json":{"rpiab":"` + c.name + `"},"bsp/` + c.name + `":"` + sum + `"}`))
		if err != nil {
			t.Fatal(err)
		}
		if err := a.check(st); c.want == "" && err != nil || c.want != "" && (err == nil || err.Error() != c.want) {
			t.Errorf("%s of %d bytes: %v, want %q", c.name, len(c.content), err, c.want)
		}
	}
}
