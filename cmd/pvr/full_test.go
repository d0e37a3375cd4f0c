package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A full disk makes every command fail that writes, with the old state whole and
// nothing left that takes room.
func TestFullDisk(t *testing.T) {
	s := newScene(t)
	for i := range 8 {
		text := make([]byte, 1<<20)
		_, _ = rand.NewChaCha8([32]byte{byte(i)}).Read(text)
		s.write(fmt.Sprintf("big/%d", i), string(text))
	}
	s.must("init", "-o", "../objects")
	s.must("add", ".")
	s.must("commit")
	archive := filepath.Join(s.work, "all.tgz")
	s.must("export", archive)
	source := filepath.Join(s.repo, ".pvr")

	s.mkdir("small")
	small := filepath.Join(s.work, "small")
	if err := unix.Mount("none", small, "tmpfs", 0, "size=5m"); err != nil {
		t.Skipf("mounting a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(small, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s.mkdir("small/repo")
	t.Chdir(filepath.Join(small, "repo"))
	s.must("init", "-o", "../objects")
	s.write("old.json", `{"old":true}`)
	s.must("add", ".")
	s.must("commit")
	before := s.must("inspect", "--canonical").stdout
	free := room(t, small)
	for _, c := range []struct {
		rc    int
		words []string
	}{
		{3, []string{"import", archive}},
		{3, []string{"get", archive}},
		{3, []string{"merge", source}},
		{7, []string{"clone", "-o", "../more", archive, "../clone"}},
		{7, []string{"clone", "-o", "../more", source, "../clone"}},
		{3, []string{"export", "../self.tar"}},
	} {
		if c.words[0] == "export" { // of a state that does not fit
			t.Chdir(s.repo)
			c.words[1] = filepath.Join(small, "self.tar")
		}
		got := s.run(c.words...)
		if got.rc != c.rc || !strings.Contains(got.stderr, "no space left on device") || strings.Contains(got.stderr, "unusable") {
			t.Errorf("%v: exit code %d, %s", c.words, got.rc, got.stderr)
		}
		t.Chdir(filepath.Join(small, "repo"))
		if err := os.RemoveAll(filepath.Join(small, "more")); err != nil {
			t.Fatal(err)
		}
		if now := room(t, small); now < free {
			t.Errorf("%v: %d bytes are taken", c.words, free-now)
		}
	}
	if after := s.must("inspect", "--canonical").stdout; after != before {
		t.Errorf("the state is %s", after)
	}
	s.must("checkout")
	for _, name := range names(t, small) {
		if name != "repo" && name != "objects" {
			t.Errorf("%s is left", name)
		}
	}
}

// room returns the free bytes of a file system.
func room(t *testing.T, dir string) int64 {
	t.Helper()
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	return int64(fs.Bfree) * int64(fs.Bsize) //nolint:unconvert // 32 bits wide on some architectures
}
