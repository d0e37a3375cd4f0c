package product

import (
	"encoding/json"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/build"
)

// killed is a product whose builds are killed.
type killed struct {
	t         *testing.T
	mage, dir string
}

// TestKilledBuilds kills builds at random moments, with all of their processes or only the
// first one. Each next build makes the same image, and leaves nothing of the killed one behind.
// PV_TEST_KILLS says how often. The sources of this module must not change meanwhile.
func TestKilledBuilds(t *testing.T) {
	rounds, _ := strconv.Atoi(os.Getenv("PV_TEST_KILLS"))
	if rounds == 0 {
		t.Skip("builds images for minutes: PV_TEST_KILLS=15 go test ./test/product -run KilledBuilds")
	}
	k := newKilled(t)
	k.content("0")
	seed := k.finish(k.build(""))
	k.content("1")
	cache := k.cache(seed)
	start := time.Now()
	want := k.finish(k.build(cache))
	span := time.Since(start)
	if cmp.Equal(seed.sums(), want.sums()) {
		t.Fatal("another content made the same image")
	}
	for round := range rounds {
		cache := k.cache(seed)
		after := time.Duration(rand.Int64N(int64(span)))
		what := k.kill(cache, after, round%2 == 0)
		got := k.finish(k.build(cache))
		if diff := cmp.Diff(want.sums(), got.sums()); diff != "" {
			t.Errorf("killed %s: the next build differs:\n%s", what, diff)
		}
		for _, left := range append(leftovers(t, cache), leftovers(t, filepath.Join(k.dir, "out"))...) {
			t.Errorf("killed %s: left behind is %s", what, left)
		}
		t.Logf("killed %s", what)
		if err := os.RemoveAll(cache); err != nil {
			t.Fatal(err)
		}
	}
}

// newKilled makes the product: x64-uefi and a file of its own.
func newKilled(t *testing.T) *killed {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	k := &killed{t, filepath.Join(t.TempDir(), "mage"), t.TempDir()}
	program := exec.CommandContext(t.Context(), "go", "build", "-o", k.mage, "./cmd/mage")
	program.Dir = root
	if out, err := program.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	lock, err := os.ReadFile(filepath.Join(root, "targets/x64-uefi/parts.lock"))
	if err != nil {
		t.Fatal(err)
	}
	k.write("targets/mine/parts.lock", string(lock))
	k.write("targets/mine/target.yaml", "description: a product\nbase: x64-uefi\n")
	return k
}

func (k *killed) write(name, text string) {
	k.t.Helper()
	file := filepath.Join(k.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		k.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		k.t.Fatal(err)
	}
}

// content changes the product's file, which is in the initrd.
func (k *killed) content(text string) { k.write("vendors/mine/skel/etc/content", text) }

// build is a build with a cache, "" for the user's.
func (k *killed) build(cache string) *exec.Cmd {
	cmd := exec.CommandContext(k.t.Context(), k.mage, "build", "mine")
	cmd.Dir = k.dir
	if cache != "" {
		cmd.Env = append(os.Environ(), "PV_CACHE_DIR="+cache)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// report is what the test wants of a build's.
type report struct {
	Artefacts []struct{ Path, SHA256 string }
	Steps     []struct{ Key string }
}

func (r report) sums() map[string]string {
	out := map[string]string{}
	for _, a := range r.Artefacts {
		out[a.Path] = a.SHA256
	}
	return out
}

// finish lets a build end and returns its report.
func (k *killed) finish(cmd *exec.Cmd) (r report) {
	k.t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		k.t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(k.dir, "out/mine/report.json"))
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		k.t.Fatal(err)
	}
	return r
}

// cache returns a cache that has the steps of a build and nothing else.
func (k *killed) cache(of report) string {
	k.t.Helper()
	users, err := build.CacheDir()
	if err != nil {
		k.t.Fatal(err)
	}
	dir, err := os.MkdirTemp(filepath.Dir(users), "killed-") // on the same file system, for links
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Mkdir(filepath.Join(dir, "steps"), 0o755); err != nil {
		k.t.Fatal(err)
	}
	for _, s := range of.Steps {
		from := filepath.Join(users, "steps", s.Key)
		if out, err := exec.CommandContext(k.t.Context(), "cp", "-al", from, filepath.Join(dir, "steps")).CombinedOutput(); err != nil {
			k.t.Fatalf("%v: %s", err, out)
		}
	}
	return dir
}

// kill starts a build, kills it after a time and says so.
func (k *killed) kill(cache string, after time.Duration, all bool) string {
	k.t.Helper()
	cmd := k.build(cache)
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	time.Sleep(after)
	pid, whom := cmd.Process.Pid, "the first process"
	if all {
		pid, whom = -pid, "all processes"
	}
	err := syscall.Kill(pid, syscall.SIGKILL)
	state, _ := cmd.Process.Wait()
	if err != nil || state.Success() {
		whom = "too late"
	}
	return strings.Join([]string{"after", after.Round(time.Millisecond).String() + ":", whom}, " ")
}

// leftovers are the temporary files below a directory.
func leftovers(t *testing.T, dir string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, path) // it is below
		inTmp := strings.HasPrefix(name, "tmp/")
		if inTmp || strings.Contains(d.Name(), ".tmp-") || strings.HasSuffix(d.Name(), ".part") {
			out = append(out, path)
		}
		if name == "steps" || inTmp && d.IsDir() {
			return fs.SkipDir // finished outputs; what is in tmp is named once
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
