package images

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
)

func TestReportListsAState(t *testing.T) {
	store, err := objects.Create(filepath.Join(t.TempDir(), "objects"))
	if err != nil {
		t.Fatal(err)
	}
	const content = "the kernel"
	sum, err := store.Put(context.Background(), strings.NewReader(content), "")
	if err != nil {
		t.Fatal(err)
	}
	st, err := state.Parse([]byte(`{"#spec":"pantavisor-service-system@1","bsp/kernel.img":"` + sum + `","bsp/run.json":{"a":1}}`))
	if err != nil {
		t.Fatal(err)
	}
	w := build.NewWork(t.TempDir(), t.TempDir(), nil, nil)
	if err := reportState(w, "x: ", st, store); err != nil {
		t.Fatal(err)
	}
	want := []build.Content{{Name: "x: #spec", Bytes: 29}, {Name: "x: bsp/kernel.img", Bytes: int64(len(content))}, {Name: "x: bsp/run.json", Bytes: 7}}
	if d := cmp.Diff(want, w.Contents()); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	path, err := store.Path(sum)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := reportState(w, "", st, store); err == nil || !strings.Contains(err.Error(), "bsp/kernel.img") {
		t.Errorf("a missing object: %v", err)
	}
}
