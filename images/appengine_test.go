package images

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/revision/fragment"
)

// guest returns the package of a small App Engine target.
func guest(t testing.TB) *AppEngine {
	t.Helper()
	root := boardTree(t)
	for name, text := range map[string]string{
		"app/run.json":           `{"#spec":"service-manifest-run@1","config":"lxc.container.conf","name":"app","root-volume":"root.squashfs","storage":{},"type":"lxc","volumes":[]}`,
		"app/root.squashfs":      "an image",
		"app/lxc.container.conf": "lxc.init.cmd = /sbin/init\n",
	} {
		file := filepath.Join(root, "vendors/board/stepskel", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return &AppEngine{
		Target: "x64-appengine", Release: "7", Packages: []string{"busybox-static=1:1.35:amd64"},
		Config: at(root, "config/board/pantavisor.config"), Defaults: at(root, "config/defaults"), Skel: perhaps(root, "vendors/board/skel"),
		Packaged: "files", Epoch: 1_700_000_000,
		Program: Artefact{&made{"go/pantavisor", map[string]string{"bin/pantavisor": "#!/bin/sh\necho I am the runtime\n"}}, "bin/pantavisor"},
		Storage: &Trail{
			AppEngine: true, Hub: at(root, "config/board/pantahub.config"), Stepskel: perhaps(root, "vendors/board/stepskel"),
			Parts: []build.Step{&Device{Defaults: at(root, "config/defaults")}}, Boot: &made{"uboot/state", map[string]string{"boot/uboot.txt": "pv_rev=0\x00\x00"}},
		},
	}
}

func TestPackageInstalls(t *testing.T) {
	dir := newRunner(t).must(guest(t))
	work := t.TempDir()
	host(t, "tar", "-xzf", filepath.Join(dir, appEngineFile), "-C", work)
	prefix := filepath.Join(work, "a directory")
	out := host(t, filepath.Join(work, packageDir, "install"), prefix)
	if !strings.Contains(out, "sudo '"+prefix+"/pantavisor' -i") {
		t.Errorf("it does not say how to run it:\n%s", out)
	}
	if got := host(t, filepath.Join(prefix, "pvcontrol")); got != "I am the runtime\n" {
		t.Errorf("pvcontrol says %q", got)
	}
	for name, want := range map[string]string{
		"storage/boot/uboot.txt": "pv_rev=0\x00\x00", "etc/pantavisor.config": boardFiles()["config/board/pantavisor.config"],
		"storage/trails/0/app/root.squashfs": "an image",
		"build":                              "release 7\ntarget x64-appengine\nepoch 1700000000\npackage busybox-static=1:1.35:amd64\n",
	} {
		if got, err := os.ReadFile(filepath.Join(prefix, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"etc/pantavisor/defaults/groups.json", "README.md", "pantavisor.service", "storage/trails/0/.pvr/json"} {
		if !exists(filepath.Join(prefix, name)) {
			t.Errorf("no %s", name)
		}
	}
	checkShared(t, prefix)
	again(t, work, prefix)
}

// checkShared checks that objects and revision share files.
func checkShared(t *testing.T, prefix string) {
	t.Helper()
	info, err := os.Stat(filepath.Join(prefix, "storage/trails/0/app/root.squashfs"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Sys().(*syscall.Stat_t).Nlink < 2 {
		t.Error("the image in the revision is a copy of its object")
	}
}

// again installs over an installation that has been used.
func again(t *testing.T, work, prefix string) {
	t.Helper()
	mine := map[string]string{
		"etc/pantavisor.config": "PV_LOG_LEVEL=1\n", "storage/trails/0/app/run.json": "changed", "etc/pantavisor/defaults/groups.json": "[]",
	}
	for name, text := range mine {
		if err := os.WriteFile(filepath.Join(prefix, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(prefix, "pantavisor"), []byte("old"), 0o755); err != nil {
		t.Fatal(err)
	}
	out := host(t, filepath.Join(work, packageDir, "install"), prefix)
	if n := strings.Count(out, "kept "); n != 3 || !exists(filepath.Join(prefix, "etc/pantavisor/defaults/groups.json.new")) {
		t.Errorf("it reports %d things as kept, want two edited files and the storage:\n%s", n, out)
	}
	for name, want := range mine {
		if got, err := os.ReadFile(filepath.Join(prefix, name)); err != nil || string(got) != want {
			t.Errorf("%s did not stay: %q, %v", name, got, err)
		}
	}
	if got := host(t, filepath.Join(prefix, "pantavisor")); got != "I am the runtime\n" {
		t.Errorf("the program is still the old one: %q", got)
	}
}

func TestInstallRefusesUnusableDirectories(t *testing.T) {
	dir := newRunner(t).must(guest(t))
	work := t.TempDir()
	host(t, "tar", "-xzf", filepath.Join(dir, appEngineFile), "-C", work)
	install := filepath.Join(work, packageDir, "install")
	for want, words := range map[string][]string{
		"one directory at most":          {"a", "b"},
		"where the package was unpacked": {filepath.Join(work, packageDir)},
		"cannot be made":                 {"/dev/null/x"},
	} {
		out, err := exec.Command(install, words...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%v: %v, %s; want %s", words, err, out, want)
		}
	}
}

// TestInstallInAnyDirectory checks that the printed command can be typed and that systemd
// accepts the unit, whatever the directory's name is.
func TestInstallInAnyDirectory(t *testing.T) {
	dir := newRunner(t).must(guest(t))
	for _, name := range []string{"plain", "with blank", "$HOME & 50%|", "it's"} {
		work := t.TempDir()
		host(t, "tar", "-xzf", filepath.Join(dir, appEngineFile), "-C", work)
		prefix := filepath.Join(work, name)
		out := host(t, filepath.Join(work, packageDir, "install"), prefix)
		typed := ""
		for line := range strings.Lines(out) {
			if words, ok := strings.CutPrefix(strings.TrimSpace(line), "sudo "); ok && strings.HasSuffix(words, "pvcontrol ls") || strings.HasSuffix(words, "pvcontrol' ls") {
				typed = words
			}
		}
		if got := host(t, "sh", "-c", typed); got != "I am the runtime\n" {
			t.Errorf("%s: %s says %q", name, typed, got)
		}
		unit := filepath.Join(prefix, "pantavisor.service")
		if quoted := strings.Contains(name, "'"); quoted == exists(unit) {
			t.Errorf("%s: a unit is made: %v", name, !quoted)
		} else if !quoted {
			host(t, "systemd-analyze", "verify", unit)
		}
	}
}

// TestInstallRefusesForeignStorage checks that an existing storage of another program is
// refused before anything is changed.
func TestInstallRefusesForeignStorage(t *testing.T) {
	dir := newRunner(t).must(guest(t))
	work := t.TempDir()
	host(t, "tar", "-xzf", filepath.Join(dir, appEngineFile), "-C", work)
	prefix := filepath.Join(work, "srv")
	precious := filepath.Join(prefix, "storage/precious")
	if err := os.MkdirAll(filepath.Dir(precious), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(precious, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(filepath.Join(work, packageDir, "install"), prefix).CombinedOutput()
	if err == nil || !strings.Contains(string(out), prefix+"/storage is there already") {
		t.Errorf("%v, %s", err, out)
	}
	if left, _ := filepath.Glob(prefix + "/*"); len(left) != 1 || !exists(precious) {
		t.Errorf("after it there is %v", left)
	}
	// An interrupted installation can be repeated.
	for _, f := range []string{precious, filepath.Join(prefix, ".storage.new/storage/trails/half")} {
		if err := errors.Join(os.RemoveAll(f), os.MkdirAll(filepath.Dir(f), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	host(t, filepath.Join(work, packageDir, "install"), prefix)
	if !exists(filepath.Join(prefix, "storage/trails/0/.pvr/json")) || exists(filepath.Join(prefix, ".storage.new")) {
		t.Error("the storage is not whole")
	}
}

func TestPackageIsTheSameFromTwoPaths(t *testing.T) {
	sums := map[string]bool{}
	for range 2 {
		sum, err := fragment.Digest(t.Context(), filepath.Join(newRunner(t).must(guest(t)), appEngineFile))
		if err != nil {
			t.Fatal(err)
		}
		sums[sum] = true
	}
	if len(sums) != 1 {
		t.Error("two builds differ")
	}
}

func TestPackageMembersBelongToRootAndHaveOneTime(t *testing.T) {
	dir := newRunner(t).must(guest(t))
	list := host(t, "tar", "--full-time", "--utc", "-tvzf", filepath.Join(dir, appEngineFile))
	for line := range strings.Lines(list) {
		f := strings.Fields(line)
		if f[1] != "0/0" || f[3] != "2023-11-14" || f[4] != "22:13:20" || !strings.HasPrefix(f[5], packageDir+"/") {
			t.Errorf("%s", line)
		}
	}
	if !strings.Contains(list, "-rw------- 0/0") || !strings.Contains(list, "link to appengine/storage/objects/") {
		t.Errorf("secrets are readable, or objects are stored twice:\n%s", list)
	}
}

func TestPackageNeedsItsConfiguration(t *testing.T) {
	s := guest(t)
	if err := os.Remove(s.Config.Path); err != nil {
		t.Fatal(err)
	}
	if _, err := newRunner(t).run(s); fault.Of(err) != fault.Missing {
		t.Errorf("%v", err)
	}
}
