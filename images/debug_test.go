package images

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// fakeBusybox returns a file with a list of commands like that of busybox: sorted, each
// ended by NUL, and anything before it.
func fakeBusybox(count int) string {
	names := []string{"[", "[["}
	for i := range count {
		names = append(names, fmt.Sprintf("applet%03d", i))
	}
	names = append(names, "init", "sh")
	slices.Sort(names[2:])
	return "\x7fELF code " + strings.Join(names, "\x00") + "\x00Usage: text\x00"
}

func TestDebugAddonHasAShell(t *testing.T) {
	s := &DebugAddon{X86: true, Busybox: &made{"unpack/busybox", map[string]string{"bin/busybox": fakeBusybox(80)}}}
	file := filepath.Join(newRunner(t).must(s), DebugAddonFile)
	names, dir := unpack(t, file)
	if to, err := os.Readlink(filepath.Join(dir, "usr/bin/sh")); err != nil || to != "busybox" {
		t.Errorf("sh leads to %q: %v", to, err)
	}
	if !slices.Contains(names, "usr/bin/[[") || slices.Contains(names, "usr/bin/init") || slices.Contains(names, "usr/bin/Usage: text") {
		t.Errorf("got %v", names)
	}
	if info, err := os.Stat(file); err != nil || info.Size()%4 != 0 {
		t.Errorf("%d bytes: %v", info.Size(), err)
	}
}

func TestOtherProgramsAreRefused(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"no list": {"bin/busybox": "ELF"}, "short list": {"usr/bin/busybox": fakeBusybox(3)}, "no program": {"bin/other": ""},
	} {
		s := &DebugAddon{Busybox: &made{"unpack/busybox", files}}
		if _, err := newRunner(t).run(s); fault.Of(err) != fault.BadInput {
			t.Errorf("%s: %v", name, err)
		}
	}
}
