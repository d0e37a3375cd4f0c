package yocto

import (
	"bytes"
	"crypto/md5" //nolint:gosec // LIC_FILES_CHKSUM has it
	"encoding/hex"
	"flag"
	"fmt"
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

var update = flag.Bool("update", false, "make the layer's copies of other files of the repository")

const (
	root  = "../.."
	layer = "meta-pantavisor-go"
	kmeta = layer + "/files/pantavisor-kmeta/pantavisor"
)

// common are the fragments of every kernel (package kernel/sources).
var common = []string{"base", "netfilter", "dm", "crypto-user", "vpn"}

var versioned = regexp.MustCompile(`^(.+)-([0-9]+\.[0-9]+)$`)

// copies returns the files of the layer that are made from others, by their paths.
func copies(t *testing.T) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	fragments, err := filepath.Glob(root + "/kernel/fragments/*.config")
	if err != nil || len(fragments) < len(common) {
		t.Fatalf("%d fragments, %v", len(fragments), err)
	}
	joined := map[string][]string{"pantavisor": slices.Clone(common)} // features by their files
	for _, file := range fragments {
		name := strings.TrimSuffix(filepath.Base(file), ".config")
		out[kmeta+"/"+name+".cfg"] = read(t, file)
		feature, since := name, ""
		if m := versioned.FindStringSubmatch(name); m != nil {
			feature, since = m[1], "-"+m[2]
		}
		switch {
		case !slices.Contains(common, feature):
			joined[name] = []string{name}
		case since != "":
			joined["pantavisor"+since] = append(joined["pantavisor"+since], name)
		}
	}
	for feature, names := range joined {
		text := "define KFEATURE_DESCRIPTION \"Pantavisor: " + feature + "\"\ndefine KFEATURE_COMPATIBILITY board\n\n"
		for _, name := range names {
			text += "kconf non-hardware " + name + ".cfg\n"
		}
		out[kmeta+"/"+feature+".scc"] = []byte(text)
	}
	for _, name := range []string{"pantavisor.config", "pantahub.config"} {
		out[layer+"/files/config/"+name] = read(t, root+"/config/generic/"+name)
	}
	err = fs.WalkDir(os.DirFS(root+"/config/defaults"), ".", func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			out[layer+"/files/config/defaults/"+p] = read(t, root+"/config/defaults/"+p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	out[layer+"/COPYING.MIT"] = read(t, root+"/LICENSE")
	return out
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestCopies(t *testing.T) {
	want := copies(t)
	if *update {
		for _, dir := range []string{kmeta, layer + "/files/config"} {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}
		for name, text := range want {
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, text := range want {
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s is not what it is made from: go test ./integration/yocto -run TestCopies -update", name)
		}
	}
	for _, name := range files(t) {
		made := strings.HasPrefix(name, kmeta) || strings.HasPrefix(name, layer+"/files/config/")
		if _, ok := want[name]; made && !ok {
			t.Errorf("%s is made from nothing", name)
		}
	}
}

// files lists the layer.
func files(t *testing.T) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(layer, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			out = append(out, p)
		}
		return err
	})
	if err != nil || len(out) < 20 {
		t.Fatalf("%d files, %v", len(out), err)
	}
	return out
}

// metadata are the files that BitBake reads.
func metadata(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, name := range files(t) {
		if slices.Contains([]string{".bb", ".bbclass", ".conf", ".inc", ".bbappend"}, filepath.Ext(name)) {
			out[name] = string(read(t, name))
		}
	}
	return out
}

func TestLayerConfiguration(t *testing.T) {
	text := string(read(t, layer+"/conf/layer.conf"))
	collection := regexp.MustCompile(`BBFILE_COLLECTIONS \+= "([^"]+)"`).FindStringSubmatch(text)
	if collection == nil {
		t.Fatal("no collection")
	}
	for _, want := range []string{
		`LAYERSERIES_COMPAT_` + collection[1] + ` = "scarthgap wrynose"`, `LAYERDEPENDS_` + collection[1] + ` = "core"`,
		`BBFILE_PATTERN_` + collection[1] + ` = "^${LAYERDIR}/"`, `BBFILE_PRIORITY_` + collection[1],
	} {
		if !strings.Contains(text, want) {
			t.Errorf("layer.conf lacks %s", want)
		}
	}
	// A layer changes nothing until it is used: no recipe of another layer, no class in all recipes.
	allowed := regexp.MustCompile(`^(#.*|BBPATH .*|BBFILES \+= .*|BBFILE_\w+.*|LAYER\w+.*|PV_LAYERDIR.*|)$`)
	for i, line := range strings.Split(text, "\n") {
		if !allowed.MatchString(line) {
			t.Errorf("layer.conf:%d: %s: is seen by every recipe", i+1, line)
		}
	}
	for name := range metadata(t) {
		if strings.HasSuffix(name, ".bbappend") || strings.Contains(name, "/classes-global/") || strings.Contains(name, "/classes/") {
			t.Errorf("%s changes recipes of others", name)
		}
	}
}

// TestReadme has what yocto-check-layer wants (scripts/lib/checklayer/cases/common.py): maintainers and
// where patches go, with an address, or another README that says it.
func TestReadme(t *testing.T) {
	if len(read(t, layer+"/SECURITY.md")) == 0 { // of wrynose
		t.Error("SECURITY.md is empty")
	}
	text := string(read(t, layer+"/README.md"))
	for _, want := range []string{"maintainer", "patch", "README.md"} {
		if !strings.Contains(text, want) {
			t.Errorf("README.md has no %q", want)
		}
	}
	for _, m := range regexp.MustCompile(`\]\(([^):]+)\)`).FindAllStringSubmatch(text, -1) {
		if _, err := os.Stat(filepath.Join(layer, m[1])); err != nil {
			t.Errorf("README.md: %v", err)
		}
	}
}

// TestClassesDeleteTasks has what the classes rely on: a task that is only marked as noexec keeps
// its dependencies, and with them the toolchain.
func TestClassesDeleteTasks(t *testing.T) {
	bundle := string(read(t, layer+"/classes-recipe/pv-bundle.bbclass"))
	for _, want := range []string{
		"deltask do_install\n", "deltask do_populate_sysroot\n", "deltask do_configure\n", "deltask do_patch\n", "SSTATE_SKIP_CREATION = \"1\"\n",
		"INHIBIT_DEFAULT_DEPS = \"1\"\n", "nopackages",
	} {
		if !strings.Contains(bundle, want) {
			t.Errorf("pv-bundle lacks %s", strings.TrimSpace(want))
		}
	}
	if regexp.MustCompile(`(?m)^fakeroot |\[fakeroot\]`).MatchString(bundle) {
		t.Error("pv-bundle runs as fakeroot")
	}
	for name, text := range metadata(t) {
		if strings.HasSuffix(name, ".bb") && !strings.Contains(text, "EXCLUDE_FROM_WORLD = \"1\"") &&
			!regexp.MustCompile(`(?m)^inherit .*(pv-source|pv-bundle)`).MatchString(text) {
			t.Errorf("%s is built with everything: EXCLUDE_FROM_WORLD is missing", name)
		}
	}
}

// TestNoSharedVariablesChange rejects += and = of variables that other recipes and classes read,
// outside of the task of a recipe: users remove and append themselves.
func TestNoSharedVariablesChange(t *testing.T) {
	shared := regexp.MustCompile(`(?m)^(DISTRO_FEATURES|MACHINE_FEATURES|IMAGE_INSTALL|IMAGE_FSTYPES|INHERIT|USER_CLASSES|PANTAVISOR_FEATURES|OVERRIDES|PREFERRED_\w+)\b[^\n]*\+=`)
	for name, text := range metadata(t) {
		if m := shared.FindString(text); m != "" {
			t.Errorf("%s: %s", name, m)
		}
	}
}

func TestNoAbsolutePath(t *testing.T) {
	absolute := regexp.MustCompile(`(^|[\s"'=:])/(home|root|work|tmp|opt|srv|usr/local|mnt)/`)
	for name, text := range metadata(t) {
		for i, line := range strings.Split(text, "\n") {
			if absolute.MatchString(line) {
				t.Errorf("%s:%d: %s", name, i+1, line)
			}
		}
	}
}

func TestLicenceDigests(t *testing.T) {
	own := md5.Sum(read(t, root+"/LICENSE")) //nolint:gosec // see above
	if want := "file://LICENSE;md5=" + hex.EncodeToString(own[:]); !strings.Contains(string(read(t, layer+"/classes-recipe/pv-source.bbclass")), want) {
		t.Errorf("pv-source: LIC_FILES_CHKSUM is not %s", want)
	}
	for name, text := range metadata(t) {
		if filepath.Ext(name) == ".bb" && !regexp.MustCompile(`(?m)^LICENSE = |^inherit .*(pv-|image)`).MatchString(text) {
			t.Errorf("%s has no LICENSE", name)
		}
	}
}

// TestFilesExist looks for the files that recipes fetch from the layer.
func TestFilesExist(t *testing.T) {
	local := regexp.MustCompile(`file://([A-Za-z0-9_.-]+\.(?:json|yaml|wks|cfg|scc))`)
	n := 0
	for name, text := range metadata(t) {
		if filepath.Ext(name) != ".bb" {
			continue
		}
		for _, m := range local.FindAllStringSubmatch(text, -1) {
			n++
			if _, err := os.Stat(filepath.Join(filepath.Dir(name), "files", m[1])); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if n == 0 {
		t.Error("no recipe has files")
	}
}

// TestPython compiles the functions in Python of all classes and recipes.
func TestPython(t *testing.T) {
	python := oracle.Program(t, "python3")
	begin := regexp.MustCompile(`^(?:fakeroot )?python ?[A-Za-z_]*(?:__anonymous)? ?\(\) ?\{$`)
	var source strings.Builder
	n := 0
	for name, text := range metadata(t) {
		inside, def := false, false
		for _, line := range strings.Split(text, "\n") {
			switch {
			case inside && line == "}":
				inside = false
			case inside, def && (line == "" || strings.HasPrefix(line, " ")):
				fmt.Fprintln(&source, line)
			case begin.MatchString(line):
				inside, n = true, n+1
				fmt.Fprintf(&source, "def f%d(): # %s\n    d, bb, os = 0, 0, 0\n", n, name)
			case strings.HasPrefix(line, "def "):
				def, n = true, n+1
				fmt.Fprintln(&source, line)
			default:
				def = false
			}
		}
	}
	if n < 10 {
		t.Fatalf("found %d functions", n)
	}
	cmd := exec.CommandContext(t.Context(), python, "-c", "import sys; compile(sys.stdin.read(), 'layer', 'exec')")
	cmd.Stdin = strings.NewReader(source.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
