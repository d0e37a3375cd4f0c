package containers

import "testing"

// TestBothSidesOfMergedUsr: the same definition takes a file where either form of the
// archive has it, and puts it where the definition says.
func TestBothSidesOfMergedUsr(t *testing.T) {
	t.Parallel()
	pkg := Package{Files: []string{"bin/busybox", "usr/lib/firmware/", "usr/sbin/tool"}}
	for name, want := range map[string]string{
		"bin/busybox": "bin/busybox", "usr/bin/busybox": "bin/busybox",
		"usr/lib/firmware/a": "usr/lib/firmware/a", "lib/firmware/a": "usr/lib/firmware/a",
		"sbin/tool": "usr/sbin/tool", "usr/local/bin/busybox": "", "usr/usr/bin/busybox": "", "busybox": "", "usr/share/doc/x": "",
	} {
		if got := pkg.wanted(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for name, want := range map[string]string{"usr/bin/busybox": "bin/busybox", "etc/alternatives/x": "etc/alternatives/x"} {
		if got := pkg.place(name); got != want { // of a link's target
			t.Errorf("%s is placed at %q, want %q", name, got, want)
		}
	}
	if got := (Package{}).wanted("lib/x"); got != "lib/x" {
		t.Errorf("a whole package is placed at %q", got)
	}
}
