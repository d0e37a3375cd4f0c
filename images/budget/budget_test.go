package budget

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/build/gobinary"
	"github.com/pantavisor/pantavisor/containers"
	"github.com/pantavisor/pantavisor/formats/squashfs"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/images"
	"github.com/pantavisor/pantavisor/images/media"
	"github.com/pantavisor/pantavisor/images/size"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/parts"
	"github.com/pantavisor/pantavisor/revision/fragment"
	"github.com/pantavisor/pantavisor/targets"
)

// made is a step whose output a test makes.
type made struct {
	Label string // distinguishes it
	do    func(ctx context.Context, out string) error
}

func (m *made) Name() string       { return m.Label }
func (m *made) Deps() []build.Step { return nil }

func (m *made) Run(ctx context.Context, w *build.Work) error { return m.do(ctx, w.Out) }

func noise(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// rootfs makes a squashfs of files with so many bytes that do not compress.
func rootfs(name string, files map[string]int) *made {
	return &made{name, func(ctx context.Context, out string) error {
		f, err := os.Create(filepath.Join(out, "fs"))
		if err != nil {
			return err
		}
		defer f.Close()
		names := make([]string, 0, len(files))
		for file := range files {
			names = append(names, file)
		}
		slices.Sort(names)
		err = squashfs.Write(ctx, f, squashfs.Options{Workers: 1}, func(add func(tree.Entry) error) error {
			for i, file := range names {
				if err := add(tree.Bytes(file, 0o644, noise(uint64(i), files[file]))); err != nil {
					return err
				}
			}
			return nil
		})
		return err
	}}
}

// deliver builds a step with the checks of its budgets.
func deliver(t *testing.T, dir string, step build.Step, checks []build.Check) (*build.Report, error) {
	t.Helper()
	c, err := build.OpenCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	b := &build.Builder{Cache: c, Target: "x", Workspace: "/w", Checks: checks}
	return b.Deliver(t.Context(), t.TempDir(), []build.Artefact{{Step: step, From: "fs", To: "fs"}})
}

// sizesIn are the sizes that a build has measured.
func sizesIn(t *testing.T, dir string, m *Measure) *size.Saved {
	t.Helper()
	c, err := build.OpenCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	res, err := (&build.Builder{Cache: c, Target: "x", Workspace: "/w"}).Build(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	things, err := Things(res, []*Measure{m})
	if err != nil {
		t.Fatal(err)
	}
	return &size.Saved{Target: "x", Release: "v1.0", Things: things}
}

// TestBudgetIsExceeded: the error names what is largest and what has grown since when, nothing is
// published, and the report has what is used.
func TestBudgetIsExceeded(t *testing.T) {
	dir := t.TempDir()
	small := &Measure{Thing: "part modules", File: "fs", Of: rootfs("small", map[string]int{"a.ko": 40_000, "b.ko": 30_000})}
	before := sizesIn(t, dir, small)
	saved := filepath.Join(t.TempDir(), "sizes.json")
	text, err := before.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(saved, text, 0o644); err != nil {
		t.Fatal(err)
	}
	step := rootfs("modules", map[string]int{"a.ko": 60_000, "b.ko": 30_000, "c.ko": 50_000})
	checks, used := Checks(&targets.Budgets{Parts: map[string]targets.Size{"modules": 100_000}},
		[]*Measure{{Thing: "part modules", File: "fs", Of: step}}, Options{
			Saved: build.Source{Name: "targets/x/sizes.json", Path: saved}, Last: func() *size.Saved { return before },
		})
	if len(checks) != 1 || len(used) != 1 {
		t.Fatalf("%d checks, %d measures", len(checks), len(used))
	}
	report, err := deliver(t, dir, step, checks)
	if fault.Of(err) != fault.Budget {
		t.Fatalf("%v", err)
	}
	for _, want := range []string{
		"part modules: 140.0 KiB are 42.3 KiB ", "more than its budget of 97.7 KiB", "raise budgets.parts.modules in target.yaml",
		"the largest:\n      58.6 KiB  a.ko\n      48.8 KiB  c.ko\n      29.3 KiB  b.ko",
		"since the last build: +", "since v1.0: +", "+48.8 KiB  c.ko (new)", "+19.5 KiB  a.ko (was 39.1 KiB)",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in\n%v", want, err)
		}
	}
	if len(report.Artefacts) != 0 || len(report.Budgets) != 1 || !report.Budgets[0].Over() || report.Failure.Code != int(fault.Budget) {
		t.Errorf("%+v", report)
	}
}

// TestGrowth: what is within its budget may still have grown by too much.
func TestGrowth(t *testing.T) {
	dir := t.TempDir()
	step := rootfs("fs", map[string]int{"a": 60_000})
	m := &Measure{Thing: initrd, File: "fs", Of: step}
	saved := sizesIn(t, dir, m)
	saved.Things[0].Bytes -= 3000 // 5.3 % of what is left
	text, err := saved.Encode()
	file := filepath.Join(t.TempDir(), "sizes.json")
	if err != nil || os.WriteFile(file, text, 0o644) != nil {
		t.Fatal(err)
	}
	for percent, fails := range map[targets.Percent]bool{0: true, 5: true, 6: false} {
		checks, _ := Checks(&targets.Budgets{Growth: &percent}, []*Measure{m}, Options{Saved: build.Source{Name: "s", Path: file}})
		report, err := deliver(t, dir, step, checks)
		if (fault.Of(err) == fault.Budget) != fails || err != nil && !strings.Contains(err.Error(), "that it may grow to") {
			t.Errorf("%d %%: %v", percent, err)
		}
		if len(report.Budgets) != 1 || !strings.HasPrefix(report.Budgets[0].Limited, "growth: ") {
			t.Errorf("%d %%: %v", percent, report.Budgets)
		}
	}
	checks, _ := Checks(&targets.Budgets{Growth: new(targets.Percent)}, []*Measure{m}, Options{})
	if len(checks) != 0 {
		t.Error("without sizes of a release growth is checked")
	}
}

func TestNearlyFull(t *testing.T) {
	step := rootfs("fs", map[string]int{"a": 60_000})
	checks, _ := Checks(&targets.Budgets{Initrd: 62_000}, []*Measure{{Thing: initrd, File: "fs", Of: step}}, Options{})
	report, err := deliver(t, t.TempDir(), step, checks)
	if err != nil || len(report.Warnings) != 1 || !strings.Contains(report.Warnings[0].Text, "initrd: 9") {
		t.Errorf("%v: %+v", err, report)
	}
}

// TestFragmentIsMeasured: a container is the sum of its objects.
func TestFragmentIsMeasured(t *testing.T) {
	step := &made{"container/app", func(ctx context.Context, out string) error {
		w, err := fragment.Create(out)
		if err == nil {
			err = w.AddBytes("app/root.squashfs", noise(1, 50_000))
		}
		if err == nil {
			err = w.AddBytes("app/lxc.container.conf", noise(2, 100))
		}
		if err == nil {
			err = w.AddValue("app/run.json", []byte(`{"name":"app"}`))
		}
		if err != nil {
			return err
		}
		return w.Close()
	}}
	got := sizesIn(t, t.TempDir(), &Measure{Thing: "container app", Of: step}).Things[0]
	want := []size.Entry{{Name: "app/root.squashfs", Bytes: 50_000, Unpacked: 50_000}, {Name: "app/lxc.container.conf", Bytes: 100, Unpacked: 100}, {Name: "#spec", Bytes: 29, Unpacked: 29}, {Name: "app/run.json", Bytes: 14, Unpacked: 14}}
	if diff := cmp.Diff(want, got.Entries); got.Bytes != 50_143 || diff != "" {
		t.Errorf("%d bytes: %s", got.Bytes, diff)
	}
}

// graph is one of each step that can have a budget.
func graph() (*images.Inputs, *images.Composition) {
	runtime := &gobinary.Step{Package: "cmd/pantavisor", Arch: targets.Arch{Go: "amd64"}}
	file := func(name, path string) images.Artefact {
		return images.Artefact{Step: &made{Label: name}, File: path}
	}
	modules, firmware := file("kernel/modules", "m"), file("kernel/firmware", "f")
	step := &images.BSP{
		Initrd: file("initrd/base", "i"), Kernel: file("kernel/image", "k"), Modules: &modules, Firmware: &firmware,
		Addons: []images.Addon{{Name: images.AddonFile("fonts"), From: file("initrd/addon-fonts", "a")}},
	}
	app := &containers.Part{Definition: &containers.Definition{Name: "app"}, Arch: "amd64"}
	trail := &images.Trail{Parts: []build.Step{step, app, runtime, &parts.File{Part: "bl1"}}}
	main := &images.Disk{Storage: trail}
	other := &images.Disk{Storage: trail, Layout: images.Layout{File: "other.img"}}
	nand := &images.UBI{Storage: trail, Layout: images.Layout{File: "nand.ubi"}}
	packed := &media.Compressed{Form: "xz", Image: media.File{Step: main, Path: images.DiskFile}}
	comp := &images.Composition{}
	for _, s := range []build.Step{main, other, nand, packed} {
		comp.Artefacts = append(comp.Artefacts, build.Artefact{Step: s})
	}
	return &images.Inputs{Runtime: images.Artefact{Step: runtime, File: runtime.File()}}, comp
}

// TestEachKindHasACheck: every budget of a target is checked, behind the step that it is about.
func TestEachKindHasACheck(t *testing.T) {
	in, comp := graph()
	measures, err := Measures(in, comp)
	if err != nil {
		t.Fatal(err)
	}
	one := func(name string) map[string]targets.Size { return map[string]targets.Size{name: 1} }
	for want, b := range map[string]targets.Budgets{
		"image/disk image/disk/other.img image/ubi/nand.ubi":              {Image: 1},
		"image/disk image/disk/other.img image/ubi/nand.ubi (partitions)": {Partitions: one("root")},
		"image/disk/xz":      {Compressed: 1},
		"initrd/base":        {Initrd: 1},
		"go/pantavisor":      {Binary: 1},
		"bsp/part":           {BSP: 1},
		"kernel/image":       {Parts: one("kernel")},
		"kernel/modules":     {Parts: one("modules")},
		"kernel/firmware":    {Parts: one("firmware")},
		"initrd/addon-fonts": {Parts: one("fonts")},
		"part/bl1":           {Parts: one("bl1")},
		"container/app/":     {Containers: one("app")},
	} {
		checks, _ := Checks(&b, measures, Options{})
		var got []string
		for _, c := range checks {
			if len(c.(*Check).Limits) != 1 {
				t.Errorf("%s has the limits %v", c.Name(), c.(*Check).Limits)
			}
			got = append(got, c.Checks().Name())
		}
		slices.Sort(got)
		want = strings.TrimSuffix(want, " (partitions)")
		if text := strings.Join(got, " "); !strings.HasPrefix(text, want) {
			t.Errorf("%+v is checked at %q, not at %q", b, text, want)
		}
	}
	if checks, _ := Checks(nil, measures, Options{}); checks != nil {
		t.Error("without budgets there are checks")
	}
}

// TestLimitsOfEachThing: of a medium its own name and those of its partitions count, each once.
func TestLimitsOfEachThing(t *testing.T) {
	things := []size.Thing{{Name: image, Bytes: 50}, {Name: "partition boot", Bytes: 20}, {Name: "partition root", Bytes: 30}}
	text, err := json.Marshal(things)
	if err != nil {
		t.Fatal(err)
	}
	m := &Measure{Thing: image, File: images.DiskFile, Of: &images.Disk{Storage: &images.Trail{}}}
	checks, _ := Checks(&targets.Budgets{Image: 40, Partitions: map[string]targets.Size{"boot": 19, "root": 31}}, []*Measure{m}, Options{})
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, sizesFile), text, 0o644); err != nil {
		t.Fatal(err)
	}
	w := build.NewWork("", "", func(build.Step) string { return dir }, nil)
	err = checks[0].Run(t.Context(), w)
	want := []build.Use{{Name: image, Bytes: 50, Limit: 40}, {Name: "partition boot", Bytes: 20, Limit: 19}, {Name: "partition root", Bytes: 30, Limit: 31}}
	if diff := cmp.Diff(want, w.Used()); diff != "" {
		t.Error(diff)
	}
	if fault.Of(err) != fault.Budget || !strings.Contains(err.Error(), "budgets.image") || !strings.Contains(err.Error(), "budgets.partitions.boot") || strings.Contains(err.Error(), "partitions.root") {
		t.Errorf("%v", err)
	}
}
