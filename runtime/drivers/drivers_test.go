package drivers

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/revision/manifest"
	"github.com/pantavisor/pantavisor/runtime/ctrl/api"
	"github.com/pantavisor/pantavisor/runtime/logs"
)

// discard is a log sink that keeps nothing.
type discard struct{}

func (discard) Log(string, string, logs.Level, string) {}

// kernel is a kernel that takes all modules but those whose names begin with no.
type kernel struct{ calls []string }

func (k *kernel) Insert(module, options string) error {
	k.calls = append(k.calls, strings.TrimSpace("+"+module+" "+options))
	if strings.HasPrefix(module, "no") {
		return errors.New("no such module")
	}
	return nil
}

func (k *kernel) Remove(module string) error {
	k.calls = append(k.calls, "-"+module)
	if module == "busy" {
		return errors.New("in use")
	}
	return nil
}

func TestDrivers(t *testing.T) {
	k := &kernel{}
	sys := &manifest.System{
		Drivers: &manifest.Drivers{
			All:     map[string][]string{"eth": {"e1", "e2 x=1"}, "wifi": {"w1 a=1", "w2 ${user-meta:opts} b=${device-meta:none}"}, "half": {"h1", "nope"}, "busy": {"busy"}},
			Special: map[string]map[string][]string{"dtb:board.dtb": {"eth": {"board"}}},
		},
		Containers: []manifest.Container{
			{Name: "a", Drivers: manifest.DriverRefs{Required: []string{"eth"}, Optional: []string{"half", "gone"}, Manual: []string{"wifi", "busy"}}},
			{Name: "b", Drivers: manifest.DriverRefs{Manual: []string{"wifi"}}},
			{Name: "c", Drivers: manifest.DriverRefs{Required: []string{"half"}}},
		},
	}
	d := New(Options{System: sys, Modules: Modules{Insert: k.Insert, Remove: k.Remove}, Log: logs.Logger{Sink: discard{}},
		Hardware: Hardware("quiet pv_bootloader.dtb=board.dtb pv_bootloader.ovl=x", ""),
		Expand:   func(kind, key string) string { return map[string]string{"user-meta:opts": "o=7"}[kind+":"+key] }})
	calls := func(want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, k.calls); diff != "" {
			t.Errorf("modules (-want +got):\n%s", diff)
		}
		k.calls = nil
	}
	if err := d.Start(&sys.Containers[0]); err != nil {
		t.Error(err)
	}
	calls("+board", "+h1", "+nope", "-h1")
	if err := d.Start(&sys.Containers[2]); err == nil || !strings.Contains(err.Error(), "required driver half") {
		t.Errorf("a required driver that does not load: %v", err)
	}
	k.calls = nil
	list, _ := d.List("a")
	want := []api.Driver{{Name: "eth", Type: "REQUIRED", Status: "LOADED"}, {Name: "half", Type: "OPTIONAL", Status: "UNLOADED"},
		{Name: "gone", Type: "OPTIONAL", Status: "UNKNOWN"}, {Name: "wifi", Type: "MANUAL", Status: "UNLOADED"}, {Name: "busy", Type: "MANUAL", Status: "UNLOADED"}}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	if err := errors.Join(d.Load("a", ""), d.Load("b", "wifi"), d.Load("b", "eth"), d.Load("nobody", "")); err != nil {
		t.Error(err)
	}
	calls("+w1 a=1", "+w2 o=7 b=", "+busy")
	if err := errors.Join(d.Unload("b", ""), d.Unload("b", "")); err != nil {
		t.Error(err)
	}
	calls()
	if err := d.Unload("a", ""); err != nil {
		t.Error(err)
	}
	calls("-w2", "-w1", "-busy")
	if list, _ := d.List("nobody"); list != nil {
		t.Errorf("a list for nobody: %v", list)
	}
}

// TestChange goes to a state without a container and with another that refers to less.
func TestChange(t *testing.T) {
	k := &kernel{}
	refs := func(names ...string) manifest.DriverRefs { return manifest.DriverRefs{Required: names} }
	all := &manifest.Drivers{All: map[string][]string{"eth": {"e"}, "wifi": {"w"}, "bt": {"b"}}}
	old := &manifest.System{Drivers: all, Containers: []manifest.Container{
		{Name: "gone", Drivers: refs("eth", "wifi")}, {Name: "stays", Drivers: refs("wifi", "bt")}, {Name: "less", Drivers: refs("bt", "eth")}}}
	d := New(Options{System: old, Modules: Modules{Insert: k.Insert, Remove: k.Remove}, Log: logs.Logger{Sink: discard{}}})
	for i := range old.Containers {
		if err := d.Start(&old.Containers[i]); err != nil {
			t.Fatal(err)
		}
	}
	k.calls = nil
	d.Change(&manifest.System{Drivers: all, Containers: []manifest.Container{{Name: "stays", Drivers: refs("wifi", "bt")}, {Name: "less"}}})
	if list, _ := d.List("gone"); list != nil || len(k.calls) > 0 {
		t.Errorf("before the sweep: %v, modules %v", list, k.calls)
	}
	d.Sweep()
	if diff := cmp.Diff([]string{"-e"}, k.calls); diff != "" {
		t.Errorf("modules (-want +got):\n%s", diff)
	}
	list, _ := d.List("stays")
	if diff := cmp.Diff([]api.Driver{{Name: "wifi", Type: "REQUIRED", Status: "LOADED"}, {Name: "bt", Type: "REQUIRED", Status: "LOADED"}}, list); diff != "" {
		t.Errorf("drivers (-want +got):\n%s", diff)
	}
}
