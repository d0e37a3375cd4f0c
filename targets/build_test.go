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
