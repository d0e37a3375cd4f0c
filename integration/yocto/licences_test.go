package yocto

import (
	"bytes"
	"crypto/md5" //nolint:gosec // LIC_FILES_CHKSUM has it
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// licenceFiles are the files of the layer with the licences of a program, by its name.
var licenceFiles = map[string]string{
	"pantavisor": layer + "/recipes-core/pantavisor/pantavisor-licenses.inc",
	"pvcompose":  layer + "/recipes-devtools/pantavisor/pvcompose-licenses.inc",
	"pvr":        layer + "/recipes-devtools/pantavisor/pvr-licenses.inc",
}

var licenceLines = regexp.MustCompile(`(?m)^[A-Z]+_LICENSE = (.*)\n[A-Z]+_LICENSE_FILES = \\\n((?:\t.*\n)+)`)

// TestLicences compares the licences in the recipes with those of the modules that the programs
// are made of, which the packages for Buildroot have (its own test keeps these).
func TestLicences(t *testing.T) {
	if testing.Short() {
		t.Skip("asks for the modules of three programs")
	}
	for program, file := range licenceFiles {
		m := licenceLines.FindStringSubmatch(string(read(t, "../buildroot/package/"+program+"/"+program+".mk")))
		if m == nil {
			t.Fatalf("the package %s has no licences", program)
		}
		names := strings.Fields(strings.ReplaceAll(m[2], "\\", ""))
		want := []byte(fmt.Sprintf("# Licences of what the program is made of: go test ./integration/yocto -run TestLicences -update\nLICENSE = %q\nLIC_FILES_CHKSUM = \" \\\n%s\"\n",
			strings.ReplaceAll(m[1], ", ", " & "), checksums(t, names)))
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what the modules' licences are: go test ./integration/yocto -run TestLicences -update", file)
		}
	}
}

// checksums returns the lines of LIC_FILES_CHKSUM.
func checksums(t *testing.T, names []string) string {
	t.Helper()
	var modules []string
	for _, n := range names {
		if in, ok := strings.CutPrefix(path.Dir(n), "vendor/"); ok && !slices.Contains(modules, in) {
			modules = append(modules, in)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-m", "-f", "{{.Path}} {{.Dir}}"}, modules...)...)
	cmd.Dir = root
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("asking for modules: %v", err)
	}
	dirs := map[string]string{".": root}
	for line := range strings.Lines(string(text)) {
		module, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
		dirs["vendor/"+module] = dir
	}
	var out strings.Builder
	for _, n := range names {
		fmt.Fprintf(&out, "    file://%s;md5=%x \\\n", n, md5.Sum(read(t, filepath.Join(dirs[path.Dir(n)], path.Base(n))))) //nolint:gosec // see above
	}
	return out.String()
}
