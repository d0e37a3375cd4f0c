package images_test

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	diff "github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/build/gobinary"
	"github.com/pantavisor/pantavisor/build/gosource"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/images/resolve"
	"github.com/pantavisor/pantavisor/internal/layers"
	"github.com/pantavisor/pantavisor/kernel/sources"
	"github.com/pantavisor/pantavisor/targets"
)

var record = flag.Bool("record", false, "write the golden files of testdata anew; the run that writes one fails")

// golden compares text with a file below testdata.
func golden(t *testing.T, file, text string) {
	t.Helper()
	file = filepath.Join("testdata", file)
	want, err := os.ReadFile(file)
	if *record && string(want) != text {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Fatalf("%s was written; run the test again without -record", file)
	}
	if err != nil {
		t.Fatalf("%v (go test ./images -record writes it)", err)
	}
	if d := diff.Diff(string(want), text); d != "" {
		t.Errorf("%s differs (go test ./images -record writes it anew):\n%s", file, d)
	}
}

// planned returns the inputs of a shipped target with all packages pinned at version 1:
// the plan then depends on neither lock nor archive.
func planned(t *testing.T, name string) *images.Inputs {
	t.Helper()
	target, err := targets.Load(targets.Builtin(), name)
	if err != nil {
		t.Fatal(err)
	}
	return plannedTarget(t, target)
}

// plannedTarget is planned for a target that is not shipped.
func plannedTarget(t *testing.T, target *targets.Target) *images.Inputs {
	t.Helper()
	lock := &debian.Lock{}
	requests, err := resolve.BuildRequests(target, layers.New(layers.Layer{Label: layers.Workspace, Dir: ".."}))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range requests {
		lock.Requests = append(lock.Requests, r)
		for _, p := range r.Packages {
			arch := r.Arch
			if r.Closure { // a helper program, which runs on the build machine
				arch = "all"
			}
			lock.Packages = append(lock.Packages, debian.Entry{Package: p, Version: "1", Arch: arch, For: []string{r.Name + "/" + r.Arch}})
		}
	}
	module, err := gosource.Open("..")
	if err != nil {
		t.Fatal(err)
	}
	given, dir := map[string]string{}, t.TempDir()
	for name := range target.Parts {
		variable, file := targets.PartVariable(name), filepath.Join(dir, name)
		given[variable], given[variable+"_SHA256"] = file, strings.Repeat("0", 64)
		if err := os.WriteFile(file, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	in, err := resolve.Target(target, resolve.Options{
		GivenParts: given,
		Layers:     layers.New(layers.Layer{Label: layers.Workspace, Dir: shippedTree(t)}), Module: module, Own: module, Parts: debian.NewParts(debian.Open(t.TempDir(), nil), lock), Epoch: build.Epoch,
	})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// TestSmallestBoards plans the first example of docs/targets.md, of under ten lines, for two
// architectures: it makes the BSP export.
func TestSmallestBoards(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/targets.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(text), "```yaml\n")
	example, _, _ = strings.Cut(example, "```")
	for _, words := range [][]string{nil, {"arm64", "riscv64", "bookworm", "trixie"}} {
		board := strings.NewReplacer(words...).Replace(example)
		if words != nil && board == example || strings.Count(board, "\n") >= 10 {
			t.Fatalf("the example cannot be used:\n%s", board)
		}
		target, err := targets.Load(fstest.MapFS{"mine/target.yaml": &fstest.MapFile{Data: []byte(board)}}, "mine")
		if err != nil {
			t.Fatal(err)
		}
		c, err := images.Compose(plannedTarget(t, target))
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Artefacts) == 0 || c.Artefacts[0].To != "mine.pvr.tgz" {
			t.Errorf("%s makes %v", target.Arch, c.Artefacts)
		}
	}
}

// shippedTree returns the source tree without files that a user adds to it, such as keys.
func shippedTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"config", "containers", "images", "kernel", "vendors"} {
		from, err := filepath.Abs(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(from, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestPlanOfEveryTarget compares the steps of each target, dependencies first, with
// their parameters, sources and needs.
func TestPlanOfEveryTarget(t *testing.T) {
	t.Parallel()
	names, err := targets.Names(targets.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := images.Compose(planned(t, name))
			if err != nil {
				t.Fatal(err)
			}
			cache, err := build.OpenCache(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := (&build.Builder{Cache: cache}).Plan(t.Context(), c.Wanted()...); err != nil {
				t.Error(err)
			}
			w := &planWriter{t: t, seen: map[string]bool{}}
			for _, s := range c.Wanted() {
				w.step(s)
			}
			for _, component := range images.Components {
				for _, s := range c.Components[component] {
					w.step(s)
				}
			}
			for _, component := range images.Components {
				fmt.Fprintf(&w.text, "component %s:%s\n", component, stepNames(c.Components[component]))
			}
			for _, a := range c.Artefacts {
				fmt.Fprintf(&w.text, "artefact %s: %s of %s\n", a.To, a.From, a.Step.Name())
			}
			text := w.text.String()
			for _, request := range []string{debian.ToolsRequest, sources.ToolchainRequest} {
				text = strings.ReplaceAll(text, request+"/"+debian.HostArch(), request+"/HOST")
			}
			golden(t, "plan/"+name+".txt", digests.ReplaceAllString(text, `"DIGEST"`))
		})
	}
}

// TestInputsAsJSON compares the inputs of a complete target with the golden file.
func TestInputsAsJSON(t *testing.T) {
	t.Parallel()
	in := planned(t, "x64-uefi")
	text, err := json.MarshalIndent(in, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	root := strings.TrimSuffix(in.Config.Defaults.Path, "/config/defaults")
	golden(t, "inputs/x64-uefi.json", strings.ReplaceAll(string(text), root, "ROOT")+"\n")
}

// digests matches digests of content, which may change while the plan does not.
var digests = regexp.MustCompile(`"[0-9a-f]{64}"`)

// planWriter writes each step once, after its dependencies.
type planWriter struct {
	t    *testing.T
	seen map[string]bool
	text strings.Builder
}

func (w *planWriter) step(s build.Step) {
	w.t.Helper()
	if w.seen[s.Name()] {
		return
	}
	w.seen[s.Name()] = true
	for _, d := range s.Deps() {
		w.step(d)
	}
	fmt.Fprintf(&w.text, "%s\n", s.Name())
	w.fields(s)
	w.sources(s)
	if needs := stepNames(s.Deps()); needs != "" {
		fmt.Fprintf(&w.text, "    needs%s\n", needs)
	}
}

// fields writes the step's parameters: the exported fields that enter its key.
func (w *planWriter) fields(s build.Step) {
	w.t.Helper()
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() || f.Tag.Get("json") == "-" || f.Name == "Toolchain" {
			continue
		}
		if text, ok := v.Field(i).Interface().(string); ok && strings.Contains(text, "\n") {
			fmt.Fprintf(&w.text, "    %s:\n\t%s\n", f.Name, strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n\t"))
			continue
		}
		text, err := json.Marshal(v.Field(i).Interface())
		if err != nil {
			w.t.Fatal(err)
		}
		fmt.Fprintf(&w.text, "    %s = %s\n", f.Name, text)
	}
}

// sources writes the names of the files that a step reads, except those of a Go program.
func (w *planWriter) sources(s build.Step) {
	w.t.Helper()
	sourced, ok := s.(build.Sourced)
	if _, program := s.(*gobinary.Step); !ok || program {
		return
	}
	list, err := sourced.Sources()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, src := range list {
		fmt.Fprintf(&w.text, "    reads %s\n", cmp.Or(src.Name, "?"))
	}
}

func stepNames(steps []build.Step) string {
	var out strings.Builder
	for _, s := range steps {
		out.WriteString(" " + s.Name())
	}
	return out.String()
}
