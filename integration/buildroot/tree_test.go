package buildroot

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/oracle"
)

// files returns the files of the tree, without those of other directories that links lead to and
// without this package.
func files(t *testing.T) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && filepath.Ext(name) != ".go" {
			out = append(out, name)
		}
		return err
	})
	if err != nil || len(out) < 20 {
		t.Fatalf("%d files, %v", len(out), err)
	}
	return out
}

func defconfigs(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob("configs/*_defconfig")
	if err != nil || len(found) < 9 {
		t.Fatalf("%v, %v", found, err)
	}
	return found
}

// known are the options of Buildroot itself that defconfigs set; [Check] compares them with a tree.
// A number or a name at the end that is one of many is left out.
var known = regexp.MustCompile(`^BR2_(x86_64|aarch64|riscv|mips|mips_32r2|cortex_a(53|72|76)|MIPS_SOFT_FLOAT|TOOLCHAIN_EXTERNAL(_BOOTLIN(_[A-Z0-9_]+)?)?` +
	`|DOWNLOAD_FORCE_CHECK_HASHES|REPRODUCIBLE|GLOBAL_PATCH_DIR|INIT_NONE|PACKAGE_BUSYBOX|PACKAGE_IFUPDOWN_SCRIPTS|SYSTEM_BIN_SH_NONE|TARGET_ROOTFS_(CPIO|TAR|SQUASHFS|SQUASHFS4_ZSTD)` +
	`|LINUX_KERNEL(_LATEST_VERSION|_USE_CUSTOM_CONFIG|_CUSTOM_CONFIG_FILE|_CONFIG_FRAGMENT_FILES|_BZIMAGE|_IMAGE|_VMLINUX|_DTS_SUPPORT|_INTREE_DTS_NAME` +
	`|_NEEDS_HOST_OPENSSL|_NEEDS_HOST_LIBELF|_CUSTOM_TARBALL|_CUSTOM_TARBALL_LOCATION|_DEFCONFIG)?` +
	`|TARGET_GRUB2(_X86_64_EFI|_BUILTIN_MODULES_EFI|_BUILTIN_CONFIG_EFI)?|TARGET_OPENSBI(_PLAT)?` +
	`|TARGET_UBOOT(_BUILD_SYSTEM_KCONFIG|_BOARD_DEFCONFIG|_NEEDS_OPENSSL|_NEEDS_GNUTLS)?|PACKAGE_HOST_GO(_BIN)?` +
	`|PACKAGE_RPI_FIRMWARE(_BOOTCODE_BIN|_VARIANT_PI|_VARIANT_PI4|_INSTALL_DTB_OVERLAYS)?)$`)

var (
	declared = regexp.MustCompile(`(?m)^config (BR2_\w+)$`)
	setLine  = regexp.MustCompile(`^(BR2_\w+)=(y|\d+|".*")$|^# (BR2_\w+) is not set$`)
)

// TestDefconfigs: every option is declared in the tree, or one of Buildroot; both shapes of builds
// are there; hashes are enforced, and times are those of the source.
func TestDefconfigs(t *testing.T) {
	t.Parallel()
	own := map[string]bool{}
	for _, name := range files(t) {
		if strings.HasPrefix(filepath.Base(name), "Config.in") {
			for _, m := range declared.FindAllStringSubmatch(read(t, name), -1) {
				own[m[1]] = true
			}
		}
	}
	shapes := map[string]int{}
	for _, name := range defconfigs(t) {
		set := map[string]string{}
		for i, line := range strings.Split(strings.TrimSuffix(read(t, name), "\n"), "\n") {
			m := setLine.FindStringSubmatch(line)
			if m == nil {
				t.Errorf("%s:%d: %q is not a line of a defconfig", name, i+1, line)
				continue
			}
			option := m[1] + m[3]
			if !own[option] && !known.MatchString(option) {
				t.Errorf("%s:%d: %s is declared nowhere", name, i+1, option)
			}
			set[option] = m[2]
		}
		for _, option := range []string{"BR2_DOWNLOAD_FORCE_CHECK_HASHES", "BR2_REPRODUCIBLE"} {
			if set[option] != "y" {
				t.Errorf("%s does not set %s", name, option)
			}
		}
		for _, shape := range []string{"BR2_PANTAVISOR_BSP", "BR2_PANTAVISOR_CONTAINER"} {
			if set[shape] == "y" {
				shapes[shape]++
			}
		}
		if set["BR2_PANTAVISOR_BSP"] == "y" && set["BR2_INIT_NONE"] != "y" {
			t.Errorf("%s: the initramfs has an init of Buildroot", name)
		}
	}
	if shapes["BR2_PANTAVISOR_BSP"] < 7 || shapes["BR2_PANTAVISOR_CONTAINER"] < 2 {
		t.Errorf("shapes %v", shapes)
	}
}

var (
	named    = regexp.MustCompile(`\$\(BR2_EXTERNAL_PANTAVISOR_PATH\)/([\w./-]+)`)
	relative = regexp.MustCompile(`path: (\.\.[\w./-]+)`)
	absolute = regexp.MustCompile(`(?m)(?:^|[\s"'=:(])(/[A-Za-z][\w./-]*)`)
)

// allowed are absolute paths: of an interpreter, on the device, and in programs' patterns.
var allowed = []string{"/bin/sh", "/sbin/init", "/var", "/var/lib/app", "/grub", "/usr/sbin", "/sbin", "/bin/true"}

// TestPaths: files that others name are there, and none has a path of one machine.
func TestPaths(t *testing.T) {
	t.Parallel()
	made := []string{"../../out/dist"} // by mage dist
	for _, name := range files(t) {
		text := read(t, name)
		for _, m := range named.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(m[1]); err != nil && !slices.Contains(made, m[1]) && m[1] != "package/" {
				t.Errorf("%s: %s: %v", name, m[0], err)
			}
		}
		for _, m := range relative.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(name), m[1])); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, m := range absolute.FindAllStringSubmatch(strings.TrimPrefix(text, "#!"), -1) {
			if !slices.Contains(allowed, m[1]) {
				t.Errorf("%s has the absolute path %s", name, m[1])
			}
		}
	}
}

// TestLinks: configuration and fragments of kernels are those of the repository, not copies.
func TestLinks(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"config": "../../config", "fragments": "../../kernel/fragments", "patches/linux-headers/linux-headers.hash": "../linux/linux.hash",
	} {
		if to, err := os.Readlink(name); err != nil || to != want {
			t.Errorf("%s leads to %q, %v; want %s", name, to, err, want)
		}
	}
}

// infrastructure stands for Buildroot's: it prints what would be made.
const infrastructure = `
qstrip = $(strip $(subst ",,$(1)))
print = $(info $(1) $(PANTAVISOR_GOARCH) $(PANTAVISOR_GOMIPS) $(PANTAVISOR_DEPENDENCIES) $(PANTAVISOR_SOURCE))
generic-package = $(call print,generic)
golang-package = $(call print,golang)
host-golang-package = $(info host)
BR2_EXTERNAL_PANTAVISOR_PATH = .
BR2_PANTAVISOR_VERSION = "1.0"
include external.mk
$(info global $(BR2_GLOBAL_PATCH_DIR))
$(info scripts $(BR2_ROOTFS_POST_IMAGE_SCRIPT))
$(info hook $(PANTAVISOR_PVCOMPOSE) $(PANTAVISOR_BUILDS) $(strip $(PANTAVISOR_OPTIONS)))
all:
`

// TestMakefiles evaluates the makefiles: each kind of 32-bit MIPS is compiled without the golang
// infrastructure, which does not know it; our script comes behind the board's; and the options
// become those of the composer.
func TestMakefiles(t *testing.T) {
	t.Parallel()
	gnuMake := oracle.Program(t, "make")
	file := filepath.Join(t.TempDir(), "Makefile")
	if err := os.WriteFile(file, []byte(infrastructure), 0o644); err != nil {
		t.Fatal(err)
	}
	for options, wants := range map[string][]string{
		"BR2_mips=y BR2_MIPS_SOFT_FLOAT=y": {"generic mips softfloat host-go pantavisor-1.0-vendored.tar.gz", "host", "scripts \n"},
		"BR2_mipsel=y":                     {"generic mipsle hardfloat host-go "},
		"BR2_aarch64=y":                    {"golang    pantavisor-1.0-vendored.tar.gz"},
		`BR2_PANTAVISOR_SITE="file:///a/dist" BR2_GLOBAL_PATCH_DIR="board/patches"`: {"global board/patches /a/dist/buildroot\n"},
		`BR2_PANTAVISOR_BSP=y BR2_ROOTFS_POST_IMAGE_SCRIPT="board/post.sh" HOST_DIR=h BASE_DIR=o BR2_PANTAVISOR_CONTAINERS="app=../app" BR2_PANTAVISOR_WITH="w.yaml" BR2_PANTAVISOR_SIZE=0`: {
			"scripts board/post.sh ./board/common/post-image.sh\n", "hook h/bin/pvcompose o app=../app --with=w.yaml\n",
		},
		`BR2_PANTAVISOR_CONTAINER=y BR2_PANTAVISOR_PVCOMPOSE_INSTALLED=y BR2_PANTAVISOR_PVCOMPOSE_PATH="/opt/pvcompose" BR2_PANTAVISOR_OUTPUTS="containers"`: {
			"hook /opt/pvcompose   --outputs=containers\n",
		},
	} {
		conf := filepath.Join(t.TempDir(), "conf.mk")
		text := strings.ReplaceAll(regexp.MustCompile(` (BR2_|HOST_DIR|BASE_DIR)`).ReplaceAllString(options, "\n$1"), "=", " = ")
		text = strings.NewReplacer("app = ../app", "app=../app").Replace(text)
		if err := os.WriteFile(conf, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		said, err := exec.CommandContext(t.Context(), gnuMake, "-s", "-f", conf, "-f", file, "all").CombinedOutput()
		for _, want := range wants {
			if err != nil || !strings.Contains(string(said), want) {
				t.Errorf("%s: %v: want %q in\n%s", options, err, want, said)
			}
		}
	}
}

// TestScripts: scripts can be executed, and shellcheck finds nothing.
func TestScripts(t *testing.T) {
	t.Parallel()
	const script = "board/common/post-image.sh"
	info, err := os.Stat(script)
	if err != nil || info.Mode().Perm()&0o111 == 0 {
		t.Errorf("%s cannot be executed: %v", script, err)
	}
	if said, err := exec.CommandContext(t.Context(), oracle.Program(t, "shellcheck"), script).CombinedOutput(); err != nil {
		t.Errorf("shellcheck: %v\n%s", err, said)
	}
}

// TestForm: the rules of Buildroot's check-package that need no Buildroot.
func TestForm(t *testing.T) {
	t.Parallel()
	hash := regexp.MustCompile(`^(#.*|sha256  [0-9a-f]{64}  \S+)$`)
	for _, name := range files(t) {
		text := read(t, name)
		if !strings.HasSuffix(text, "\n") || strings.HasSuffix(text, "\n\n") || strings.Contains(text, "\n\n\n") {
			t.Errorf("%s: want one line break at its end, and no two empty lines", name)
		}
		for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
			switch {
			case filepath.Base(name) == "grub.cfg" && strings.HasPrefix(line, "#"):
				t.Errorf("%s:%d: GRUB's parser for what is in its image knows no comments, and stops", name, i+1)
			case strings.TrimRight(line, " \t") != line:
				t.Errorf("%s:%d: blanks at the end of the line", name, i+1)
			case filepath.Ext(name) == ".hash" && !hash.MatchString(line):
				t.Errorf("%s:%d: want sha256, two blanks, the digest, two blanks, the file", name, i+1)
			case strings.HasPrefix(filepath.Base(name), "Config.in") && strings.HasPrefix(line, "\t  ") && len(line) > 72-7+2:
				t.Errorf("%s:%d: want lines of help with up to 72 columns, of which a tab has 8", name, i+1)
			}
		}
	}
}
