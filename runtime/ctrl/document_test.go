package ctrl

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	// endpointRow is a row of the table of endpoints: paths and their methods.
	endpointRow = regexp.MustCompile("(?m)^\\| (`/[^|]*) \\| ([A-Z, ]+) \\|")
	variable    = regexp.MustCompile(`/[A-Z][A-Z0-9]*`)
)

// TestDocumentListsEveryEndpoint compares docs/control.md with the routes.
func TestDocumentListsEveryEndpoint(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/control.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented, served []string
	for _, row := range endpointRow.FindAllStringSubmatch(string(text), -1) {
		for _, path := range strings.Split(row[1], ", ") {
			path = variable.ReplaceAllString(strings.Trim(path, "`"), "/{}")
			for _, method := range strings.Split(row[2], ", ") {
				documented = append(documented, method+" "+path)
			}
		}
	}
	for _, r := range routes(&Server{}) {
		served = append(served, r.method+" "+r.path)
	}
	slices.Sort(documented)
	slices.Sort(served)
	if diff := cmp.Diff(served, documented); diff != "" {
		t.Errorf("docs/control.md (-served +documented):\n%s", diff)
	}
}
