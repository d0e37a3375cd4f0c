package images

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/revision/fragment"
)

// made is a step with a fixed output: files by name, "-> to" for a link.
type made struct {
	name  string
	files map[string]string
}

func (m *made) Name() string       { return m.name }
func (m *made) Deps() []build.Step { return nil }

func (m *made) Run(_ context.Context, w *build.Work) error {
	for name, text := range m.files {
		path := filepath.Join(w.Out, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// runner runs steps with their dependencies, each once, below one directory.
type runner struct {
	t     testing.TB
	dir   string
	outs  map[string]string
	Warns []string
}

func newRunner(t testing.TB) *runner {
	return &runner{t: t, dir: t.TempDir(), outs: map[string]string{}}
}

// run returns the step's output directory.
func (r *runner) run(s build.Step) (string, error) {
	r.t.Helper()
	if out, ok := r.outs[s.Name()]; ok {
		return out, nil
	}
	for _, d := range s.Deps() {
		if _, err := r.run(d); err != nil {
			return "", err
		}
	}
	if src, ok := s.(build.Sourced); ok {
		if _, err := src.Sources(); err != nil {
			return "", err
		}
	}
	out := filepath.Join(r.dir, s.Name(), "out")
	tmp := filepath.Join(r.dir, s.Name(), "tmp")
	for _, d := range []string{out, tmp} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			r.t.Fatal(err)
		}
	}
	in := func(d build.Step) string { return r.outs[d.Name()] }
	note := func(n build.Note) {
		if n.Warn {
			r.Warns = append(r.Warns, n.Text)
		}
	}
	if err := s.Run(r.t.Context(), build.NewWork(out, tmp, in, note)); err != nil {
		return "", err
	}
	r.outs[s.Name()] = out
	return out, nil
}

func (r *runner) must(s build.Step) string {
	r.t.Helper()
	out, err := r.run(s)
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

// host runs a program that checks an output.
func host(t testing.TB, name string, args ...string) string {
	t.Helper()
	path := oracle.Program(t, name)
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// board returns inputs with a name and the layout of a small medium.
func board() *Inputs {
	return &Inputs{Target: "board", Layouts: []Layout{{Size: 256, Table: "gpt", Partitions: []Partition{
		{Name: "pvboot", Role: "boot", Format: "fat32", Size: 40 * mib},
		{Name: "pvroot", Role: "root", Format: "ext4"},
	}}}}
}

// at returns a file or directory of a source tree.
func at(root, name string) build.Source {
	return build.Source{Name: name, Path: filepath.Join(root, filepath.FromSlash(name))}
}

// perhaps is at for a file that may be absent; it then returns nil.
func perhaps(root, name string) *build.Source {
	s := at(root, name)
	if !exists(s.Path) {
		return nil
	}
	return &s
}

// sourceTree writes files below a new directory.
func sourceTree(t testing.TB, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// skelPart makes a part from a directory.
type skelPart struct{ dir string }

func (s *skelPart) Name() string       { return "part/skel" }
func (s *skelPart) Deps() []build.Step { return nil }

func (s *skelPart) Run(ctx context.Context, w *build.Work) error {
	p, err := fragment.Create(w.Out)
	if err != nil {
		return err
	}
	if err := addTree(ctx, p, build.Source{Path: s.dir}); err != nil {
		return err
	}
	return p.Close()
}
