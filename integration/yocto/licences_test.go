package yocto

import (
	"bytes"
	"crypto/md5" //nolint:gosec // LIC_FILES_CHKSUM has it
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/licences"
)

// licenceFiles are the files of the layer with the licences of a program, by its name.
var licenceFiles = map[string]string{
	"pantavisor": layer + "/recipes-core/pantavisor/pantavisor-licenses.inc",
	"pv-network": layer + "/recipes-containers/pv-network/pv-network-licenses.inc",
	"pvcompose":  layer + "/recipes-devtools/pantavisor/pvcompose-licenses.inc",
	"pvr":        layer + "/recipes-devtools/pantavisor/pvr-licenses.inc",
}

// TestLicences compares the licences in the recipes with those of the modules that the programs
// are made of.
func TestLicences(t *testing.T) {
	if testing.Short() {
		t.Skip("asks for the modules of four programs")
	}
	for program, file := range licenceFiles {
		found, err := licences.Of(t.Context(), root, program)
		if err != nil {
			t.Fatal(err)
		}
		var want bytes.Buffer
		fmt.Fprintf(&want, "# Licences of what the program is made of: go test ./integration/yocto -run TestLicences -update\nLICENSE = %q\nLIC_FILES_CHKSUM = \" \\\n",
			strings.Join(licences.Names(found), " & "))
		for _, f := range found {
			if f.Name != "" {
				fmt.Fprintf(&want, "    file://%s;md5=%x \\\n", f.Name, md5.Sum(f.Text)) //nolint:gosec // see above
			}
		}
		want.WriteString("\"\n")
		if *update {
			if err := os.WriteFile(file, want.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%s is not what the modules' licences are: go test ./integration/yocto -run TestLicences -update", file)
		}
	}
}
