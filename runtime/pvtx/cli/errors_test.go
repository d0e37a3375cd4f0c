package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/filelock"
	"github.com/pantavisor/pantavisor/runtime/pvtx"
)

func TestExitCodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	app := w.bare(w.app("web", "1"))
	w.fails(1, "no active transaction", "add", app)
	w.fails(255, "usage: pvtx add FILE|-", "add")
	w.fails(4, "usage: pvtx remove PART", "remove")
	w.fails(3, "no active transaction", "remove", "web")
	for _, verb := range []string{"show", "commit", "diff", "check"} {
		w.fails(11, "no active transaction", verb)
	}
	w.fails(11, "no active transaction", "deploy", w.path("out"))
	w.fails(3, "no active transaction", "queue", "process")
	w.fails(1, "no queue", "queue", "remove", "web")
	w.fails(1, "no queue", "queue", "unpack", app)
	w.fails(1, "no queue", "queue", "process", "empty")
	w.fails(1, "no-socket", "begin")
	if err := pvtx.New(pvtx.Options{Dir: w.path("other")}).Begin(t.Context(), pvtx.Begin{}); err == nil || !strings.Contains(err.Error(), "no control socket") {
		t.Errorf("without a device: %v", err)
	}
	w.fails(1, "no such file", "begin", w.path("nothing"))
	w.fails(1, "no such file", "add", w.path("nothing"))
	w.ok("begin", "empty")
	w.fails(12, "active", "queue", "new", w.path("queue"), w.path("objects"))
	w.fails(1, "no queue", "queue", "process")
	w.fails(12, "pvtx commit", "deploy", w.path("out"))
	w.fails(1, "locals/NAME", "commit", "x")
	w.fails(1, "the part's name is empty", "remove", "")
	for _, args := range []string{"", "dance", "queue", "queue dance", "show x", "-x", "-m", "commit --wait", "queue new x"} {
		if code, out, bad := w.try("", strings.Fields(args)...); code != 1 || out != "" || !strings.Contains(bad, "age: ") {
			t.Errorf("pvtx %s: exit %d, %q, %q", args, code, out, bad)
		}
	}
	for _, args := range []string{"help", "-h", "add --help"} {
		if code, out, bad := w.try("", strings.Fields(args)...); code != 0 || bad != "" || !strings.Contains(out, "pvtx begin empty") || !strings.Contains(out, w.env["PVTXDIR"]) {
			t.Errorf("pvtx %s: exit %d, %q, %q", args, code, out, bad)
		}
	}
}

func TestHostilePackages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	app := w.app("web", "1")
	doc, sum := string(app.Raw()), app.Sums()[0]
	w.serve(app)
	pack := func(members ...string) string { return w.write("bad.tgz", tarball(t, members...)) }
	cut, err := os.ReadFile(w.export(app, false))
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name, file, says string
		remote           int // exit code
	}{
		{"an object that is not its name", pack("json", doc, "objects/"+sum, "something else"), sum, 60},
		{"two states", pack("json", doc, "json", doc), "a second state", 1},
		{"no state", pack("objects/"+sum, "root of web 1"), `no member "json"`, 1},
		{"outside", pack("json", doc, "../../x", "x"), "clean relative name", 1},
		{"no object's name", pack("json", doc, "objects/readme", "x"), "no object name", 1},
		{"a key that leads out", pack("json", `{"../x":{}}`), "bad format", 1},
		{"deep JSON", pack("json", `{"a.json":`+strings.Repeat("[", 1e6)+strings.Repeat("]", 1e6)+"}"), "bad format", 1},
		{"cut in an object", w.write("cut.tar", cut[:len(cut)-1024-512+3]), "unexpected EOF", 1},
		{"text", w.write("text", []byte("hello")), "not a tar stream", 1},
		{"nothing", w.write("empty", nil), "it is empty", 1},
	}
	for _, local := range []bool{true, false} {
		base := []string{"begin", "current"}
		if local {
			base = append(base, w.path("objects"))
		}
		w.ok(base...)
		before := w.ok("show")
		for _, c := range cases {
			code := c.remote
			if local {
				code = 1
			}
			w.fails(code, c.says, "add", c.file)
			if got := w.ok("show"); got != before {
				t.Errorf("%s: the state changed to %s", c.name, got)
			}
		}
		if left := objectsIn(t, w.path("objects")); local && len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

func TestOneProcessAtATime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ok("begin", "empty")
	l, err := filelock.Try(w.path("tx"), filelock.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"begin empty", "remove x", "commit", "abort", "queue process", "add " + w.bare(w.state())} {
		w.fails(75, "another process is changing the transaction in "+w.path("tx"), strings.Fields(args)...)
	}
	w.shown()
	w.ok("status")
	l.Unlock()
	w.ok("abort")
}

// TestQueueWithADamagedStep: nothing is done, and an active transaction stays.
func TestQueueWithADamagedStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ok("queue", "new", w.path("queue"), w.path("objects"))
	w.ok("queue", "remove", "web")
	w.ok("queue", "unpack", w.bare(w.app("nginx", "1")))
	web := w.app("web", "1")
	w.ok("begin", w.json(web))
	steps, err := filepath.Glob(w.path("queue/001*/json"))
	if err != nil || len(steps) != 1 {
		t.Fatal(steps, err)
	}
	if err := os.WriteFile(steps[0], []byte(`{"../x":{}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, base := range [][]string{nil, {"empty"}} {
		w.fails(1, "processing 001__", append([]string{"queue", "process"}, base...)...)
		w.same(web, w.shown())
	}
}

func TestDamagedRecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ok("begin", "empty")
	for _, size := range []int{0, 100, 4105, 70000} {
		if err := os.WriteFile(w.path("tx/.status"), make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
		w.fails(1, ".status", "show")
		w.fails(1, ".status", "begin", "empty")
		w.ok("abort")
		w.ok("begin", "empty")
	}
}

func TestDeployKeepsWhatIsNotItsOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ok("begin", "empty", w.path("objects"))
	w.ok("add", w.export(w.app("web", "1"), true))
	if err := os.MkdirAll(w.path("home/user"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.fails(1, "has files and is not a deployment", "deploy", w.path("home"))
	w.ok("deploy", w.path("home/user")) // empty
	const config = `{"ObjectsDir":"../objects","more":1}`
	if err := os.WriteFile(w.path("home/user/.pvr/config"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	w.ok("begin", w.path("home/user"), w.path("objects"))
	w.ok("remove", "web")
	w.ok("deploy", w.path("home/user"))
	if got, err := os.ReadFile(w.path("home/user/.pvr/config")); err != nil || string(got) != config {
		t.Errorf("config %s, %v", got, err)
	}
	if _, err := os.Stat(w.path("home/user/web")); err == nil {
		t.Error("the removed part is still there")
	}
}

func TestDeployWithoutFilesOfTheBSP(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.local(w.state("bsp/run.json", `{"linux":"kernel.img","initrd":"pantavisor"}`, "bsp/pantavisor", "initrd"))
	w.fails(1, "is not in the store", "deploy", w.path("out"))
	w.ok("add", w.export(w.state("bsp/pantavisor", "initrd"), true))
	code, _, bad := w.try("", "deploy", w.path("out"))
	if code != 0 || !strings.HasPrefix(bad, "WARNING: ") || !strings.Contains(bad, `"bsp/kernel.img"`) {
		t.Errorf("exit %d, %s", code, bad)
	}
	if _, err := os.Stat(w.path("out/.pv/pv-initrd.img")); err != nil {
		t.Error(err)
	}
}

func TestBuffers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve(w.state())
	w.ok("begin")
	for _, size := range []string{"512", "10M", "64k"} {
		w.env["PVTX_OBJECT_BUF_SIZE"], w.env["PVTX_CTRL_BUF_SIZE"] = size, "16K"
		w.ok("add", w.export(w.app("web", size), true))
	}
	for _, size := range []string{"511", "513", "11M", "4097M", "-1", "x", "M"} {
		w.env["PVTX_OBJECT_BUF_SIZE"] = size
		if code, _, bad := w.try("", "show"); code != 0 || !strings.Contains(bad, "WARNING: PVTX_OBJECT_BUF_SIZE="+size) {
			t.Errorf("%s: exit %d, %s", size, code, bad)
		}
	}
}

func TestDirectory(t *testing.T) {
	t.Parallel()
	env := map[string]string{"PREFIX": "/opt", "HOME": "/home/user"}
	tl := &tool{getenv: func(name string) string { return env[name] }}
	want := "/opt/var/cache/pvtx"
	if os.Geteuid() != 0 {
		want = "/home/user/.local/share/pvtx"
	}
	if got := tl.dir(); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
