package volume

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/revision/manifest"
)

// bench is a trail with one container "c".
func bench(t *testing.T) (*Mounter, *manifest.Container) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	m := &Mounter{Trail: dir + "/trails/7", Disks: dir + "/disks", Rev: "7", VolDir: dir + "/volumes", ConfDir: dir + "/configs", Handlers: true}
	put(t, m.Trail+"/c/tree/etc/os", "squash")
	put(t, m.Trail+"/c/conf.bind", "bound")
	put(t, m.Trail+"/c/more.data/x", "data")
	run(t, "mksquashfs", m.Trail+"/c/tree", m.Trail+"/c/root.squashfs", "-quiet", "-no-progress")
	return m, &manifest.Container{Name: "c", Root: manifest.Artifact{File: "root.squashfs"}}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	oracle.Need(t, name)
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

func want(t *testing.T, path, text string) {
	t.Helper()
	if b, err := os.ReadFile(path); err != nil || string(b) != text {
		t.Errorf("%s holds %q (%v), want %q", path, b, err, text)
	}
}

func mounts(t *testing.T, dir string) (n int) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(b), " "+dir+"/")
}

func TestMountAndUnmount(t *testing.T) {
	m, c := bench(t)
	c.Volumes = []manifest.Artifact{{File: "conf.bind"}, {File: "more.data"}}
	c.Storage = []manifest.Volume{{Name: "perm", Persistence: "permanent"}, {Name: "rev", Persistence: "revision"}, {Name: "tmp", Persistence: "boot"}}
	put(t, m.Trail+"/_config/c/etc/a", "conf")
	if err := os.Symlink("a", m.Trail+"/_config/c/etc/b"); err != nil {
		t.Fatal(err)
	}
	s, err := m.Mount(c)
	if err != nil {
		t.Fatal(err)
	}
	v := m.VolDir + "/c/"
	want(t, v+"root.squashfs/etc/os", "squash")
	want(t, v+"conf.bind", "bound")
	want(t, v+"more.data/x", "data")
	want(t, s.Config+"/etc/a", "conf")
	want(t, s.Config+"/etc/b", "conf")
	if s.Config != m.ConfDir+"/c" {
		t.Errorf("the overlay is in %s", s.Config)
	}
	if err := os.WriteFile(v+"root.squashfs/new", nil, 0o644); err == nil {
		t.Error("an image can be written to")
	}
	for _, n := range []string{"perm", "rev", "tmp"} {
		put(t, v+n+"/mine", n)
	}
	want(t, m.Disks+"/perm/c/perm/mine", "perm")
	want(t, m.Disks+"/rev/7/c/rev/mine", "rev")
	if err := s.Unmount(); err != nil {
		t.Fatal(err)
	}
	if n := mounts(t, m.VolDir+"/c"); n != 0 {
		t.Errorf("%d mounts are left", n)
	}
	for _, gone := range []string{m.VolDir + "/c", m.ConfDir + "/c"} {
		if _, err := os.Stat(gone); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", gone, err)
		}
	}
	if s, err = m.Mount(c); err != nil {
		t.Fatal(err)
	}
	want(t, v+"perm/mine", "perm")
	want(t, v+"rev/mine", "rev")
	want(t, v+"tmp/mine", "tmp")
	if err := errors.Join(s.Unmount(), m.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestBootVolumesLiveUntilTheEnd mounts boot volumes, also one inside another, again and
// again, as a container that recovers does.
func TestBootVolumesLiveUntilTheEnd(t *testing.T) {
	m, c := bench(t)
	for _, name := range []string{"a/b", "a", "lxc-overlay"} { // as the manifest sorts them or not
		c.Storage = append(c.Storage, manifest.Volume{Name: name, Persistence: "boot"})
	}
	other := &manifest.Container{Name: "d", Storage: c.Storage[1:2]}
	v := m.VolDir + "/c/"
	for round := range 3 {
		s, err := m.Mount(c)
		if err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			put(t, v+"a/mine", "a")
			put(t, v+"lxc-overlay/upper/x", "upper")
		}
		want(t, v+"a/mine", "a")
		want(t, v+"lxc-overlay/upper/x", "upper")
		if err := s.Unmount(); err != nil {
			t.Fatal(err)
		}
	}
	s, err := m.Mount(other)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(m.VolDir + "/d/a/mine"); err == nil {
		t.Error("two containers share a boot volume")
	}
	if err := errors.Join(s.Unmount(), m.Close()); err != nil {
		t.Fatal(err)
	}
	if n := mounts(t, m.VolDir); n != 0 {
		t.Errorf("%d mounts are left", n)
	}
	if s, err = m.Mount(c); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(v + "a/mine"); err == nil {
		t.Error("a boot volume kept its content over a boot")
	}
	if err := errors.Join(s.Unmount(), m.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestFailureLeavesNothing(t *testing.T) {
	disks := func(name string) (*manifest.Disk, bool) {
		return &manifest.Disk{Name: "vault", Type: "dm-crypt-caam"}, name == "vault"
	}
	for name, c := range map[string]struct {
		change func(*manifest.Container)
		want   string
	}{
		"missing": {func(c *manifest.Container) { c.Volumes = []manifest.Artifact{{File: "no.squashfs"}} }, "no.squashfs"},
		"damaged": {func(c *manifest.Container) { c.Volumes = []manifest.Artifact{{File: "bad.squashfs"}} }, "as squashfs"},
		"handler": {func(c *manifest.Container) { c.Volumes = []manifest.Artifact{{Handler: "dm", File: "root.squashfs"}} }, "handler dm"},
		"disk":    {func(c *manifest.Container) { c.Storage = []manifest.Volume{{Name: "x", Disk: "nodisk"}} }, "no disk nodisk"},
		"crypt":   {func(c *manifest.Container) { c.Storage = []manifest.Volume{{Name: "x", Disk: "vault"}} }, "unsupported type dm-crypt-caam"},
		"name":    {func(c *manifest.Container) { c.Storage = []manifest.Volume{{Name: "../x"}} }, "not a valid volume name"},
	} {
		t.Run(name, func(t *testing.T) {
			m, con := bench(t)
			m.Disk = disks
			put(t, m.Trail+"/c/bad.squashfs", "this is not an image, whatever its name says")
			c.change(con)
			if _, err := m.Mount(con); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if n := mounts(t, m.VolDir); n != 0 {
				t.Errorf("%d mounts are left", n)
			}
		})
	}
}

func TestOverlayCannotLeadOut(t *testing.T) {
	m, c := bench(t)
	put(t, m.Trail+"/_config/c/a", "x")
	if err := os.Symlink("/etc/passwd", m.Trail+"/_config/c/out"); err != nil {
		t.Fatal(err)
	}
	if s, err := m.Mount(c); err == nil {
		_ = s.Unmount()
		t.Error("a link out of the overlay was followed")
	}
	if n := mounts(t, m.VolDir); n != 0 {
		t.Errorf("%d mounts are left", n)
	}
}

func TestSweep(t *testing.T) {
	m, c := bench(t)
	c.Storage = []manifest.Volume{{Name: "with blank", Persistence: "boot"}}
	if _, err := m.Mount(c); err != nil {
		t.Fatal(err)
	}
	if n, err := Sweep(m.VolDir); n != 3 || err != nil {
		t.Errorf("%d mounts swept, %v; want 3", n, err)
	}
	if n := mounts(t, m.VolDir); n != 0 {
		t.Errorf("%d mounts are left", n)
	}
	if n, err := Sweep(m.VolDir); n != 0 || err != nil {
		t.Errorf("a second time: %d, %v", n, err)
	}
}

// TestBootVolumesOfTheNextRevision checks that a container that goes on keeps its boot
// volume with the Mounter of the next revision, and one that ended gets an empty one.
func TestBootVolumesOfTheNextRevision(t *testing.T) {
	m, c := bench(t)
	c.Storage = append(c.Storage, manifest.Volume{Name: "v", Persistence: "boot"})
	other := &manifest.Container{Name: "d", Storage: []manifest.Volume{{Name: "v", Persistence: "boot"}}}
	mount := func(m *Mounter, c *manifest.Container) *Set {
		t.Helper()
		s, err := m.Mount(c)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s, o := mount(m, c), mount(m, other)
	put(t, m.VolDir+"/c/v/mine", "c")
	put(t, m.VolDir+"/d/v/mine", "d")
	if err := errors.Join(s.Unmount(), o.Unmount(), m.Drop([]string{"c"})); err != nil {
		t.Fatal(err)
	}
	next := &Mounter{Trail: m.Trail, Disks: m.Disks, Rev: "2", VolDir: m.VolDir, ConfDir: m.ConfDir, First: m}
	s, o = mount(next, c), mount(next, other)
	want(t, m.VolDir+"/d/v/mine", "d")
	if _, err := os.Stat(m.VolDir + "/c/v/mine"); err == nil {
		t.Error("a replaced container has the boot volume of the one before")
	}
	if err := errors.Join(s.Unmount(), o.Unmount(), next.Close()); err != nil {
		t.Fatal(err)
	}
	if n := mounts(t, m.VolDir); n != 0 {
		t.Errorf("%d mounts are left", n)
	}
}
