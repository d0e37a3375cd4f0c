package images

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/fragment"
	"github.com/pantavisor/pantavisor/revision/state"
)

func sum(text string) string {
	s := sha256.Sum256([]byte(text))
	return hex.EncodeToString(s[:])
}

// reference writes a .pvr directory of a device with a BSP and an app.
func reference(t *testing.T) string {
	t.Helper()
	text := `{"#spec":"pantavisor-service-system@1","_sigs/bsp.json":{},"app/root.squashfs":"` + sum("app") +
		`","app/run.json":{"name":"app"},"bsp/kernel.img":"` + sum("kernel") + `","bsp/run.json":{"linux":"kernel.img"}}`
	return sourceTree(t, map[string]string{
		".pvr/json": text, ".pvr/objects/" + sum("app"): "app", ".pvr/objects/" + sum("kernel"): "kernel", ".pvr/objects/" + sum("unused"): "unused",
	}) + "/.pvr"
}

func keys(t *testing.T, dir string) []string {
	t.Helper()
	st, err := fragment.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	return st.Keys()
}

func TestReferenceGivesItsContainers(t *testing.T) {
	want := []string{"#spec", "app/root.squashfs", "app/run.json"}
	if diff := cmp.Diff(want, keys(t, newRunner(t).must(&Reference{Path: reference(t)}))); diff != "" {
		t.Error(diff)
	}
}

func TestReferenceGivesItsBSPWhenAsked(t *testing.T) {
	want := []string{"#spec", "_sigs/bsp.json", "app/root.squashfs", "app/run.json", "bsp/kernel.img", "bsp/run.json"}
	if diff := cmp.Diff(want, keys(t, newRunner(t).must(&Reference{Path: reference(t), BSP: true}))); diff != "" {
		t.Error(diff)
	}
}

func TestObjectsMayBeElsewhere(t *testing.T) {
	dir := reference(t)
	if err := os.Rename(filepath.Join(dir, "objects"), filepath.Join(dir, "../store")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(`{"ObjectsDir":"store"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := keys(t, newRunner(t).must(&Reference{Path: dir})); len(got) != 3 {
		t.Errorf("got %q", got)
	}
}

func TestReferenceCanBeAnExport(t *testing.T) {
	r := newRunner(t)
	whole := &Reference{Path: reference(t), BSP: true}
	file := filepath.Join(r.must(&Export{Part: whole}), exportFile)
	if got := host(t, "tar", "-tzf", file); got != "json\nobjects/"+sum("app")+"\nobjects/"+sum("kernel")+"\n" && got != "json\nobjects/"+sum("kernel")+"\nobjects/"+sum("app")+"\n" {
		t.Errorf("members\n%s", got)
	}
	plain := filepath.Join(t.TempDir(), "plain.tar")
	host(t, "sh", "-c", `gzip -dc "$1" > "$2"`, "sh", file, plain)
	for _, path := range []string{file, plain} {
		if got := keys(t, newRunner(t).must(&Reference{Path: path})); len(got) != 3 {
			t.Errorf("%s: got %q", path, got)
		}
	}
}

// export returns an uncompressed export of the app alone.
func export(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	text := `{"#spec":"pantavisor-service-system@1","app/root.squashfs":"` + sum("app") + `"}`
	for _, m := range [][2]string{{"json", text}, {"objects/" + sum("app"), "app"}} {
		err := w.WriteHeader(&tar.Header{Name: m[0], Mode: 0o644, Size: int64(len(m[1]))})
		if _, werr := w.Write([]byte(m[1])); errors.Join(err, werr) != nil {
			t.Fatal(err, werr)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestStateOfAReferenceIsCheckedUnderItsName(t *testing.T) {
	root := boardTree(t)
	ref := &Reference{Path: reference(t)}
	text := `{"#spec":"pantavisor-service-system@1","app/x":"../../../etc/passwd"}`
	if err := os.WriteFile(filepath.Join(ref.Path, "json"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	s := storage(root)
	s.Parts = append(s.Parts, ref)
	_, err := newRunner(t).run(s)
	if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), ref.Path+" (PVR_MERGE_SRC)") {
		t.Errorf("%v: %v", fault.Of(err), err)
	}
}

func TestDamagedReferenceIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(dir string) error
		kind   fault.Kind
		want   string
	}{
		"object": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "objects", sum("app")), []byte("apq"), 0o644)
		}, fault.Digest, "app/root.squashfs is damaged"},
		"state without its format": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "json"), []byte("{}"), 0o644)
		}, fault.BadInput, "is not a state"},
		"objects elsewhere": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "config"), []byte(`{"ObjectsDir":"../gone"}`), 0o644)
		}, fault.Missing, "where ObjectsDir of its file config says"},
		"missing object": {func(dir string) error { return os.Remove(filepath.Join(dir, "objects", sum("app"))) }, fault.Missing, "app/root.squashfs: its object " + sum("app") + " is not there"},
		"directory as object": {func(dir string) error {
			object := filepath.Join(dir, "objects", sum("app"))
			return errors.Join(os.Remove(object), os.Mkdir(object, 0o755))
		}, fault.Missing, "app/root.squashfs: its object"},
		"fifo": {func(dir string) error {
			return errors.Join(os.RemoveAll(dir), syscall.Mkfifo(dir, 0o644))
		}, fault.BadInput, "neither"},
		"truncated export": {func(dir string) error {
			return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, export(t)[:100], 0o644))
		}, fault.BadInput, "unusable archive"},
		"other content in an export": {func(dir string) error {
			return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, bytes.Replace(export(t), []byte("app\x00"), []byte("apq\x00"), 1), 0o644))
		}, fault.Digest, "objects/" + sum("app")},
		"checkout": {func(dir string) error {
			text, err := os.ReadFile(filepath.Join(dir, "json"))
			return errors.Join(err, os.Mkdir(filepath.Join(dir, ".pvr"), 0o755), os.WriteFile(filepath.Join(dir, ".pvr/json"), text, 0o644))
		}, fault.BadInput, "name its directory .pvr"},
		"state": {func(dir string) error { return os.WriteFile(filepath.Join(dir, "json"), []byte("{"), 0o644) }, fault.BadInput, "bad format"},
		"hostile key": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "json"), []byte(`{"#spec":"pantavisor-service-system@1","../x":"`+sum("app")+`"}`), 0o644)
		}, fault.BadInput, "../x"},
		"no state": {func(dir string) error { return os.Remove(filepath.Join(dir, "json")) }, fault.Missing, "reference/json"},
	} {
		dir := reference(t)
		if err := c.damage(dir); err != nil {
			t.Fatal(err)
		}
		_, err := newRunner(t).run(&Reference{Path: dir})
		if k := fault.Of(err); err == nil || k != c.kind || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: kind %v: %v", name, k, err)
		}
	}
}

func TestReferenceWithoutBSPCannotGiveOne(t *testing.T) {
	dir := reference(t)
	if err := os.WriteFile(filepath.Join(dir, "json"), []byte(`{"#spec":"pantavisor-service-system@1"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := newRunner(t).run(&Reference{Path: dir, BSP: true})
	if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "PVR_USE_SRC_BSP") {
		t.Errorf("got %v", err)
	}
}

func TestCutExportIsRefused(t *testing.T) {
	r := newRunner(t)
	file := filepath.Join(r.must(&Export{Part: &Reference{Path: reference(t)}}), exportFile)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, len(data) / 2, len(data) - 9} {
		cut := filepath.Join(t.TempDir(), "cut.tgz")
		if err := os.WriteFile(cut, data[:n], 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := newRunner(t).run(&Reference{Path: cut}); err == nil || !strings.Contains(err.Error(), cut) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestLaterPartsWinAndLeaveNothingBehind(t *testing.T) {
	dir := t.TempDir()
	p, err := fragment.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"first", "second"} {
		one := &skelPart{dir: sourceTree(t, map[string]string{"app/data.bin": text, "app/" + text + ".json": `{"a" : 1}`})}
		if err := p.Join(t.Context(), newRunner(t).must(one)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Sweep(); err != nil {
		t.Fatal(err)
	}
	want := `{"#spec":"` + state.Spec + `","app/data.bin":"` + sum("second") + `","app/first.json":{"a":1},"app/second.json":{"a":1}}`
	if diff := cmp.Diff(want, string(p.State.Encode())); diff != "" {
		t.Error(diff)
	}
	if exists(filepath.Join(dir, "objects", sum("first"))) || !exists(filepath.Join(dir, "objects", sum("second"))) {
		t.Error("objects do not match the state")
	}
}
