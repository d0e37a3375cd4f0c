package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pantavisor/pantavisor/internal/oracle"
)

// command starts the tool as a process of its own.
func (s *scene) command(args ...string) (*exec.Cmd, *bytes.Buffer) {
	s.t.Helper()
	cmd := exec.Command("pvr", args...) // testscript.Main puts it on the path
	cmd.Dir = s.repo
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	return cmd, &errs
}

// rootfs writes a small root file system; generations differ.
func (s *scene) rootfs(generation string) string {
	s.t.Helper()
	dir := filepath.Join(s.work, generation)
	for i := range 20 {
		text := make([]byte, 20000)
		_, _ = rand.NewChaCha8([32]byte{byte(i), generation[0]}).Read(text)
		s.write(filepath.Join(dir, fmt.Sprintf("usr/f%d", i)), string(text))
	}
	return dir
}

// Whoever is killed while an application is added or brought up to date leaves the
// old one or none, a repository that works, and nothing that the next command would
// take for a file of the user.
func TestKilledAppAdd(t *testing.T) {
	oracle.Need(t, "unsquashfs")
	s := newScene(t)
	s.must("init")
	s.write("other/file", "text")
	s.must("add", ".")
	s.must("commit")
	first, second := s.rootfs("first"), s.rootfs("second")
	add := []string{"app", "add", "web", "-t", "rootfs", "--from", first}
	update := []string{"app", "update", "web", "--from", second}
	var span time.Duration
	killed := 0
	for round := range 41 {
		words := add
		if round%2 == 1 {
			s.must(add...)
			words = update
		}
		began := time.Now()
		cmd, errs := s.command(words...)
		if round == 0 { // the first is not killed, it measures
			if err := cmd.Wait(); err != nil {
				t.Fatalf("%v: %s", err, errs)
			}
			span = time.Since(began)
		} else {
			timer := time.AfterFunc(time.Duration(rand.Int64N(int64(span*5/4))), func() { _ = cmd.Process.Kill() })
			if cmd.Wait() != nil {
				killed++
			}
			timer.Stop()
		}
		s.afterKill(words)
	}
	t.Logf("%d of 40 killed within %v", killed, span)
}

// afterKill does what was begun in peace, looks at what there is and starts over.
func (s *scene) afterKill(words []string) {
	s.t.Helper()
	for _, line := range strings.Split(s.must("status").stdout, "\n") {
		if line != "" && !strings.HasPrefix(line[2:], "web/") {
			s.t.Errorf("status has %q", line)
		}
	}
	if _, err := os.Stat("web"); err != nil && words[1] == "update" {
		s.t.Fatal("the application is lost")
	}
	s.must(words...)
	if out, err := exec.Command("unsquashfs", "-l", "web/root.squashfs").CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
	for _, dir := range []string{".", "web", ".pvr"} {
		for _, name := range names(s.t, dir) {
			if strings.Contains(name, ".tmp-") {
				s.t.Errorf("%s is left over in %s", name, dir)
			}
		}
	}
	s.must("app", "rm", "web")
	s.must("checkout")
}
