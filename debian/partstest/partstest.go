// Package partstest runs build steps in tests on real packages: those that the checked-in
// lock of a target pins, from the download cache or the archive.
package partstest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// Runner runs steps, each once, in directories that are removed after the test.
type Runner struct {
	*debian.Parts
	t     *testing.T
	lock  *debian.Lock
	done  map[string]bool
	dir   string
	Warns []string // the warnings of the steps
}

// New returns a Runner with the packages of the target's named requests. It skips the
// test when neither cache nor archive has them.
func New(t *testing.T, target string, requests ...string) *Runner {
	t.Helper()
	lock, err := debian.LoadLock(filepath.Join(root(), "targets", target, "parts.lock"))
	if err != nil {
		t.Fatal(err)
	}
	b := &Runner{t: t, lock: lock, done: map[string]bool{}, dir: t.TempDir()}
	var wanted []debian.Request
	for _, name := range requests {
		wanted = append(wanted, b.Request(name))
	}
	b.fetch(wanted, debian.Options{Target: target})
	return b
}

// fetch fetches the packages of the requests.
func (b *Runner) fetch(wanted []debian.Request, o debian.Options) {
	t := b.t
	t.Helper()
	cache, err := build.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	store := debian.Open(cache, func(s string) { t.Log(s) })
	fresh, replaced, err := store.Refresh(t.Context(), b.lock, wanted, o)
	switch k := fault.Of(err); {
	case k == fault.Unreachable || k == fault.Missing:
		t.Skipf("needs packages that are not available here: %v", err)
	case err != nil:
		t.Fatal(err)
	}
	for _, r := range replaced {
		t.Log(r)
	}
	b.lock = fresh
	b.Parts = debian.NewParts(store, fresh)
}

// Program returns a function that prepares a run of a program: this machine's or else
// that of a Debian package, unpacked with its libraries for the test.
func Program(t *testing.T, pkg, name string) func(args ...string) *exec.Cmd {
	t.Helper()
	if file, err := exec.LookPath(name); err == nil {
		return func(args ...string) *exec.Cmd { return exec.CommandContext(t.Context(), file, args...) }
	}
	r := debian.Request{Name: "test", Suite: debian.ToolSuite, Arch: debian.HostArch(), Packages: []string{pkg}, Closure: true}
	b := &Runner{t: t, lock: &debian.Lock{}, done: map[string]bool{}, dir: t.TempDir()}
	b.fetch([]debian.Request{r}, debian.Options{})
	tools, err := b.Toolbox(r)
	if err != nil {
		t.Fatal(err)
	}
	b.Run(tools)
	return func(args ...string) *exec.Cmd {
		cmd, err := tools.Command(t.Context(), b.Work(tools), "", name, args...)
		if err != nil {
			t.Fatal(err)
		}
		return cmd
	}
}

// root returns the root directory of the repository.
func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// Request returns the lock's request with that name; programs are for this machine.
func (b *Runner) Request(name string) debian.Request {
	b.t.Helper()
	for _, r := range b.lock.Requests {
		if r.Name == name && (!r.Closure || r.Arch == debian.HostArch()) {
			return r
		}
	}
	b.t.Skipf("the lock has no request %q for this machine", name)
	return debian.Request{}
}

// Package returns the fetch step of a package, found as by [debian.Parts.Fetch].
func (b *Runner) Package(request, name string) *debian.Fetch {
	b.t.Helper()
	f, err := b.Fetch(b.Request(request), name)
	if err != nil {
		b.t.Fatal(err)
	}
	return f
}

// Unpacked returns a function that makes the steps for the content of the packages of a request.
func (b *Runner) Unpacked(request string) func(name string, keep ...string) (build.Step, error) {
	b.t.Helper()
	return b.Unpacker(b.Request(request))
}

// Tools returns the toolbox with the helper programs.
func (b *Runner) Tools() *debian.Toolbox {
	b.t.Helper()
	tools, err := b.Toolbox(b.Request(debian.ToolsRequest))
	if err != nil {
		b.t.Fatal(err)
	}
	return tools
}

// Run runs a step after its dependencies and returns its output directory.
func (b *Runner) Run(s build.Step) string {
	b.t.Helper()
	if err := b.Try(s); err != nil {
		b.t.Fatal(err)
	}
	return b.out(s)
}

// Try is Run for a step that may fail; its dependencies may not.
func (b *Runner) Try(s build.Step) error {
	b.t.Helper()
	if b.done[s.Name()] {
		return nil
	}
	for _, d := range s.Deps() {
		b.Run(d)
	}
	w := b.Work(s)
	if err := s.Run(b.t.Context(), w); err != nil {
		return err
	}
	b.done[s.Name()] = true
	return nil
}

// Work returns the Work of a step: its output directory, emptied unless the step is done,
// and a scratch directory.
func (b *Runner) Work(s build.Step) *build.Work {
	b.t.Helper()
	tmp := b.t.TempDir()
	if !b.done[s.Name()] {
		if err := os.RemoveAll(b.out(s)); err != nil {
			b.t.Fatal(err)
		}
	}
	if err := os.MkdirAll(b.out(s), 0o755); err != nil {
		b.t.Fatal(err)
	}
	return build.NewWork(b.out(s), tmp, b.out, func(n build.Note) {
		if n.Warn {
			b.Warns = append(b.Warns, n.Text)
		}
	})
}

func (b *Runner) out(s build.Step) string { return filepath.Join(b.dir, "out", s.Name()) }
