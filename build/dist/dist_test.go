package dist

import (
	"slices"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/build/gosource"
)

// TestArchives expects an archive of pvr for each platform, and of pvci for those of runners, each with
// a name and a step of its own.
func TestArchives(t *testing.T) {
	t.Parallel()
	module, err := gosource.Open("../..")
	if err != nil {
		t.Fatal(err)
	}
	all := Artefacts(Options{Module: module, Release: "1.0", Platforms: platforms})
	var names, steps, runners []string
	for _, a := range all {
		names, steps = append(names, a.To), append(steps, a.Step.Name())
		if strings.HasPrefix(a.To, "pvci_") {
			runners = append(runners, a.To)
		}
	}
	if want := []string{"pvci_1.0_linux_amd64.tar.gz", "pvci_1.0_linux_arm64.tar.gz"}; !slices.Equal(runners, want) {
		t.Errorf("archives of pvci: %v, want %v", runners, want)
	}
	if want := len(platforms) + len(runners) + 1; len(all) != want || !slices.Contains(names, "pvr_1.0_windows_amd64.zip") {
		t.Errorf("%d files, want %d: %v", len(all), want, names)
	}
	for _, list := range [][]string{names, steps} {
		slices.Sort(list)
		if n := len(list); len(slices.Compact(list)) != n {
			t.Errorf("a name is there twice: %v", list)
		}
	}
}
