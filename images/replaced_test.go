package images

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/build"
)

// files writes a directory of files by name.
func files(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("of "+name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// fragmentOf is a made part of a revision with the keys of values.
func fragmentOf(name, state string) *made { return &made{name, map[string]string{"json": state}} }

// TestReplacedFilesAreTold walks the places where a file may stand in for another.
func TestReplacedFilesAreTold(t *testing.T) {
	t.Parallel()
	root := boardTree(t)
	in := initrd(root, board())
	upper, lower := files(t, "etc/passwd", "etc/own", ".gitkeep", "README.md"), files(t, "etc/own", "etc/hosts", "README.md")
	in.Files.Skel = &build.Source{Name: "vendors/board/skel", Path: upper, Under: []string{lower}}
	policies := files(t, "policies/prod.config")
	in.Files.Defaults = build.Source{Name: "config/defaults", Path: policies, Under: in.Files.Defaults.Dirs()}
	program := &Artefact{&made{"go/agent", map[string]string{"bin/agent": "agent"}}, "bin/agent"}
	addons := []Addon{
		{From: Artefact{Step: &FilesAddon{Label: "one", Directory: &build.Source{Name: "addon", Path: files(t, "etc/group", "usr/bin/agent")}}}},
		{From: Artefact{Step: &FilesAddon{Label: "two", Program: program, Path: "usr/bin/agent"}}},
		{From: Artefact{Step: &DebugAddon{Busybox: &made{"busybox", nil}}}},
	}
	device := &Device{}
	bsp := &BSP{Kernel: Artefact{Step: program.Step}, Initrd: Artefact{Step: in}, Addons: addons}
	app := fragmentOf("container/app", `{"#spec":"pantavisor-service-system@1","app/run.json":{}}`)
	reference := &Reference{Path: "/d/.pvr", Instead: []string{"app"}}
	guest := guest(t)
	guest.Skel = &build.Source{Name: "skel", Path: files(t, "pvcontrol")}
	step := func(p ...build.Step) *Trail {
		return &Trail{Parts: p, Stepskel: &build.Source{Name: "vendors/board/stepskel", Path: files(t, "app/run.json", "bsp/kernel.img", "device.json")}}
	}
	for what, c := range map[string]struct {
		step build.Replacing
		made []build.Step
		want []build.Replacement
	}{
		"skel and defaults": {in.Files, nil, []build.Replacement{
			{Files: []string{"etc/pantavisor/policies/prod.config"}, Of: filepath.Join(root, "config/defaults"), By: "config/defaults"},
			{Files: []string{"etc/hosts"}, Of: "initrd/files", By: lower},
			{Files: []string{"etc/own"}, Of: lower, By: "vendors/board/skel"},
			{Files: []string{"etc/passwd"}, Of: "initrd/files", By: "vendors/board/skel"},
		}},
		"addons": {bsp, nil, []build.Replacement{
			{Files: []string{"etc/group"}, Of: "initrd/base", By: "initrd/addon-one"},
			{Files: []string{"usr/bin/agent"}, Of: "initrd/addon-one", By: "initrd/addon-two"},
		}},
		"stepskel, before the parts are made": {step(device, bsp, app), nil, []build.Replacement{
			{Files: []string{"bsp/kernel.img"}, Of: "bsp/part", By: "vendors/board/stepskel"},
			{Files: []string{"device.json"}, Of: "trail/device", By: "vendors/board/stepskel"},
		}},
		"stepskel, when a part is made": {step(device, app), []build.Step{app}, []build.Replacement{
			{Files: []string{"app/run.json"}, Of: "container/app", By: "vendors/board/stepskel"},
			{Files: []string{"device.json"}, Of: "trail/device", By: "vendors/board/stepskel"},
		}},
		"a later part": {&Trail{Parts: []build.Step{device, fragmentOf("other", `{"#spec":"pantavisor-service-system@1","device.json":{}}`)}}, []build.Step{fragmentOf("other", `{"#spec":"pantavisor-service-system@1","device.json":{}}`)}, []build.Replacement{
			{Files: []string{"device.json"}, Of: "trail/device", By: "other"},
		}},
		"a reference device": {reference, nil, []build.Replacement{
			{Files: []string{"app"}, Of: "the containers of the target", By: "the reference device /d/.pvr (PVR_MERGE_SRC)"},
		}},
		"App Engine": {guest, nil, []build.Replacement{{Files: []string{"pvcontrol"}, Of: "appengine/package", By: "skel"}}},
		"nothing":    {&Trail{Parts: []build.Step{device, app}}, []build.Step{app}, nil},
	} {
		run := newRunner(t)
		for _, s := range c.made {
			run.must(s)
		}
		got, err := c.step.Replaces(t.Context(), func(s build.Step) string { return run.outs[s.Name()] })
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got)\n%s", what, err, diff)
		}
	}
}

// TestKeysAreKnownBefore compares what parts say before they are made with what they make.
func TestKeysAreKnownBefore(t *testing.T) {
	t.Parallel()
	root := boardTree(t)
	kernel := &made{"kernel/image", map[string]string{"kernel.img": "k", "addon": "a", "modules": "m"}}
	of := func(file string) Artefact { return Artefact{kernel, file} }
	modules := of("modules")
	for _, part := range []interface {
		build.Step
		keyed
	}{
		&Device{Defaults: at(root, "config/defaults")},
		&BSP{Target: "board", Kernel: of("kernel.img"), Initrd: of("kernel.img"), Addons: []Addon{{of("addon"), "addon-a.cpio.xz4"}}, Modules: &modules},
	} {
		run := newRunner(t)
		run.must(part)
		made, err := keysOf(part, run.outs[part.Name()])
		if err != nil {
			t.Fatal(err)
		}
		said := map[string]bool{}
		for _, key := range part.Keys() {
			said[key] = true
		}
		is := map[string]bool{}
		for _, key := range made {
			is[key] = true
		}
		if diff := cmp.Diff(is, said); diff != "" {
			t.Errorf("%s (-made +said)\n%s", part.Name(), diff)
		}
	}
}
