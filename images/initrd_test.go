package images

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/build/gobinary"
	"github.com/pantavisor/pantavisor/build/gosource"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/targets"
)

// boardFiles returns a source tree with a program, configuration and a skel.
func boardFiles() map[string]string {
	return map[string]string{
		"go.mod": "module example.test/m\n\ngo 1.26\n", "go.sum": "",
		"cmd/pantavisor/main.go":                "package main\n\nfunc main() { println(\"init\"); for {\n} }\n",
		"config/board/pantavisor.config":        "# of the board\nPV_LOG_LEVEL=4\nPV_STORAGE_FSTYPE=ext4\n",
		"config/board/pantahub.config":          "PH_CREDS_HOST=hub.test\n",
		"config/defaults/groups.json":           "[]\n",
		"config/defaults/policies/prod.config":  "PV_DEBUG_SHELL=0\n",
		"vendors/board/skel/README.md":          "left out",
		"vendors/board/skel/etc/hosts":          "10.0.0.1 board\n",
		"vendors/board/skel/usr/share/note.txt": "note\n",
		"vendors/board/stepskel/device/a.txt":   "of the vendor\n",
		"cert.pem":                              "-----BEGIN CERTIFICATE-----\n",
	}
}

// settings returns keys as derived from a target.
func settings(debug string) []Setting {
	return []Setting{
		{"PV_DEBUG_SHELL", debug}, {"PV_BOOTLOADER_TYPE", "grub"}, {"PV_STORAGE_DEVICE", "LABEL=pvroot"},
		{"PV_STORAGE_FSTYPE", "ext4"}, {"PV_STORAGE_MNTPOINT", "/storage"},
	}
}

func initrd(root string, in *Inputs) *Initrd {
	early := &made{"kernel/early", map[string]string{"lib/modules/6.1/modules.dep": "kernel/a.ko:\n", "lib/modules/6.1/kernel/a.ko": strings.Repeat("ko", 5000)}}
	module, err := gosource.Open(root)
	if err != nil {
		panic(err)
	}
	program := gobinary.New(module, "cmd/pantavisor", targets.Arch{Go: "amd64"})
	return &Initrd{
		Files: &FilesBlock{
			Target: in.Target, Derived: append(settings("0"), Setting{"PV_DEBUG_SSH", "0"}), Config: at(root, "config/board/pantavisor.config"),
			Defaults: at(root, "config/defaults"), Skel: perhaps(root, "vendors/board/skel"), Trust: []Trust{{"ca-certificates.crt", filepath.Join(root, "cert.pem")}},
			Release: "7", Packages: []string{"kernel=6.1:amd64"},
		},
		Modules: &ModulesBlock{X86: true, Early: early},
		Runtime: &RuntimeBlock{X86: true, Program: Artefact{program, program.File()}},
	}
}

// unpack returns the sorted names in an initrd and the directory it is unpacked to.
func unpack(t *testing.T, file string) ([]string, string) {
	t.Helper()
	dir := t.TempDir()
	host(t, "xz", "--format=xz", "--test", file)
	names := host(t, "sh", "-c", "cd \"$1\" && xz --format=xz -dc \"$2\" | cpio -i --quiet --no-preserve-owner && xz --format=xz -dc \"$2\" | cpio -t --quiet", "sh", dir, file)
	return strings.Fields(names), dir
}

func TestInitrdIsOneSortedArchive(t *testing.T) {
	out := newRunner(t).must(initrd(sourceTree(t, boardFiles()), board()))
	file := filepath.Join(out, baseInitrd)
	names, dir := unpack(t, file)
	if !slices.IsSorted(names) {
		t.Errorf("not sorted: %v", names)
	}
	for _, want := range []string{"init", "usr/bin/pantavisor", "lib/modules/6.1/kernel/a.ko", "etc/pantavisor/policies/prod.config", "usr/share/note.txt", "writable", "pv"} {
		if !slices.Contains(names, want) {
			t.Errorf("no %s in %v", want, names)
		}
	}
	if slices.Contains(names, "README.md") {
		t.Error("skel's README.md is in the initrd")
	}
	info, err := os.Stat(file)
	if err != nil || info.Size()%4 != 0 {
		t.Errorf("size %d is not padded: %v", info.Size(), err)
	}
	checkInitrd(t, dir)
}

func checkInitrd(t *testing.T, dir string) {
	t.Helper()
	if to, err := os.Readlink(filepath.Join(dir, "init")); err != nil || to != "usr/bin/pantavisor" {
		t.Errorf("init leads to %q, %v", to, err)
	}
	for name, want := range map[string]string{
		"etc/build": "release 7\ntarget board\nepoch 0\npackage kernel=6.1:amd64\n",
		"etc/hosts": "10.0.0.1 board\n", "etc/pantavisor/pvs/trust/ca-certificates.crt": "-----BEGIN CERTIFICATE-----\n",
		"etc/pantavisor.config": "PV_BOOTLOADER_TYPE=grub\nPV_DEBUG_SHELL=0\nPV_DEBUG_SSH=0\nPV_LOG_LEVEL=4\nPV_STORAGE_DEVICE=LABEL=pvroot\nPV_STORAGE_FSTYPE=ext4\nPV_STORAGE_MNTPOINT=/storage\n",
	} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if diff := cmp.Diff(want, string(got)); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
}

func TestInitrdIsTheSameFromTwoPaths(t *testing.T) {
	var first []byte
	for range 2 {
		out := newRunner(t).must(initrd(sourceTree(t, boardFiles()), board()))
		data, err := os.ReadFile(filepath.Join(out, baseInitrd))
		if err != nil {
			t.Fatal(err)
		}
		if first != nil && !slices.Equal(first, data) {
			t.Error("initrds differ")
		}
		first = data
	}
}

func TestInitrdWithoutModules(t *testing.T) {
	s := initrd(sourceTree(t, boardFiles()), board())
	s.Modules = nil
	names, _ := unpack(t, filepath.Join(newRunner(t).must(s), baseInitrd))
	if slices.Contains(names, "lib/modules") || !slices.Contains(names, "usr/bin/pantavisor") {
		t.Errorf("got %v", names)
	}
}

func TestDebugAllowsTheShell(t *testing.T) {
	s := initrd(sourceTree(t, boardFiles()), board()).Files
	got, err := runtimeConfig(s.Config, settings("1"))
	if err != nil || !strings.Contains(string(got), "PV_DEBUG_SHELL=1\n") || strings.Contains(string(got), "PV_DEBUG_SSH=0") {
		t.Errorf("%v\n%s", err, got)
	}
}

func TestWrongConfigurationIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ file, text, want string }{
		"contradiction": {"config/board/pantavisor.config", "PV_STORAGE_DEVICE=LABEL=root\n", "config/board/pantavisor.config:1: PV_STORAGE_DEVICE is \"LABEL=root\", but the target has \"LABEL=pvroot\""},
		"no assignment": {"config/board/pantavisor.config", "PV_A=1\njust words\n", "pantavisor.config:2"},
		"twice":         {"config/board/pantavisor.config", "PV_A=1\npv_a=2\n", "set twice"},
		"missing":       {"config/board/pantavisor.config", "", "config/board/pantavisor.config is not there"},
		"module":        {"vendors/board/skel/lib/modules/6.1/x.ko", "x", "early_modules"},
		"no directory":  {"vendors/board/skel/init/x", "x", "initrd"},
	} {
		files := maps.Clone(boardFiles())
		files[c.file] = c.text
		root := sourceTree(t, files)
		if c.text == "" {
			if err := os.Remove(filepath.Join(root, c.file)); err != nil {
				t.Fatal(err)
			}
		}
		_, err := newRunner(t).run(initrd(root, board()).Files)
		if k := fault.Of(err); err == nil || !strings.Contains(err.Error(), c.want) || (k != fault.BadInput && k != fault.Missing) {
			t.Errorf("%s: kind %v: %v", name, k, err)
		}
	}
}

func TestNoTrustWarns(t *testing.T) {
	r, s := newRunner(t), initrd(sourceTree(t, boardFiles()), board()).Files
	s.Trust = nil
	r.must(s)
	if len(r.Warns) != 1 || !strings.Contains(r.Warns[0], "PV_PVS_CERT_PEM") {
		t.Errorf("warnings %q", r.Warns)
	}
}
