package images

import (
	"slices"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/build/gosource"
	"github.com/pantavisor/pantavisor/internal/fault"
)

func TestOutputsNeedTheirInputs(t *testing.T) {
	t.Parallel()
	for want, in := range map[string]*Inputs{
		`output "flash"`:                           {Outputs: []Output{"flash"}},
		"output export: there is no kernel":        {Outputs: []Output{OutputExport}},
		"output image: there is no layout":         {Outputs: []Output{OutputImage}},
		"planning target board: output \"\": want": {Target: "board", Outputs: []Output{""}},
	} {
		if _, err := Compose(in); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), want) {
			t.Errorf("kind %v: %v; want %s", fault.Of(err), err, want)
		}
	}
}

// TestTableOfOutputs checks that the component of each output is one that users can name.
func TestTableOfOutputs(t *testing.T) {
	t.Parallel()
	seen := map[Output]bool{}
	for _, o := range outputs {
		if seen[o.name] || !slices.Contains(Components, o.component) {
			t.Errorf("%s: component %s", o.name, o.component)
		}
		seen[o.name] = true
	}
}

// TestComposerKnowsNoProvider checks that package images does not depend on the providers
// of parts, not even indirectly. Only package resolve may: images must also compose parts
// from elsewhere.
func TestComposerKnowsNoProvider(t *testing.T) {
	t.Parallel()
	module, err := gosource.Open("..")
	if err != nil {
		t.Fatal(err)
	}
	files, err := module.Files("images", gosource.Host())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(files, func(f gosource.File) bool { return f.Name == "kernel/steps.go" }) {
		t.Fatalf("the list does not go through imports: %q", files)
	}
	for _, f := range files {
		for _, provider := range []string{"targets/", "debian/", "containers/", "bootloader/", "kernel/sources/", "images/layouts/", "images/resolve/"} {
			if strings.HasPrefix(f.Name, provider) {
				t.Errorf("package images needs %s: inputs come from package resolve", f.Name)
			}
		}
	}
}
