package fragment

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/fault"
)

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func create(t *testing.T) (*Writer, string) {
	t.Helper()
	dir := t.TempDir()
	w, err := Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	return w, dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// contents lists the objects of a fragment by their content.
func contents(t *testing.T, dir string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	files, err := os.ReadDir(filepath.Join(dir, Objects))
	must(t, err)
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(dir, Objects, f.Name()))
		must(t, err)
		found[string(text)] = true
	}
	return found
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	t.Parallel()
	w, dir := create(t)
	must(t, w.AddFile(t.Context(), "app/run.json", file(t, `{ "a": 1 }`)))
	must(t, w.AddFile(t.Context(), "app/root.img", file(t, "root")))
	must(t, w.AddObject(t.Context(), "app/same.img", file(t, "root")))
	must(t, w.AddBytes("app/src.json", []byte(`{}`)))
	must(t, w.AddBytes("app/conf", []byte("text")))
	must(t, w.Close())
	st, err := Read(dir)
	must(t, err)
	root, _ := st.Object("app/root.img")
	conf, _ := st.Object("app/conf")
	want := `{"#spec":"pantavisor-service-system@1","app/conf":"` + conf + `","app/root.img":"` + root + `","app/run.json":{"a":1},"app/same.img":"` + root + `","app/src.json":{}}`
	if d := cmp.Diff(want, string(st.Encode())); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if sum, err := Digest(t.Context(), w.Object(root)); err != nil || sum != root {
		t.Errorf("the object %s has the digest %s, %v", root, sum, err)
	}
	if d := cmp.Diff(map[string]bool{"root": true, "text": true}, contents(t, dir)); d != "" {
		t.Errorf("objects (-want +got)\n%s", d)
	}
}

func TestJoinReplacesAndSweepRemoves(t *testing.T) {
	t.Parallel()
	one, from := create(t)
	must(t, one.AddBytes("app/a", []byte("new")))
	must(t, one.Close())
	w, dir := create(t)
	must(t, w.AddBytes("app/a", []byte("old")))
	must(t, w.AddBytes("app/b", []byte("other")))
	must(t, w.Join(t.Context(), from))
	must(t, w.Sweep())
	if d := cmp.Diff(map[string]bool{"new": true, "other": true}, contents(t, dir)); d != "" {
		t.Errorf("objects (-want +got)\n%s", d)
	}
}

func TestErrorsNameWhatIsWrong(t *testing.T) {
	t.Parallel()
	w, dir := create(t)
	must(t, w.AddBytes("app/a", []byte("x")))
	for what, c := range map[string]struct {
		err  error
		kind fault.Kind
		want string
	}{
		"no file":        {w.AddFile(t.Context(), "app/b", filepath.Join(dir, "absent")), fault.IO, "adding app/b"},
		"invalid JSON":   {w.AddBytes("app/run.json", []byte("{")), fault.BadInput, "adding app/run.json"},
		"hostile key":    {w.AddBytes("../x", []byte("x")), fault.BadInput, "adding ../x"},
		"a second begin": {func() error { _, err := Create(dir); return err }(), fault.IO, "making a part"},
	} {
		if fault.Of(c.err) != c.kind || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%s: %v (kind %v), want %v and %q", what, c.err, fault.Of(c.err), c.kind, c.want)
		}
	}
	if _, err := Read(dir); fault.Of(err) != fault.Missing {
		t.Errorf("a fragment that was not closed: %v", err)
	}
	must(t, w.Close())
	sum, _ := w.State.Object("app/a")
	must(t, os.Remove(w.Object(sum)))
	if _, err := Read(dir); fault.Of(err) != fault.Missing || !strings.Contains(err.Error(), sum) {
		t.Errorf("a missing object: %v", err)
	}
}
