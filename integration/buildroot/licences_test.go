package buildroot

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/licences"
)

var update = flag.Bool("update", false, "write the licences of the packages")

// programs are the packages of the tree by the program that each is made from.
var programs = []string{"pantavisor", "pvcompose", "pvr"}

// TestLicences compares the licences in the packages with those of the modules that the programs
// are made of.
func TestLicences(t *testing.T) {
	if testing.Short() {
		t.Skip("asks for the modules of three programs")
	}
	t.Parallel()
	for _, name := range programs {
		found, err := licences.Of(t.Context(), "../..", name)
		if err != nil {
			t.Fatal(err)
		}
		mk, hash := "package/"+name+"/"+name+".mk", "package/"+name+"/"+name+".hash"
		text := read(t, mk)
		want := licenceBlock.ReplaceAllLiteralString(text, licenceLines(name, found))
		if !licenceBlock.MatchString(text) {
			t.Fatalf("%s has no licences", mk)
		}
		compare(t, mk, text, want)
		var old string
		if !*update {
			old = read(t, hash)
		}
		compare(t, hash, old, hashLines(found))
	}
}

// compare compares a file with what it should be, and writes that with -update.
func compare(t *testing.T, name, got, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s is not what the modules' licences are (go test ./integration/buildroot -run TestLicences -update; -want +got):\n%s", name, diff)
	}
}

var licenceBlock = regexp.MustCompile(`(?m)^[A-Z_]+_LICENSE = .*\n[A-Z_]+_LICENSE_FILES = (?:.*\\\n)*.*\n`)

func licenceLines(name string, found []licences.File) string {
	names := []string{}
	for _, f := range found {
		if f.Name != "" {
			names = append(names, f.Name)
		}
	}
	prefix := strings.ToUpper(name)
	return fmt.Sprintf("%s_LICENSE = %s\n%s_LICENSE_FILES = \\\n\t%s\n", prefix, strings.Join(licences.Names(found), ", "),
		prefix, strings.Join(names, " \\\n\t"))
}

func hashLines(found []licences.File) string {
	out := "# Locally calculated\n"
	for _, f := range found {
		if f.Name != "" {
			out += fmt.Sprintf("sha256  %x  %s\n", sha256.Sum256(f.Text), f.Name)
		}
	}
	return out
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
