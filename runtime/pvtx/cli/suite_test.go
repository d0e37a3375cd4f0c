package cli

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/revision/state"
)

// The cases here are those with which users know earlier versions to be checked, by their
// names; the packages are made and signed in the test.

// shown returns what show prints, which must be a state with a "#spec" and no key twice.
func (w *world) shown() *state.State {
	w.t.Helper()
	out := w.ok("show")
	st, err := state.Parse([]byte(out))
	if err != nil || st.Spec() != state.Spec {
		w.t.Fatalf("show prints %s: %v", out, err)
	}
	return st
}

// same fails unless two states are equal.
func (w *world) same(want, got *state.State) {
	w.t.Helper()
	if diff := cmp.Diff(string(want.Encode()), string(got.Encode())); diff != "" {
		w.t.Errorf("another state (-want +got):\n%s", diff)
	}
}

// local begins a local transaction.
func (w *world) local(base *state.State) *world {
	w.t.Helper()
	w.ok("begin", w.json(base), w.path("objects"))
	return w
}

func TestCreateEmptyTransaction(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ok("begin", "empty", w.path("objects"))
	if got := w.ok("show"); got != `{"#spec":"pantavisor-service-system@1"}`+"\n" {
		t.Errorf("show prints %s", got)
	}
}

func TestProcessJSONKeysWithSpaces(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ok("begin", "empty")
	add := w.state("my app/run file.json", `{"a key":"a  value "}`, "my app/src.json", `["x y"]`)
	w.ok("add", w.json(add))
	w.same(add, w.shown())
}

func TestSignatureRemoval(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	rest := w.merged(w.app("web", "1"), w.state("device.json", `{}`))
	base := w.merged(rest, w.app("awconnect", "1", "_config/awconnect/etc/wifi.conf", "ssid"))
	for _, part := range []string{"_sigs/awconnect.json", "awconnect", "_config/awconnect"} {
		w.local(base)
		w.ok("remove", part)
		w.same(rest, w.shown())
	}
}

func TestRemovalConfigPackage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	nginx := w.signedBy(w.state("nginx/run.json", `{}`, "nginx/root.squashfs", "root"), "nginx", state.Rule{Include: []string{"nginx/**"}, Exclude: []string{"_sigs/nginx.json"}})
	config := w.signedBy(w.state("_config/nginx/nginx.conf", "port 80"), "nginx-config", state.Rule{Include: []string{"_config/nginx/**"}, Exclude: []string{"_sigs/nginx-config.json"}})
	w.local(w.merged(nginx, config))
	w.ok("remove", "_sigs/nginx-config.json")
	w.same(nginx, w.shown())
}

func TestPackageUpdate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	web, next := w.app("web", "1"), w.app("nginx", "2", "nginx/new", "new")
	w.local(w.merged(web, w.app("nginx", "1", "nginx/old", "old")))
	w.ok("add", w.export(next, true))
	w.same(w.merged(web, next), w.shown())
}

func TestAddPackageFromTar(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	web, app := w.app("web", "1"), w.app("nginx", "1")
	w.local(web)
	w.ok("add", w.export(app, false))
	w.same(w.merged(web, app), w.shown())
	for _, o := range app.Objects() {
		want, _ := os.ReadFile(w.path("host", o.Sum))
		if got, err := os.ReadFile(w.path("objects", o.Sum)); err != nil || string(got) != string(want) {
			t.Errorf("object %s: %q, %v", o.Path, got, err)
		}
	}
}

func TestAddNewPackage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	web, app := w.app("web", "1"), w.app("nginx", "1")
	w.local(web)
	w.ok("add", w.bare(app))
	w.same(w.merged(web, app), w.shown())
}

func TestAddNewPackageFromStdin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	web, app := w.app("web", "1"), w.app("nginx", "1")
	w.local(web)
	data, err := os.ReadFile(w.export(app, true))
	if err != nil {
		t.Fatal(err)
	}
	if code, _, bad := w.try(string(data), "add", "-"); code != 0 {
		t.Fatalf("exit %d, %s", code, bad)
	}
	w.same(w.merged(web, app), w.shown())
}

func TestUpdateBSP(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bsp := func(version string) *state.State {
		return w.signed(w.state("bsp/run.json", `{"linux":"kernel.img"}`, "bsp/kernel.img", "kernel "+version, "bsp/modules-"+version, version), "bsp")
	}
	app, next := w.app("web", "1"), bsp("2")
	w.local(w.merged(bsp("1"), app))
	w.ok("add", w.export(next, true))
	w.same(w.merged(app, next), w.shown())
}

func TestUpdateBSPWithGroups(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	web := w.app("web", "1")
	before := w.signed(w.state("bsp/run.json", `{"n":1}`, "groups.json", `[]`), "bsp", "groups.json")
	after := w.signed(w.state("bsp/run.json", `{"n":2}`, "device.json", `{}`), "bsp", "device.json")
	w.local(w.merged(web, before))
	w.ok("add", w.bare(after))
	w.same(w.merged(web, after), w.shown())
}

func TestInstallFromTgz(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := w.merged(w.app("web", "1"), w.app("nginx", "1"), w.state("device.json", `{}`))
	w.ok("begin", "empty", w.path("objects"))
	w.ok("add", w.export(all, true))
	w.same(all, w.shown())
}

func TestTwoPackagesSigningSameFiles(t *testing.T) {
	t.Parallel()
	for name, pattern := range map[string]string{"by name": "shared/x", "by a glob": "shared/**"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			shared := w.state("shared/x", "x")
			a := w.signed(w.merged(w.state("a/run.json", `{}`), shared), "a", pattern)
			b := w.signed(w.merged(w.state("b/run.json", `{}`), shared), "b", pattern)
			w.local(w.merged(a, b))
			w.ok("remove", "a")
			w.same(b, w.shown())
			w.ok("remove", "b")
			w.same(w.state(), w.shown())
		})
	}
}

func TestRemovalOfSignedConfig(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	web, plain := w.app("web", "1"), w.app("nginx", "1")
	w.local(w.merged(web, w.app("nginx", "1", "_config/nginx/nginx.conf", "port 80")))
	w.ok("add", w.export(plain, true))
	w.same(w.merged(web, plain), w.shown())
}

func TestQueueNew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ok("queue", "new", w.path("queue"), w.path("objects"))
	b, err := os.ReadFile(w.path("tx", ".status"))
	if err != nil || len(b) != 8208 {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	number := func(at int) uint32 { return binary.NativeEndian.Uint32(b[at:]) }
	path := func(at int) string { return strings.TrimRight(string(b[at:at+4096]), "\x00") }
	got := []any{number(0), number(4), path(8), path(4104), number(8200), number(8204)}
	if diff := cmp.Diff([]any{uint32(1), uint32(1), w.path("objects"), w.path("queue"), uint32(0), uint32(0)}, got); diff != "" {
		t.Error(diff)
	}
	w.ok("begin", "empty", w.path("objects"))
	if b, _ = os.ReadFile(w.path("tx", ".status")); len(b) != 8208 || number(0) != 2 || path(4104) != w.path("queue") {
		t.Error("begin forgets the queue")
	}
}

func TestQueueActions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ok("queue", "new", w.path("queue"), w.path("objects"))
	for _, part := range []string{"nginx", "_config/nginx", "_sigs/nginx-config.json"} {
		w.ok("queue", "remove", part)
	}
	app := w.app("web", "1")
	file := w.export(app, true)
	w.ok("queue", "unpack", file)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if code, _, bad := w.try(string(data), "queue", "unpack", "-"); code != 0 {
		t.Fatal(bad)
	}
	files, err := os.ReadDir(w.path("queue"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, f.Name())
	}
	want := []string{"000__nginx.remove", "001___config%2Fnginx.remove", "002___sigs%2Fnginx-config.json.remove", "003__" + filepath.Base(file), "004__package"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	w.same(app, w.readState("queue", "004__package", "json"))
	if len(objectsIn(t, w.path("objects"))) != 1 {
		t.Error("the objects are not stored yet")
	}
}

func objectsIn(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "[0-9a-f]*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestQueueProcess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	base := w.merged(w.app("web", "1"), w.app("nginx", "1", "_config/nginx/x", "x"))
	next, more := w.export(w.app("nginx", "2"), true), w.export(w.app("more", "1"), true)
	for name, steps := range map[string][][]string{
		"add":    {{"add", next}, {"add", more}},
		"remove": {{"remove", "nginx"}, {"add", next}, {"remove", "web"}},
	} {
		w.local(base)
		for _, s := range steps {
			w.ok(s...)
		}
		direct := w.shown()
		w.ok("abort")
		w.ok("queue", "new", w.path("queue"), w.path("objects"))
		for _, s := range steps {
			w.ok("queue", strings.Replace(s[0], "add", "unpack", 1), s[1])
		}
		w.ok("begin", w.json(base))
		w.ok("queue", "process")
		t.Log(name)
		w.same(direct, w.shown())
		w.ok("abort")
		w.ok("queue", "process", w.json(base), w.path("queue"), w.path("objects"))
		w.same(direct, w.shown())
		w.ok("abort")
	}
}

func TestDeploy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bsp := w.signed(w.state("bsp/run.json", `{"linux":"kernel.img","initrd":"pantavisor","fdt":"board.dtb","addons":["a.xz4"]}`,
		"bsp/kernel.img", "kernel", "bsp/pantavisor", "initrd", "bsp/board.dtb", "tree", "bsp/a.xz4", "addon"), "bsp")
	w.ok("begin", "empty", w.path("objects"))
	w.ok("add", w.export(w.merged(bsp, w.app("web", "1")), true))
	before := w.ok("show")
	w.ok("deploy", w.path("out"))
	doc, err := os.ReadFile(w.path("out/.pvr/json"))
	if err != nil || string(doc)+"\n" != before || w.ok("show") != before {
		t.Errorf("deployed %s, %v; shown %s", doc, err, before)
	}
	for file, key := range map[string]string{
		".pv/pv-kernel.img": "bsp/kernel.img", ".pv/pv-initrd.img": "bsp/pantavisor", ".pv/pv-fdt.dtb": "bsp/board.dtb",
		".pv/pv-initrd.img.0": "bsp/a.xz4", "web/root.squashfs": "web/root.squashfs",
	} {
		sum, ok := w.shown().Object(key)
		want, err := os.Stat(w.path("objects", sum))
		got, gerr := os.Stat(w.path("out", file))
		if !ok || err != nil || gerr != nil || !os.SameFile(want, got) {
			t.Errorf("%s is not the object of %s: %v, %v", file, key, err, gerr)
		}
	}
	var config struct{ ObjectsDir string }
	text, err := os.ReadFile(w.path("out/.pvr/config"))
	if err != nil || json.Unmarshal(text, &config) != nil || config.ObjectsDir != w.path("objects") {
		t.Errorf("config %s, %v", text, err)
	}
	if left, _ := filepath.Glob(w.path("*out*")); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

func TestProcessQueueWithoutBegin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	app := w.app("web", "1")
	w.ok("queue", "new", w.path("queue"), w.path("objects"))
	w.ok("queue", "unpack", w.export(app, true))
	w.fails(3, "no active transaction", "queue", "process")
	w.ok("queue", "process", "empty")
	w.ok("deploy", w.path("out"))
	w.same(app, w.readState("out/.pvr/json"))
}

func TestLocalTransaction(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ok("begin", "empty", w.path("objects"))
	w.fails(12, "local", "commit")
	w.fails(12, "local", "commit", "locals/x")
}

func TestEmptyTransactionHasSpec(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ok("begin", "empty")
	if got := w.shown(); got.Len() != 1 {
		t.Errorf("keys %v", got.Keys())
	}
}

func TestShowIsIdempotent(t *testing.T) {
	t.Parallel()
	w := newWorld(t).local(state.New(""))
	w.ok("add", w.export(w.app("web", "1"), true))
	if one, two := w.ok("show"), w.ok("show"); one != two {
		t.Errorf("%s and %s", one, two)
	}
}

func TestSpecPreservedAfterRemove(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.local(w.app("web", "1"))
	w.ok("remove", "web")
	w.same(state.New(state.Spec), w.shown())
	if code, _, bad := w.try("", "remove", "#spec"); code != 0 || !strings.Contains(bad, "WARNING") {
		t.Errorf("exit %d, %s", code, bad)
	}
	w.same(state.New(state.Spec), w.shown())
}

func TestAddStateRoundtrip(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := w.merged(w.app("web", "1"), w.app("nginx", "1"), w.state("device.json", `{"a":[1,2.5,"x\u00e9",null,true]}`))
	w.ok("begin", "empty")
	w.ok("add", w.json(all))
	out := w.ok("show")
	w.ok("begin", "empty")
	w.ok("add", w.write("shown.json", []byte(out)))
	w.same(all, w.shown())
}

func TestDoubleAddIsIdempotent(t *testing.T) {
	t.Parallel()
	w := newWorld(t).local(w0(t))
	app := w.export(w.app("web", "1"), true)
	w.ok("add", app)
	once := w.shown()
	w.ok("add", app)
	w.same(once, w.shown())
}

// w0 is a state of an unsigned container.
func w0(t *testing.T) *state.State {
	t.Helper()
	st, err := state.Parse([]byte(`{"#spec":"pantavisor-service-system@1","old/run.json":{}}`))
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func TestAbortClearsTransaction(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ok("abort")
	w.local(w.app("web", "1"))
	w.ok("abort")
	w.fails(11, "no active transaction", "show")
	w.ok("abort")
}
