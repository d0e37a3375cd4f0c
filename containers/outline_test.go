package containers

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/layers"
	"github.com/pantavisor/pantavisor/targets"
)

// mistakes plans a container and returns the problems with its definition.
func mistakes(t *testing.T, text string, files map[string]string) []string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "x", definitionFile), "description: d\n"+text, 0o644)
	for name, content := range files {
		mode := os.FileMode(0o644)
		if strings.HasPrefix(content, "#!") {
			mode = 0o755
		}
		write(t, filepath.Join(dir, "x/files", name), content, mode)
	}
	_, err := Parts(&targets.Target{Name: "t", Arch: targets.Arch{Go: "amd64", Debian: "amd64"}, Containers: []string{"x"}}, Options{
		Layers: layers.New(layers.Layer{Label: "test", Dir: dir}), Directory: ".",
		Groups: []string{"root", "platform", "app"}, Disks: []string{"dm-main"},
		Program: func(_ layers.Layer, pkg string) (Builder, error) {
			if pkg != "cmd/x" {
				return nil, fault.New(fault.BadInput, "package %q: unknown", pkg)
			}
			return fakeProgram{"x"}, nil
		},
		Packages:     func(string) (*debian.Fetch, error) { return &debian.Fetch{}, nil },
		Dependencies: func(string) ([]*debian.Fetch, error) { return nil, nil },
	})
	if err == nil {
		return nil
	}
	if fault.Of(err) != fault.BadInput {
		t.Errorf("kind %v", fault.Of(err))
	}
	return strings.Split(err.Error(), "\n")[1:]
}

func TestDefinitionsAreCheckedAsAWhole(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text  string
		files map[string]string
		want  []string
	}{
		"right: a program":               {"entrypoint: [/usr/bin/x]\nroot: {programs: [{package: cmd/x, path: usr/bin/x}]}\n", nil, nil},
		"right: by PATH, through a link": {"command: [run]\nenv: [PATH=/opt]\nroot:\n  programs: [{package: cmd/x, path: usr/bin/x}]\n  links: [{target: ../usr/bin/x, at: [opt/run]}]\n", nil, nil},
		"right: a script":                {"command: [/start]\n", map[string]string{"start": "#!/bin/sh"}, nil},
		"a link without its target": {"command: [/bin/sh]\nroot:\n  debian: [{package: pk, files: [bin/busybx]}]\n  links: [{target: busybox, at: [bin/sh]}]\n", nil,
			[]string{`x/container.yaml:2:1: command: "/bin/sh" leads to bin/busybox, which is not in the root`}},
		"a link of PATH without its target": {"command: [sh]\nroot:\n  debian: [{package: pk, files: [bin/busybx]}]\n  links: [{target: busybox, at: [bin/sh]}]\n", nil,
			[]string{`x/container.yaml:2:1: command: "sh" leads to bin/busybox, which is not in the root`}},
		"a runlevel that is not a group": {"command: [/start]\nargs: {PV_RUNLEVEL: ap}\n", map[string]string{"start": "#!/bin/sh"},
			[]string{`x/container.yaml:3:8: args.PV_RUNLEVEL: "ap" is not possible; did you mean app?`}},
		"right: in a directory of a package": {
			"command: [/usr/sbin/daemon]\nroot: {debian: [{package: pk, files: [usr/sbin/]}]}\n", nil, nil},
		"right: somewhere in a whole package": {"command: [daemon]\nroot: {debian: [{package: pk}]}\n", nil, nil},
		"right: a link to a packaged file": {
			"command: [/bin/sh]\nroot:\n  debian: [{package: pk, files: [bin/busybox]}]\n  links: [{target: busybox, at: [bin/sh]}]\n", nil, nil},
		"right: in a volume": {"command: [/data/run]\npersistence: {/data: permanent}\n", nil, nil},
		"absent":             {"command: [/start]\n", nil, []string{`x/container.yaml:2:1: command: "/start" is not in the root`}},
		"not executable": {"command: [/start]\n", map[string]string{"start": "no"},
			[]string{`x/container.yaml:2:1: command: "/start" is not executable: chmod +x it in files/`}},
		"a directory": {"entrypoint: [/etc]\n", nil, []string{`x/container.yaml:2:1: entrypoint: "/etc" is a directory`}},
		"not in PATH": {"command: [run]\nenv: [PATH=/opt]\n", nil,
			[]string{`x/container.yaml:2:1: command: "run" is not an executable file in any directory of PATH=/opt`}},
		"a cycle": {"command: [/start]\nroot:\n  links:\n    - {target: b, at: [a]}\n    - {target: a, at: [b]}\n", map[string]string{"start": "#!"},
			[]string{"x/container.yaml:5:24: root.links[0].at[0]: a leads around in circles of links", "x/container.yaml:6:24: root.links[1].at[0]: b leads around in circles of links"}},
		"below a file": {"command: [/a]\nroot:\n  programs: [{package: cmd/x, path: a}]\n  folders: [a/b]\n", nil,
			[]string{"x/container.yaml:5:13: root.folders[0]: a/b cannot be made: a is a file (root.programs[0].path), not a directory"}},
		"above a file": {"command: [/a/b]\nroot:\n  programs: [{package: cmd/x, path: a/b}]\n  links: [{target: x, at: [a]}]\n", nil,
			[]string{"x/container.yaml:5:28: root.links[0].at[0]: a comes from two sources, this and root.programs[0].path as a directory"}},
		"several at once": {"group: ap\ncommand: [/start]\npersistence:\n  /data: permanent@dm-mian\nroot: {programs: [{package: cmd/y, path: y}]}\n", nil, []string{
			`x/container.yaml:2:1: group: "ap" is not possible; did you mean app?`,
			`x/container.yaml:3:1: command: "/start" is not in the root`,
			`x/container.yaml:5:3: persistence./data: disk "dm-mian" is not possible; did you mean dm-main?`,
			`x/container.yaml:6:20: root.programs[0].package: package "cmd/y": unknown`,
		}},
		"mistakes in a variant": {"command: [/start]\nwithout_debian:\n  root: {debian: [{package: pk}], folders: [/abs], links: [{target: b, at: [start]}]}\n  entrypoint: [/gone]\n",
			map[string]string{"start": "#!"}, []string{
				"x/container.yaml:3:1: without_debian: start comes from two sources, this and without_debian.root.links[0].at[0]",
				"x/container.yaml:4:10: without_debian.root.debian: is for targets that Debian has no packages for",
				`x/container.yaml:4:45: without_debian.root.folders[0]: "/abs" is not a clean path without a leading '/'`,
			}},
		"no name of a package": {"command: [/a/x]\nroot: {debian: [{package: \"a b\", files: [a/]}]}\n", nil,
			[]string{`x/container.yaml:3:18: root.debian[0].package: "a b" is not a legal name; want the form ^[a-z0-9][a-z0-9+.-]+$`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(c.want, mistakes(t, c.text, c.files)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestCommandIsCheckedInTheFinishedRoot wants what a package should have brought.
func TestCommandIsCheckedInTheFinishedRoot(t *testing.T) {
	t.Parallel()
	p := &Part{Definition: &Definition{Name: "x", Command: []string{"/usr/sbin/daemon"}}, file: "x/container.yaml"}
	root := rootfs{}
	if err := p.startable(root); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), `x/container.yaml: the command cannot be started: "/usr/sbin/daemon" is not in the root`) {
		t.Errorf("got %v", err)
	}
	from := filepath.Join(t.TempDir(), "daemon")
	write(t, from, "#!", 0o755)
	if err := root.file("usr/sbin/daemon", 0o755, from); err != nil {
		t.Fatal(err)
	}
	if err := p.startable(root); err != nil {
		t.Error(err)
	}
}

func TestDependenciesAreRequested(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "containers/x", definitionFile), "description: d\ncommand: [/usr/bin/a]\nroot: {debian: [{package: aa, dependencies: true}, {package: bb}]}\n", 0o644)
	target := &targets.Target{Name: "t", Arch: targets.Arch{Go: "amd64", Debian: "amd64"}, Containers: []string{"x"}}
	want := []debian.Request{
		{Name: "containers", Suite: debian.ToolSuite, Arch: "amd64", Packages: []string{"aa", "bb"}},
		{Name: "containers/aa", Suite: debian.ToolSuite, Arch: "amd64", Packages: []string{"aa"}, Closure: true},
	}
	if diff := cmp.Diff(want, Requests(target, layers.New(layers.Layer{Label: "test", Dir: dir}))); diff != "" {
		t.Error(diff)
	}
}
