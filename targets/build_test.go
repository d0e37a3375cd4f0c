package targets

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// families are targets with other names.
func families() fstest.MapFS {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	return fstest.MapFS{
		"pi-5.10.y/target.yaml": file(good + "aliases: [pi]\nbuilds:\n  big: {description: larger, containers: [demo]}\n  debug: {description: with a shell, debug: true}\n"),
		"pi-5/target.yaml":      file("description: five\nbase: pi\n"),
		"loop/target.yaml":      file("description: loop\nbase: round\naliases: [round]\n"),
		"bad/target.yaml": file(good + "builds:\n  default: {description: x}\n  wide:\n    description: x\n    image:\n      size: 10\n      table: gpt\n" +
			"      partitions: [{name: pvroot, role: root, format: ext4}]\n"),
	}
}

func TestOtherNamesOfATarget(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct {
		name, definition string
		debug            bool
		containers       int
	}{
		"pi":                {"pi-5.10.y", "pi-5.10.y", false, 0},
		"pi-default":        {"pi-5.10.y", "pi-5.10.y", false, 0},
		"pi-5.10.y-default": {"pi-5.10.y", "pi-5.10.y", false, 0},
		"pi-debug":          {"pi-5.10.y-debug", "pi-5.10.y", true, 0},
		"pi-5.10.y-big":     {"pi-5.10.y-big", "pi-5.10.y", false, 1},
		"pi-5":              {"pi-5", "pi-5", false, 0},
	} {
		got, err := Load(families(), name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got.Name != want.name || got.Definition != want.definition || got.Debug != want.debug || len(got.Containers) != want.containers {
			t.Errorf("%s: got %s of %s, debug %v, %q", name, got.Name, got.Definition, got.Debug, got.Containers)
		}
	}
	names, err := Names(families())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"bad", "bad-default", "bad-wide", "loop", "pi-5", "pi-5.10.y", "pi-5.10.y-big", "pi-5.10.y-debug"}, names); diff != "" {
		t.Error(diff)
	}
}

func TestMistakesOfBuilds(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"pi-5-big": `target "pi-5-big": unknown`,
		"pi-none":  `target "pi-none": unknown`,
		"loop":     "has this target as its base itself",
		"round":    "has this target as its base itself",
		"bad":      "builds.default: is the target itself",
		"bad-wide": "targets/bad/target.yaml:19:7: image.partitions: 0 partitions with role boot", // of the build's image
	} {
		_, err := Load(families(), name)
		if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: kind %v: %v; want %q", name, fault.Of(err), err, want)
		}
	}
}

// TestNamesOfSeveral has one name for several targets, in one layer and in two.
func TestNamesOfSeveral(t *testing.T) {
	t.Parallel()
	file := func(more string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(good + more)} }
	const debug = "builds:\n  debug: {description: x, debug: true}\n"
	shipped := fstest.MapFS{
		"pc/target.yaml":   file("aliases: [box]\n" + debug),
		"two/target.yaml":  file("aliases: [both]\n"),
		"twin/target.yaml": file("aliases: [both]\n"),
		"self/target.yaml": file("aliases: [self]\n"),
		"old/target.yaml":  file("aliases: [replace]\n"),
	}
	product := fstest.MapFS{
		"mine/target.yaml":    file("aliases: [box]\n" + debug),
		"clash/target.yaml":   file("aliases: [mine-debug]\n"),
		"two/target.yaml":     file(""),
		"hider/target.yaml":   file("aliases: [pc]\n"),
		"replace/target.yaml": file(""),
	}
	all := overlay{product, shipped}
	for name, want := range map[string]string{"box": "mine", "box-debug": "mine-debug", "pc-debug": "pc-debug", "both": "twin", "old": "old", "replace": "replace"} {
		if got, err := Load(all, name); err != nil || got.Name != want {
			t.Errorf("%s: got %v, %v; want %s", name, got, err, want)
		}
	}
	for name, want := range map[string]string{
		"mine-debug": `target "mine-debug" is another name of clash and of mine-debug: change the aliases`,
		"hider":      `aliases[0]: "pc" is the name of a target itself`,
		"self":       `aliases[0]: "self" is the name of a target itself`,
	} {
		if _, err := Load(all, name); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: kind %v: %v; want %s", name, fault.Of(err), err, want)
		}
	}
	if _, err := Load(shipped, "both"); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "is another name of twin and of two") {
		t.Errorf("both: kind %v: %v", fault.Of(err), err)
	}
	shipped["self/target.yaml"] = file("aliases: [self]\n" + debug)
	if _, err := LoadAll(shipped); err == nil || strings.Count(err.Error(), `"self" is the name`) != 1 {
		t.Errorf("a mistake of a target with a build: %v; want it once", err)
	}
}
