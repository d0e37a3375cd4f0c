// Package oracle gives tests the references for our own code: the system's programs and
// recordings of other implementations. A missing reference skips the test with a reason.
// If CI is set (as in every common pipeline), a missing program that `mage test` installs
// is an error: a check that is silently skipped would let every mistake pass.
package oracle

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// TB is the part of testing.TB that this package needs.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// packages lists the programs that the tests use, by their Debian packages.
var packages = map[string][]string{
	"apparmor":             {"apparmor_parser"},
	"binutils":             {"objcopy"},
	"bmap-tools":           {"bmaptool"},
	"chromium":             {"chromium"},
	"cpio":                 {"cpio"},
	"cryptsetup-bin":       {"veritysetup"},
	"device-tree-compiler": {"dtc", "fdtoverlay"},
	"dosfstools":           {"fsck.vfat", "mkfs.vfat"},
	"dpkg":                 {"dpkg", "dpkg-deb"},
	"e2fsprogs":            {"mke2fs", "e2fsck", "debugfs", "dumpe2fs", "resize2fs"},
	"fdisk":                {"sfdisk"},
	"gdisk":                {"sgdisk"},
	"git":                  {"git"},
	"iproute2":             {"ip"},
	"kmod":                 {"depmod"},
	"libarchive-tools":     {"bsdtar"},
	"make":                 {"make"},
	"mount":                {"losetup", "mount"},
	"minisign":             {"minisign"},
	"mtools":               {"mdir", "mcopy", "mmd"},
	"npm":                  {"npm", "node"},
	"opensc":               {"pkcs11-tool"},
	"openssl":              {"openssl"},
	"python3-minimal":      {"python3"},
	"qemu-system-x86":      {"qemu-system-x86_64"},
	"qemu-user":            {"qemu-aarch64", "qemu-arm", "qemu-mips", "qemu-mipsel", "qemu-riscv64"},
	"qemu-user-static":     {"qemu-aarch64-static"},
	"qemu-utils":           {"qemu-img"},
	"shellcheck":           {"shellcheck"},
	"signify-openbsd":      {"signify-openbsd"},
	"softhsm2":             {"softhsm2-util"},
	"squashfs-tools":       {"unsquashfs", "mksquashfs"},
	"tar":                  {"tar"},
	"u-boot-tools":         {"mkimage"},
	"util-linux":           {"partx", "unshare"},
	"xz-utils":             {"xz"},
	"zstd":                 {"zstd"},
}

// Packages lists the Debian packages of the programs, sorted.
func Packages() []string { return slices.Sorted(maps.Keys(packages)) }

// Programs lists the programs of a package of [Packages].
func Programs(pkg string) []string { return packages[pkg] }

// installed reports whether `mage test` installs a program on the machine.
func installed(program string) bool {
	for _, programs := range packages {
		if slices.Contains(programs, program) {
			return true
		}
	}
	return false
}

// Program returns the path of a program. If it is missing, the test is skipped, or fails
// if `mage test` should have installed it.
func Program(t TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("CI") != "" && installed(name) {
		t.Fatalf("%v; mage test installs it", err)
	}
	t.Skipf("nothing to compare with: %v", err)
	return ""
}

// Need checks that all named programs exist; see [Program].
func Need(t TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		Program(t, p)
	}
}

// Emulator ends the test if something is missing to run a target's emulator: it is
// skipped, or fails in CI, because `mage test` installs the emulators of all targets.
func Emulator(t TB, missing []string) {
	t.Helper()
	if len(missing) == 0 {
		return
	}
	what := strings.Join(missing, ", ")
	if os.Getenv("CI") != "" {
		t.Fatalf("missing for the emulator: %s; mage test installs it", what)
	}
	t.Skipf("missing for the emulator: %s", what)
}

// start is the initial working directory, that of the package under test: tests may change
// the working directory.
var start, _ = os.Getwd()

// Recordings returns the path of recordings of other implementations, for example
// Recordings(t, "golden/pvr"), below the directory that PV_SPEC_DIR names or, by default,
// below shared/spec beside the module. Without them the test is skipped; with PV_SPEC_DIR
// set it fails.
func Recordings(t TB, name string) string {
	t.Helper()
	base := os.Getenv("PV_SPEC_DIR")
	if base == "" {
		base = filepath.Join(moduleRoot(), "../shared/spec")
	} else if !filepath.IsAbs(base) {
		base = filepath.Join(start, base)
	}
	path := filepath.Join(base, filepath.FromSlash(name))
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("PV_SPEC_DIR") != "" {
			t.Fatalf("PV_SPEC_DIR is set, but %v", err)
		}
		t.Skipf("no recordings: %v (PV_SPEC_DIR names their directory)", err)
	}
	return path
}

// Read returns a file of the recordings, see [Recordings].
func Read(t TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(Recordings(t, name))
	if err != nil {
		t.Fatalf("reading a recording: %v", err)
	}
	return data
}

// moduleRoot is the nearest directory above the package with a go.mod.
func moduleRoot() string {
	dir := start
	for dir != filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		dir = filepath.Dir(dir)
	}
	return start
}
