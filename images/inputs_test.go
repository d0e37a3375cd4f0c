package images

import (
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/fault"
)

func TestOutputsNeedTheirInputs(t *testing.T) {
	t.Parallel()
	made := Artefact{Step: &made{name: "any"}}
	for want, in := range map[string]*Inputs{
		`output "flash"`:                           {Outputs: []Output{"flash"}},
		"output export: there is no kernel":        {Outputs: []Output{OutputExport}, Tools: hostTools{}},
		"output image: there is no layout":         {Outputs: []Output{OutputImage}, Tools: hostTools{}},
		"output image: there are no helper":        {Outputs: []Output{OutputImage}, Layout: &Layout{}},
		"output export: there are no helper":       {Outputs: []Output{OutputExport}, Kernel: &Kernel{Image: made, Tree: made}},
		"planning target board: output \"\": want": {Target: "board", Outputs: []Output{""}},
	} {
		if _, err := Compose(in); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), want) {
			t.Errorf("kind %v: %v; want %s", fault.Of(err), err, want)
		}
	}
}

// TestComposerKnowsNoProvider keeps out what package resolve alone may know.
func TestComposerKnowsNoProvider(t *testing.T) {
	t.Parallel()
	const module = `"github.com/pantavisor/pantavisor/`
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		seen++
		for _, imp := range parsed.Imports {
			for _, provider := range []string{"targets", "debian", "containers", "bootloader", "kernel/sources", "images/resolve"} {
				if strings.HasPrefix(imp.Path.Value, module+provider) {
					t.Errorf("%s imports %s: inputs come from package resolve", f.Name(), imp.Path.Value)
				}
			}
		}
	}
	if seen < 10 {
		t.Errorf("saw only %d files", seen)
	}
}
