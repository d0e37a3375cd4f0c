package container

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTopIsTheRootOfTheHierarchy(t *testing.T) {
	for _, c := range []struct{ dir, path string }{{"/m", "/"}, {"/m/user.slice/session", "/user.slice/session"}} {
		top := (&Tree{dir: c.dir, path: c.path, own: c.path, v2: true}).Top()
		if top.dir != "/m" || top.Path() != "/" || top.own != c.path || !top.v2 {
			t.Errorf("%+v: %+v", c, top)
		}
		if sub := top.Sub("pantavisor").Sub("x"); sub.dir != "/m/pantavisor/x" || sub.Path() != "/pantavisor/x" {
			t.Errorf("below it: %+v", sub)
		}
	}
}

func TestControllersAreEnabledAllTheWayDown(t *testing.T) {
	root := t.TempDir()
	dirs := []string{root, root + "/pantavisor", root + "/pantavisor/x", root + "/pantavisor/x/lxc"}
	for _, d := range dirs {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d, "cgroup.subtree_control"), nil, 0o644); err != nil { // the kernel's are there
			t.Fatal(err)
		}
	}
	tree := (&Tree{dir: root, path: "/", own: "/"}).Sub("pantavisor").Sub("x")
	(&Group{tree: tree, fd: -1}).enable("memory")
	for _, d := range dirs {
		if text, err := os.ReadFile(filepath.Join(d, "cgroup.subtree_control")); err != nil || strings.TrimSpace(string(text)) != "+memory" {
			t.Errorf("%s: %q, %v", d, text, err)
		}
	}
}

func TestParentStaysWhileItHasOthers(t *testing.T) {
	root := t.TempDir()
	one := (&Tree{dir: root, path: "/"}).Sub("pantavisor").Sub("one")
	for _, name := range []string{"one", "two"} {
		if err := os.MkdirAll(filepath.Join(root, "pantavisor", name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	_ = os.Remove(one.dir)
	if one.RemoveParent(); errors.Is(gone(root+"/pantavisor/two"), fs.ErrNotExist) {
		t.Error("the group of another runtime is gone")
	}
	_ = os.Remove(root + "/pantavisor/two")
	if one.RemoveParent(); gone(root+"/pantavisor") == nil {
		t.Error("the empty group stays")
	}
	(&Tree{dir: root + "/x", path: "/x"}).RemoveParent()
	if gone(root) != nil {
		t.Error("the root of the hierarchy was touched")
	}
}

func gone(path string) error {
	_, err := os.Stat(path)
	return err
}
