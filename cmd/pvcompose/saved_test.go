package main

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/workspace"
)

type object = map[string]any

// saved are the inputs of a target in a directory, from which tests make what other build systems
// leave. Each of these must compose to the image that the inputs themselves make, bit for bit.
type saved struct {
	t   *testing.T
	dir string
	// list is the list of inputs.
	list object
	// app is the root file system of a container.
	app string
}

// epoch is the time of the firmware.
const epoch = 1700000000

// savedInputs saves the inputs of x64-uefi without most of what takes long to compress.
func savedInputs(t *testing.T) *saved {
	t.Helper()
	if testing.Short() {
		t.Skip("builds images")
	}
	root, err := filepath.Abs("../..")
	must(t, err)
	m, err := workspace.OpenMaker(t.Context(), root, "x64-uefi", func(text string) { t.Log(text) })
	must(t, err)
	dir := filepath.Join(t.TempDir(), "inputs")
	must(t, m.Inputs(t.Context(), dir))
	s := &saved{t: t, dir: dir, list: readObject(t, filepath.Join(dir, "inputs.json")), app: filepath.Join(dir, "app")}
	s.prune()
	s.root()
	return s
}

// prune takes away what takes long to compress and says nothing here: most modules, and most of
// the runtime.
func (s *saved) prune() {
	modules, err := filepath.Glob(filepath.Join(s.dir, "kernel/modules/lib/modules/*"))
	must(s.t, err)
	for _, dir := range []string{"drivers/gpu", "drivers/net", "drivers/media", "drivers/infiniband", "drivers/staging", "drivers/iio", "drivers/usb", "sound", "net", "fs/xfs"} {
		must(s.t, os.RemoveAll(filepath.Join(modules[0], "kernel", dir)))
	}
	must(s.t, os.Truncate(filepath.Join(s.dir, "runtime"), 1<<20))
	s.list["runtime"] = object{"path": "runtime"}
	k := s.list["kernel"].(object)
	k["modules"], k["early_modules"] = object{"form": "directory", "path": "kernel/modules"}, []any{"ext4", "virtio_blk"}
	k["firmware"] = object{"trees": k["firmware"].(object)["trees"]} // other build systems know no budget
}

// root writes the root file system of the container.
func (s *saved) root() {
	must(s.t, os.MkdirAll(filepath.Join(s.app, "etc"), 0o755))
	must(s.t, os.WriteFile(filepath.Join(s.app, "etc/passwd"), []byte("root:x:0:0::/:/bin/sh\n"), 0o644))
	program, err := os.ReadFile(filepath.Join(s.dir, "runtime"))
	must(s.t, err)
	must(s.t, os.WriteFile(filepath.Join(s.app, "init"), program, 0o755))
}

// direct composes the inputs where they are, with a container, and returns the SHA-256 of the image.
// more are fields of the list and of the container that the build system adds.
func (s *saved) direct(more, container object) string {
	out := maps.Clone(s.list)
	out["outputs"], out["epoch"] = []any{"image"}, epoch
	maps.Copy(out, more)
	app := object{
		"name": "app", "root": object{"form": "directory", "path": "app"}, "entrypoint": []any{"/init"},
		"args": object{"PV_GROUP": "root", "PV_ROLES": []any{"mgmt"}},
	}
	maps.Copy(app, container)
	out["containers"] = []any{app}
	return composed(s.t, filepath.Join(s.dir, "direct.json"), out)
}

// partial writes what a build does not know: the list without these fields of it and of its kernel.
func (s *saved) partial(without, ofKernel []string, more object) string {
	out := maps.Clone(s.list)
	k := maps.Clone(out["kernel"].(object))
	for _, field := range without {
		delete(out, field)
	}
	for _, field := range ofKernel {
		delete(k, field)
	}
	out["kernel"] = k
	maps.Copy(out, more)
	file := filepath.Join(s.dir, "partial.json")
	writeObject(s.t, file, out)
	return file
}

// pack writes a directory as a tar with root as the owner, compressed if the name says so.
func (s *saved) pack(file, dir string) {
	must(s.t, os.MkdirAll(filepath.Dir(file), 0o755))
	f, err := os.Create(file)
	must(s.t, err)
	defer f.Close()
	var to io.WriteCloser = f
	if strings.HasSuffix(file, "gz") {
		z := gzip.NewWriter(f)
		defer func() { must(s.t, z.Close()) }()
		to = z
	}
	w := tar.NewWriter(to)
	must(s.t, filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil || at == dir {
			return err
		}
		return member(w, dir, at, d)
	}))
	must(s.t, w.Close())
}

func member(w *tar.Writer, dir, at string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	to := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if to, err = os.Readlink(at); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(info, to)
	if err != nil {
		return err
	}
	rel, err := filepath.Rel(dir, at)
	if err != nil {
		return err
	}
	h.Name, h.Uid, h.Gid, h.Uname, h.Gname = "./"+rel, 0, 0, "", ""
	if err := w.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
		return err
	}
	content, err := os.ReadFile(at)
	if err == nil {
		_, err = w.Write(content)
	}
	return err
}

// composed composes a list, and returns the SHA-256 of the image.
func composed(t *testing.T, file string, list object) string {
	t.Helper()
	writeObject(t, file, list)
	out := filepath.Join(t.TempDir(), "out")
	if code := Run(t.Context(), []string{"build", "-i", file, "-o", out}, io.Discard, os.Stderr); code != 0 {
		t.Fatalf("%s: exit code %d", file, code)
	}
	made, err := filepath.Glob(filepath.Join(out, "*.img"))
	if err != nil || len(made) != 1 {
		t.Fatalf("%v, %v", made, err)
	}
	return sum(t, made[0])
}

func readObject(t *testing.T, file string) object {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	var out object
	must(t, json.Unmarshal(text, &out))
	return out
}

func writeObject(t *testing.T, file string, o object) {
	t.Helper()
	text, err := json.MarshalIndent(o, "", "  ")
	must(t, err)
	must(t, os.WriteFile(file, text, 0o644))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
