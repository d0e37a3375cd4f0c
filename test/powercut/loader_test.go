package powercut

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/pantavisor/pantavisor/formats/grubenv"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

// grubDisk makes a disk with the values of a store, the loader's mark and files of revisions. It
// begins with a sector for which nobody looks.
func grubDisk(t *testing.T, store, mark grubenv.Env, files ...string) (*disk, *scripted, *ext4) {
	t.Helper()
	oracle.Need(t, "mke2fs")
	const storageAt = 1 << 20
	tree := t.TempDir()
	block, err := store.Bytes()
	must(t, err)
	must(t, os.MkdirAll(filepath.Join(tree, "boot"), 0o755))
	must(t, os.WriteFile(filepath.Join(tree, "boot/grubenv"), block, 0o644))
	for _, name := range files {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(tree, name)), 0o755))
		must(t, os.WriteFile(filepath.Join(tree, name), []byte(name), 0o644))
	}
	image := filepath.Join(t.TempDir(), "ext4.img")
	command(t, "mke2fs", "-q", "-t", "ext4", "-d", tree, image, "8M")
	content, err := os.ReadFile(image)
	must(t, err)
	d := newDisk(bytes.NewReader(nil), storageAt+int64(len(content)))
	env, err := mark.Bytes()
	must(t, err)
	for at, data := range map[int64][]byte{sector: env, storageAt: content} {
		_, err := d.WriteAt(data, at)
		must(t, err)
	}
	// The block in the storage is not one of the boot partition.
	l := &scripted{"grub", &grub{sector}}
	found, err := findBlock(newDisk(d, storageAt), 0)
	if err != nil || found != sector {
		t.Fatalf("the environment block is at %d, %v", found, err)
	}
	f, err := openExt4(part{d, storageAt})
	must(t, err)
	return d, l, f
}

func TestLoaderPicks(t *testing.T) {
	t.Parallel()
	zero := []string{"trails/0/.pv/pv-kernel.img", "trails/0/.pv/pv-initrd.img"}
	both := append([]string{"trails/n/.pv/pv-kernel.img", "trails/n/.pv/pv-initrd.img"}, zero...)
	try := grubenv.Env{"pv_rev": "0", "pv_try": "n", "pv_trial": "1"}
	for _, c := range []struct {
		name        string
		store, mark grubenv.Env
		files       []string
		want        string // "" is an error
	}{
		{"steady", grubenv.Env{"pv_rev": "0"}, nil, both, "0"},
		{"try", try, nil, both, "n"},
		{"tried", try, grubenv.Env{"pv_trying": "n@1"}, both, "0"},
		{"tried before", try, grubenv.Env{"pv_trying": "n@0"}, both, "n"},
		{"committed", grubenv.Env{"pv_rev": "n"}, nil, both, "n"},
		{"not complete", try, nil, append([]string{"trails/n/.pv/pv-kernel.img"}, zero...), "0"},
		{"committed one is gone", grubenv.Env{"pv_rev": "n"}, nil, zero, "0"},
		{"nothing is left", grubenv.Env{"pv_rev": "n"}, nil, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d, l, f := grubDisk(t, c.store, c.mark, c.files...)
			s, err := l.pick(&view{disk: d, files: f})
			if got := s.rev; got != c.want || (err == nil) != (c.want != "") {
				t.Errorf("revision %q, %v; want %q", got, err, c.want)
			}
		})
	}
}
