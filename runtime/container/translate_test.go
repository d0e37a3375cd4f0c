package container

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTranslate(t *testing.T) {
	c, _ := parse(t, `
lxc.rootfs.path = overlayfs:/volumes/c/root.squashfs:/volumes/c/lxc-overlay/upper
lxc.mount.entry = /volumes/c/data data none bind 0 0
lxc.mount.entry = /volumesx/c data none bind 0 0
lxc.mount.entry = /volumes/c/data rel none bind,relative 0 0
lxc.mount.entry = overlay etc overlay lowerdir=/volumes/c/a:/b,upperdir=/volumes/c/u,workdir=/volumes/c/w 0 0
`)
	c.Translate([]Directory{{"/volumes", "/x/vols"}, {"/storage", "/storage"}})
	want := Root{Lowers: []string{"/x/vols/c/root.squashfs"}, Upper: "/x/vols/c/lxc-overlay/upper", Work: "/x/vols/c/lxc-overlay/olwork"}
	if d := cmp.Diff(want, c.Root); d != "" {
		t.Errorf("root (-want +got)\n%s", d)
	}
	var got []string
	for _, m := range c.Mounts {
		got = append(got, m.Source, m.Data)
	}
	if d := cmp.Diff([]string{"/x/vols/c/data", "", "/volumesx/c", "", "/volumes/c/data", "", "overlay",
		"lowerdir=/x/vols/c/a:/b,upperdir=/x/vols/c/u,workdir=/x/vols/c/w"}, got); d != "" {
		t.Errorf("mounts (-want +got)\n%s", d)
	}
}
