package resolve

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/layers"
	"github.com/pantavisor/pantavisor/targets"
)

// TestCheckedInLocks checks that each target's lock has exactly the requests of the
// target, with helper programs for the usual build machines.
func TestCheckedInLocks(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../targets/*/parts.lock")
	if err != nil || len(files) == 0 {
		t.Fatalf("locks %v, %v", files, err)
	}
	for _, file := range files {
		l, err := debian.LoadLock(file)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		want := lockRequests(t, filepath.Base(filepath.Dir(file)))
		byID := func(a, b debian.Request) int { return strings.Compare(a.Name+"/"+a.Arch, b.Name+"/"+b.Arch) }
		if diff := cmp.Diff(slices.SortedFunc(slices.Values(want), byID), l.Requests); diff != "" {
			t.Errorf("%s answers other requests (-target +lock):\n%s", file, diff)
		}
		for _, r := range want {
			if len(l.Entries(r)) == 0 {
				t.Errorf("%s: nothing for %s/%s", file, r.Name, r.Arch)
			}
		}
		text, err := l.Bytes()
		have, readErr := os.ReadFile(file)
		if err != nil || readErr != nil || !bytes.Equal(text, have) {
			t.Errorf("%s is not as written by the program: %v, %v", file, err, readErr)
		}
	}
}

// lockRequests returns the requests of a shipped target and its builds for the usual build
// machines.
func lockRequests(t *testing.T, name string) []debian.Request {
	t.Helper()
	names, err := targets.Names(targets.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	var out []debian.Request
	for _, one := range names {
		target, err := targets.Load(targets.Builtin(), one)
		if err != nil {
			t.Fatal(err)
		}
		if target.Definition != name {
			continue
		}
		requests, err := requestsWith(target, repository(), "amd64", "arm64")
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range requests {
			if !slices.ContainsFunc(out, r.Equal) {
				out = append(out, r)
			}
		}
	}
	return out
}

// repository are the layers of this repository.
func repository() *layers.Layers {
	return layers.New(layers.Layer{Label: layers.Workspace, Dir: "../.."})
}

// board returns a target with requests of every kind.
func board() *targets.Target {
	return &targets.Target{Arch: targets.Arch{Go: "amd64", Debian: "amd64"}, Containers: []string{"sdk"},
		Kernel:     &targets.Kernel{Source: "debian", Suite: "trixie", Package: "linux-image-amd64", Firmware: &targets.Firmware{Packages: []string{"b", "a"}}},
		Bootloader: &targets.Bootloader{Type: "grub", Suite: "bookworm", Packages: []string{"grub-efi-amd64-bin"}}}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	want := []debian.Request{
		{Name: "kernel", Suite: "trixie", Arch: "amd64", Packages: []string{"linux-image-amd64"}},
		{Name: "firmware", Suite: "trixie", Arch: "amd64", Packages: []string{"a", "b"}},
		{Name: "bootloader", Suite: "bookworm", Arch: "amd64", Packages: []string{"grub-efi-amd64-bin"}},
		{Name: "containers", Suite: "trixie", Arch: "amd64", Packages: []string{"busybox-static"}},
	}
	got, err := targetRequests(board(), repository())
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if got, err := targetRequests(&targets.Target{Arch: targets.Arch{Go: "mips"}}, repository()); got != nil || err != nil {
		t.Errorf("a target of nothing asks for %v, %v", got, err)
	}
	all, err := LockRequests(board(), repository())
	if err != nil || len(all) < len(want)+2 {
		t.Errorf("the lock has %d requests, %v", len(all), err)
	}
}

func TestRequestsOfWhatIsNotThere(t *testing.T) {
	t.Parallel()
	kernel, loader := board(), board()
	kernel.Kernel.Source, loader.Bootloader.Type = "nobody", "uboot-pvk"
	for target, kind := range map[*targets.Target]fault.Kind{kernel: fault.BadInput, loader: fault.Unsupported} {
		if _, err := BuildRequests(target, repository()); fault.Of(err) != kind {
			t.Errorf("kind %v: %v", fault.Of(err), err)
		}
	}
	unknown := board()
	unknown.Containers = []string{"nobody", "../sdk"}
	if got, err := targetRequests(unknown, repository()); err != nil || len(got) != 3 {
		t.Errorf("containers that are not there: %v, %v", got, err)
	}
}
