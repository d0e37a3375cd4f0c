package images

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/internal/fault"
)

func TestAddonOfADirectoryAndOfAProgram(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"etc/product.conf": "x", "usr/bin/tool": "#!/bin/sh\n", "README.md": "for people"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program := &Artefact{&made{"go/agent", map[string]string{"bin/agent": "agent"}}, "bin/agent"}
	for label, c := range map[string]struct {
		step *FilesAddon
		want map[string]string
	}{
		"files":   {&FilesAddon{Directory: &build.Source{Name: "a", Path: dir}}, map[string]string{"etc/product.conf": "x", "usr/bin/tool": "#!/bin/sh\n"}},
		"program": {&FilesAddon{Program: program, Path: "usr/bin/agent"}, map[string]string{"usr/bin/agent": "agent"}},
	} {
		c.step.Label = label
		file := filepath.Join(newRunner(t).must(c.step), AddonFile(label))
		_, unpacked := unpack(t, file)
		for name, want := range c.want {
			if got, err := os.ReadFile(filepath.Join(unpacked, name)); err != nil || string(got) != want {
				t.Errorf("%s: %s is %q, %v", label, name, got, err)
			}
		}
		if _, err := os.Stat(filepath.Join(unpacked, "README.md")); err == nil {
			t.Errorf("%s has the note for readers", label)
		}
		if info, err := os.Stat(file); err != nil || info.Size()%4 != 0 {
			t.Errorf("%s: %v bytes, %v", label, info.Size(), err)
		}
	}
}

// TestAddonKeepsTheInitrd: the kernel would replace links and directories of the base.
func TestAddonKeepsTheInitrd(t *testing.T) {
	t.Parallel()
	program := &Artefact{&made{"go/agent", map[string]string{"bin/agent": "agent"}}, "bin/agent"}
	for path, want := range map[string]string{
		"bin/agent": "usr/bin", "init": "a link", "dev": "a directory", "usr/bin/pantavisor": "usr/bin/pantavisor", "lib/modules/x": "lib/modules/x",
	} {
		_, err := newRunner(t).run(&FilesAddon{Label: "a", Program: program, Path: path})
		if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
