package device

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/revision/state"
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
		objects: s.paths.objects, garbage: s.garbage,
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
