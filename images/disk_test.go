package images

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/formats/bmap"
	"github.com/pantavisor/pantavisor/formats/grubenv"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/sbom"
)

// rootAt is the offset of the storage of board(), in the form of e2fsprogs.
const rootAt = "?offset=42991616"

// storage composes a revision 0 with a BSP of two addons and the default groups.
func storage(root string) *Trail {
	files := &made{"parts", map[string]string{
		"kernel.img": strings.Repeat("kernel", 100_000), "initrd": "initrd", "one": "one", "two": "two", "modules.squashfs": "modules",
	}}
	block, err := grubenv.Env{"pv_rev": "0", "pv_try": ""}.Bytes()
	if err != nil {
		panic(err)
	}
	from := func(name string) Artefact { return Artefact{files, name} }
	modules := from("modules.squashfs")
	return &Trail{
		Hub: at(root, "config/board/pantahub.config"), Stepskel: perhaps(root, "vendors/board/stepskel"), Boot: &made{"grub/root", map[string]string{"boot/grubenv": string(block)}},
		Parts: []build.Step{&Device{Defaults: at(root, "config/defaults")}, &BSP{
			Target: "board", Kernel: from("kernel.img"), Initrd: from("initrd"), Modules: &modules,
			Addons: []Addon{{from("one"), "addon-one.cpio.xz4"}, {from("two"), "addon-two.cpio.xz4"}},
		}},
	}
}

func boardTree(t testing.TB) string {
	t.Helper()
	files := maps.Clone(boardFiles())
	groups, err := os.ReadFile("../config/defaults/groups.json")
	if err != nil {
		t.Fatal(err)
	}
	files["config/defaults/groups.json"] = string(groups)
	return sourceTree(t, files)
}

func disk(root string, b *Inputs) *Disk {
	esp := &made{"grub/boot", map[string]string{"EFI/BOOT/BOOTX64.EFI": "MZ", "grub/grub.cfg": "menu"}}
	return &Disk{
		Target: b.Target, Layout: b.Layouts[0], Files: []RoleFiles{{"boot", Artefact{Step: esp}}}, Storage: storage(root),
		Config: perhaps(root, "config/board/image.config"),
	}
}

func TestStorageTreeIsComplete(t *testing.T) {
	dir := filepath.Join(newRunner(t).must(storage(boardTree(t))), StorageDir)
	var state map[string]json.RawMessage
	text, err := os.ReadFile(filepath.Join(dir, "trails/0/.pvr/json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &state); err != nil {
		t.Fatal(err)
	}
	same := func(names ...string) {
		t.Helper()
		first, err := os.Stat(filepath.Join(dir, names[0]))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names[1:] {
			if info, err := os.Stat(filepath.Join(dir, n)); err != nil || !os.SameFile(first, info) {
				t.Errorf("%s is not the same file as %s: %v", n, names[0], err)
			}
		}
	}
	object := func(key string) string { return "objects/" + strings.Trim(string(state[key]), `"`) }
	same(object("bsp/kernel.img"), "trails/0/bsp/kernel.img", "trails/0/.pv/pv-kernel.img")
	same(object("bsp/pantavisor"), "trails/0/bsp/pantavisor", "trails/0/.pv/pv-initrd.img")
	same(object("bsp/addon-one.cpio.xz4"), "trails/0/.pv/pv-initrd.img.0")
	same(object("bsp/addon-two.cpio.xz4"), "trails/0/.pv/pv-initrd.img.1")
	same(object("device/a.txt"), "trails/0/device/a.txt")
	for _, name := range []string{"logs", "cache/devmeta", "disks", "config/pantahub.config", "boot/grubenv", "trails/0/.pvr/config", "trails/0/bsp/run.json", "trails/0/device.json"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if got, err := os.ReadFile(filepath.Join(dir, "trails/0/.pvr/config")); string(got) != `{"ObjectsDir":"../../objects"}` {
		t.Errorf(".pvr/config is %s: %v", got, err)
	}
	if exists(filepath.Join(dir, "json")) {
		t.Error("the storage has a file json at its top")
	}
}

func TestDiskPassesSystemTools(t *testing.T) {
	out := newRunner(t).must(disk(boardTree(t), board()))
	img := filepath.Join(out, DiskFile)
	if got := host(t, "sgdisk", "-v", img); !strings.Contains(got, "No problems found") {
		t.Error(got)
	}
	host(t, "fsck.vfat", "-n", "-v", cutOut(t, img, 1, 40))
	if got := host(t, "mdir", "-b", "-i", img+"@@1M", "::/EFI/BOOT"); !strings.Contains(got, "BOOTX64.EFI") {
		t.Error(got)
	}
	host(t, "e2fsck", "-fn", img+rootAt)
	for name, links := range map[string]string{"/trails/0/.pv/pv-kernel.img": "3", "/trails/0/bsp/modules.squashfs": "2", "/trails/0/bsp/run.json": "1"} {
		got := host(t, "debugfs", "-R", "stat "+name, img+rootAt)
		if !regexp.MustCompile(`Links: `+links+`\s`).MatchString(got) || !regexp.MustCompile(`User:\s+0\s+Group:\s+0`).MatchString(got) {
			t.Errorf("%s: want %s links, owner root\n%s", name, links, got)
		}
		for _, kind := range []string{"ctime", "atime", "mtime", "crtime"} {
			if !strings.Contains(got, fmt.Sprintf("%s: 0x%08x:00000000", kind, build.Epoch)) {
				t.Errorf("%s: %s is not the epoch\n%s", name, kind, got)
			}
		}
	}
	if got := host(t, "dumpe2fs", "-h", img+rootAt); !strings.Contains(got, "pvroot") || !strings.Contains(got, "has_journal") {
		t.Error(got)
	}
}

// cutOut copies some MiB of an image to a file.
func cutOut(t *testing.T, img string, start, count int64) string {
	t.Helper()
	f, err := os.Open(img)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data := make([]byte, count*mib)
	if _, err := f.ReadAt(data, start*mib); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "part.img")
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestImageOnAUsedMedium lays images with each kind of partition table on
// media that are full of old bytes: all ones read as used clusters of a FAT.
func TestImageOnAUsedMedium(t *testing.T) {
	for _, table := range []string{"gpt", "mbr", "hybrid"} {
		for _, old := range []byte{0xFF, 0xA5} {
			t.Run(fmt.Sprintf("%s over %#x", table, old), func(t *testing.T) {
				b := board()
				b.Layouts[0].Table = table
				img := filepath.Join(newRunner(t).must(disk(boardTree(t), b)), DiskFile)
				medium := filepath.Join(t.TempDir(), "medium")
				if err := os.WriteFile(medium, bytes.Repeat([]byte{old}, b.Layouts[0].Size*mib), 0o644); err != nil {
					t.Fatal(err)
				}
				lay(t, img, medium)
				checkMedium(t, img, medium)
				if got := host(t, "sgdisk", "-v", medium); table == "gpt" && !strings.Contains(got, "No problems found") {
					t.Error(got)
				}
			})
		}
	}
}

// lay writes the mapped ranges of an image to a medium, as a flasher does. bmaptool itself
// would empty a medium that is a regular file first.
func lay(t *testing.T, img, medium string) {
	t.Helper()
	from, err := os.Open(img)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	text, err1 := os.Open(img + ".bmap")
	to, err2 := os.OpenFile(medium, os.O_RDWR, 0)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	defer text.Close()
	defer to.Close()
	m, err := bmap.Read(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range m.Ranges {
		at, n := r.First*m.BlockSize, (r.Last-r.First+1)*m.BlockSize
		if _, err := io.Copy(io.NewOffsetWriter(to, at), io.NewSectionReader(from, at, n)); err != nil {
			t.Fatal(err)
		}
	}
}

// checkMedium compares what a medium holds with the image that it comes from.
func checkMedium(t *testing.T, img, medium string) {
	t.Helper()
	host(t, "e2fsck", "-fn", medium+rootAt)
	if a, b := host(t, "dumpe2fs", img+rootAt), host(t, "dumpe2fs", medium+rootAt); a != b {
		t.Error("file systems differ")
	}
	host(t, "debugfs", "-R", "dump /trails/0/.pv/pv-kernel.img "+medium+".kernel", medium+rootAt)
	if got, err := os.ReadFile(medium + ".kernel"); err != nil || string(got) != strings.Repeat("kernel", 100_000) {
		t.Errorf("kernel on the medium differs: %v", err)
	}
	host(t, "fsck.vfat", "-n", cutOut(t, medium, 1, 40))
	a, b := cutOut(t, img, 1, 40), cutOut(t, medium, 1, 40)
	if a, b := host(t, "fsck.vfat", "-n", "-v", a), host(t, "fsck.vfat", "-n", "-v", b); !strings.Contains(b, "clusters") || tail(a) != tail(b) {
		t.Errorf("the boot partition has\n%s\nnot\n%s", b, a)
	}
}

// tail returns the last line of a text: after it only the file's name differs.
func tail(text string) string {
	text = strings.TrimSpace(text)
	_, counts, _ := strings.Cut(text[strings.LastIndexByte(text, '\n')+1:], ": ")
	return counts
}

func TestImageIsTheSameFromTwoPaths(t *testing.T) {
	var images [2]string
	for i := range images {
		images[i] = newRunner(t).must(disk(boardTree(t), board()))
	}
	host(t, "cmp", filepath.Join(images[0], DiskFile), filepath.Join(images[1], DiskFile))
	host(t, "cmp", filepath.Join(images[0], BmapFile), filepath.Join(images[1], BmapFile))
}

func TestStorageBelongsToRootWhoeverBuilds(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving files to another user needs root")
	}
	mine := newRunner(t).must(disk(boardTree(t), board()))
	r, d := newRunner(t), disk(boardTree(t), board())
	host(t, "chown", "-R", "70001:70002", r.must(d.Storage))
	other := r.must(d)
	got := host(t, "debugfs", "-R", "stat /trails/0/bsp/run.json", filepath.Join(other, DiskFile)+rootAt)
	if !regexp.MustCompile(`User:\s+0\s+Group:\s+0`).MatchString(got) {
		t.Errorf("want owner root\n%s", got)
	}
	host(t, "cmp", filepath.Join(mine, DiskFile), filepath.Join(other, DiskFile))
}

func TestTooSmallImageSaysWhatItNeeds(t *testing.T) {
	small, tiny := board(), board()
	small.Layouts[0].Size, tiny.Layouts[0].Size = 70, 41
	for _, c := range []struct {
		b    *Inputs
		want string
	}{
		{small, `content needs [78]\d MiB, image\.size in target\.yaml gives 70 MiB`},
		{tiny, `raise image\.size`},
	} {
		r, d := newRunner(t), disk(boardTree(t), c.b)
		d.Storage.(*Trail).Parts = append(d.Storage.(*Trail).Parts, bigPart(t, 20*mib))
		_, err := r.run(d)
		if fault.Of(err) != fault.NoSpace || !regexp.MustCompile(c.want).MatchString(err.Error()) {
			t.Errorf("want %s: %v", c.want, err)
		}
		if exists(filepath.Join(r.dir, d.Name(), "out", DiskFile)) {
			t.Errorf("a part of the image was written before: %v", err)
		}
	}
}

func TestTooSmallBootPartitionSaysWhatItNeeds(t *testing.T) {
	b := board()
	b.Layouts[0].Partitions[0].Size = 34 * mib
	d := disk(boardTree(t), b)
	d.Files[0].Tree.Step.(*made).files["big"] = strings.Repeat("x", 36*mib)
	if _, err := newRunner(t).run(d); fault.Of(err) != fault.NoSpace || !strings.Contains(err.Error(), "pvboot: its content needs 3") {
		t.Errorf("got %v", err)
	}
}

// bigPart returns a part with one object of the given size.
func bigPart(t *testing.T, size int) build.Step {
	t.Helper()
	return &skelPart{dir: sourceTree(t, map[string]string{"app/data.bin": strings.Repeat("0123456789abcdef", size/16)})}
}

// TestNeededSizeIsEnough checks that storages fit into the size that need returns.
func TestNeededSizeIsEnough(t *testing.T) {
	for _, size := range []int{1 << 10, 20 * mib, 90 * mib} {
		d := disk(boardTree(t), board())
		d.Storage.(*Trail).Parts = append(d.Storage.(*Trail).Parts, bigPart(t, size))
		r := newRunner(t)
		tally, err := count(t.Context(), filepath.Join(r.must(d.Storage), StorageDir))
		if err != nil {
			t.Fatal(err)
		}
		o, err := d.storageOptions()
		if err != nil {
			t.Fatal(err)
		}
		need, err := tally.need(o)
		if err != nil {
			t.Fatal(err)
		}
		d.Layout.Size = int(need) + 42
		host(t, "e2fsck", "-fn", filepath.Join(r.must(d), DiskFile)+rootAt)
	}
}

// TestFullDiskIsReported composes on a file system that is too small for the image.
func TestFullDiskIsReported(t *testing.T) {
	small := t.TempDir()
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("mounting a small tmpfs needs root: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(small, syscall.MNT_DETACH) })
	r, d := newRunner(t), disk(boardTree(t), board())
	r.must(d.Storage)
	r.must(d.Files[0].Tree.Step)
	r.dir = small
	if _, err := r.run(d); fault.Of(err) != fault.NoSpace {
		t.Errorf("kind %v: %v", fault.Of(err), err)
	}
}

func TestWrongImageConfigIsRefused(t *testing.T) {
	for _, text := range []string{"IMAGE_JOURNAL_SIZE=0\n", "IMAGE_INODE_RATIO=many\n", "IMAGE_SIZES=4096\n", "IMAGE_RESERVED_PERCENT=51\n"} {
		root := boardTree(t)
		if err := os.WriteFile(filepath.Join(root, "config/board/image.config"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := newRunner(t).run(disk(root, board())); fault.Of(err) != fault.BadInput {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestUnsupportedLayoutsAreRefused(t *testing.T) {
	table, format, role := board(), board(), board()
	table.Layouts[0].Table, format.Layouts[0].Partitions[0].Format, role.Layouts[0].Partitions[0].Role = "apm", "ntfs", "swap"
	for _, b := range []*Inputs{table, format, role} {
		if _, err := newRunner(t).run(disk(boardTree(t), b)); fault.Of(err) != fault.Unsupported {
			t.Errorf("got %v", err)
		}
	}
}

func TestIdentitiesFollowTargetAndContent(t *testing.T) {
	a, b, c := identify("a", []byte("{}")), identify("b", []byte("{}")), identify("a", []byte("{ }"))
	if a == b || a == c || a.uuid("disk") == a.uuid("storage") {
		t.Error("different images share an identifier")
	}
	if form := regexp.MustCompile(`^[0-9A-F]{8}-[0-9A-F]{4}-8[0-9A-F]{3}-[89AB][0-9A-F]{3}-[0-9A-F]{12}$`); !form.MatchString(a.uuid("disk")) {
		t.Errorf("got %s", a.uuid("disk"))
	}
}

// TestComposerNeedsLittleMemory composes a disk of 4 GiB.
func TestComposerNeedsLittleMemory(t *testing.T) {
	b := board()
	b.Layouts[0].Size = 4096
	d := disk(boardTree(t), b)
	d.Storage.(*Trail).Parts = append(d.Storage.(*Trail).Parts, bigPart(t, 64*mib))
	r := newRunner(t)
	r.must(d.Storage)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r.must(d)
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 32*mib {
		t.Errorf("composing takes %d MiB", used/mib)
	}
}

func TestImageConfigListsEveryMistake(t *testing.T) {
	t.Parallel()
	root := sourceTree(t, map[string]string{"image.config": "# note\nIMAGE_JOURNAL_SIZE=2\nIMAGE_INODE_RATO=4096\nIMAGE_RESERVED_PERCENT=x\nno\n"})
	_, err := (&Disk{Config: perhaps(root, "image.config")}).storageOptions()
	if fault.Of(err) != fault.BadInput {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{
		`image.config:2: IMAGE_JOURNAL_SIZE is "2"; want a number from 4 to 1024`,
		`image.config:3: setting "IMAGE_INODE_RATO": unknown; did you mean IMAGE_INODE_RATIO?`,
		`image.config:4: IMAGE_RESERVED_PERCENT is "x"; want a number from 0 to 50`,
		`image.config:5: "no" is not a line of the form NAME=VALUE`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in\n%v", want, err)
		}
	}
}

func TestBuildJSONHasTheDocumentedMembers(t *testing.T) {
	t.Parallel()
	got := (&BSP{Target: "board", Release: "1.2", Epoch: 1640309127, Pipeline: Pipeline{"group/p", "main", "0123abc", "42"}}).documents()["build.json"]
	want := map[string]string{
		"altrepogroups": "", "branch": "main", "commit": "0123abc", "gitdescribe": "1.2", "pipeline": "42", "platform": "board",
		"project": "group/p", "pvrversion": "pvr version 1.2", "target": "board", "time": "2021-12-24 01:25:27 +0000",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	b := &BSP{Target: "board", Support: sbom.Support{End: "2031-12-31", Manufacturer: "Maker"}}
	made := b.build()
	if _, there := made["security_contact"]; there || made["support_end"] != "2031-12-31" || made["manufacturer"] != "Maker" {
		t.Errorf("support: %v", made)
	}
}

func TestFactoryToken(t *testing.T) {
	t.Parallel()
	got := string(withSetting([]byte("PH_CREDS_HOST=h\nph_factory_autotok=old"), "PH_FACTORY_AUTOTOK", "new"))
	if want := "PH_CREDS_HOST=h\nPH_FACTORY_AUTOTOK=new\n"; got != want {
		t.Errorf("got %q", got)
	}
	if text, err := json.Marshal(&Trail{FactoryToken: "secret"}); err != nil || strings.Contains(string(text), "secret") || !strings.Contains(string(text), "sha256:") {
		t.Errorf("%s, %v", text, err)
	}
}
