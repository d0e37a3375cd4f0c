package inspect_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/pantavisor/pantavisor/formats/cpio"
	"github.com/pantavisor/pantavisor/formats/ext4"
	"github.com/pantavisor/pantavisor/formats/fat"
	"github.com/pantavisor/pantavisor/formats/fitslot"
	"github.com/pantavisor/pantavisor/formats/region/regiontest"
	"github.com/pantavisor/pantavisor/formats/squashfs"
	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/formats/ubi"
	"github.com/pantavisor/pantavisor/formats/ubifs"
	"github.com/pantavisor/pantavisor/formats/verity"
	"github.com/pantavisor/pantavisor/formats/xzenc"
	"github.com/pantavisor/pantavisor/images/inspect"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/sbom"
	sbompart "github.com/pantavisor/pantavisor/sbom/part"
)

const mib = 1 << 20

// epoch is the time of all files.
var epoch = time.Unix(1577836800, 0)

func file(name, text string) tree.Entry {
	e := tree.Bytes(name, 0o644, []byte(text))
	e.ModTime = epoch
	return e
}

func dir(name string) tree.Entry {
	e := tree.Dir(name, 0o755)
	e.ModTime = epoch
	return e
}

// noise is content that does not compress.
func noise(seed uint64, n int) string {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

// device is what an image of the tests is made of.
type device struct {
	modules map[string]string // files of modules.squashfs
	initrd  map[string]string
	boot    string // grub.cfg
	more    map[string]string
}

func sample() device {
	return device{
		modules: map[string]string{"lib/a.ko": noise(1, 20_000), "lib/b.ko": noise(2, 300)},
		initrd:  map[string]string{"etc/pantavisor.config": "PV_DEBUG_SHELL=0\nPV_LOG=1\n", "init": noise(3, 9000)},
		boot:    "set timeout=1\n",
		more: map[string]string{
			"sdk/run.json":        `{"name":"sdk","group":"platform"}`,
			"sdk/var/dpkg/status": "",
			"sdk/data":            noise(4, 10_000),
		},
	}
}

func sorted(files map[string]string) (out []tree.Entry) {
	dirs := map[string]bool{}
	set := map[string]tree.Entry{}
	for name, text := range files {
		for at := range name {
			if name[at] == '/' && !dirs[name[:at]] {
				dirs[name[:at]] = true
				set[name[:at]] = dir(name[:at])
			}
		}
		set[name] = file(name, text)
	}
	for _, e := range set {
		out = append(out, e)
	}
	sortEntries(out)
	return out
}

func sortEntries(list []tree.Entry) {
	for i := range list {
		for j := i; j > 0 && tree.Compare(list[j], list[j-1]) < 0; j-- {
			list[j], list[j-1] = list[j-1], list[j]
		}
	}
}

func (d device) squashfs(t testing.TB) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "modules"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = squashfs.Write(t.Context(), f, squashfs.Options{BlockSize: 4096, Workers: 1}, func(add func(tree.Entry) error) error {
		for _, e := range sorted(d.modules) {
			if err := add(e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// archive is an initrd: an archive in an xz stream.
func (d device) archive(t testing.TB) string {
	t.Helper()
	var plain, packed bytes.Buffer
	if err := cpio.Write(&plain, sorted(d.initrd), cpio.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := cpio.WriteTrailer(&plain); err != nil {
		t.Fatal(err)
	}
	compress(t, &packed, plain.Bytes())
	return packed.String()
}

// compress writes one xz stream of several blocks.
func compress(t testing.TB, to io.Writer, data []byte) {
	t.Helper()
	w, err := xzenc.NewWriter(t.Context(), to, xzenc.Options{Check: xzenc.CRC32, Block: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// state is the document of the revision.
const stateForm = `{"#spec":"pantavisor-service-system@1","bsp/modules.squashfs":"%064d"}`

// image writes a disk with two partitions and returns its name.
func (d device) image(t testing.TB) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk.img")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size, bootAt, rootAt = 64 * mib, 1 * mib, 17 * mib
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	table := &gpt.Table{GUID: "5CA3360B-5DE6-4FCF-B4CE-419CEE433B51", ProtectiveMBR: true, LogicalSectorSize: 512, PhysicalSectorSize: 512}
	for i, p := range []struct {
		start, size uint64
		kind        gpt.Type
		name        string
	}{{bootAt, 16 * mib, gpt.EFISystemPartition, "pvboot"}, {rootAt, 40 * mib, gpt.LinuxFilesystem, "pvroot"}} {
		table.Partitions = append(table.Partitions, &gpt.Partition{
			Index: i + 1, Start: p.start / 512, End: (p.start+p.size)/512 - 1, Size: p.size, Type: p.kind, Name: p.name,
			GUID: fmt.Sprintf("5CA3360B-5DE6-4FCF-B4CE-419CEE433B6%d", i),
		})
	}
	if err := table.Write(f, size); err != nil {
		t.Fatal(err)
	}
	boot := []tree.Entry{file("grub/grub.cfg", d.boot), file("EFI/BOOT/BOOTX64.EFI", noise(9, 30_000))}
	if _, err := fat.Write(f, bootAt, boot, fat.Options{Bits: 16, Size: 16 * mib, Label: "pvboot", ID: 7, Time: epoch}); err != nil {
		t.Fatal(err)
	}
	modules, initrd := d.squashfs(t), d.archive(t)
	entries := []tree.Entry{
		dir("objects"), file("objects/"+strings.Repeat("ab", 32), modules),
		dir("trails"), dir("trails/0"), dir("trails/0/.pv"), dir("trails/0/.pvr"),
		file("trails/0/.pvr/json", fmt.Sprintf(stateForm, len(modules))),
		dir("trails/0/bsp"),
		{Name: "trails/0/bsp/modules.squashfs", HardLink: "objects/" + strings.Repeat("ab", 32)},
		file("trails/0/bsp/pantavisor", initrd),
		{Name: "trails/0/.pv/pv-initrd.img", HardLink: "trails/0/bsp/pantavisor"},
		file("trails/0/bsp/modules.squashfs.hash", hashTree(t, modules)),
	}
	for _, e := range sorted(d.more) {
		e.Name = "trails/0/" + e.Name
		entries = append(entries, e)
	}
	o := ext4.Options{Size: 40 * mib, Journal: 4 * mib, Label: "pvroot", UUID: [16]byte{1}, HashSeed: [16]byte{2}, Time: epoch}
	if err := ext4.Write(t.Context(), &offset{f, rootAt}, entries, o); err != nil {
		t.Fatal(err)
	}
	return name
}

type offset struct {
	io.WriterAt
	at int64
}

func (o *offset) WriteAt(p []byte, at int64) (int, error) { return o.WriterAt.WriteAt(p, at+o.at) }

// hashTree is the dm-verity data of a volume.
func hashTree(t testing.TB, volume string) string {
	t.Helper()
	p, err := verity.ParseParams(strings.Repeat("00", 32), "00000000-0000-4000-8000-000000000000")
	if err != nil {
		t.Fatal(err)
	}
	h := verity.NewTree(p)
	if _, err := io.WriteString(h, volume); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := h.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// compare returns how two files differ.
func compare(t testing.TB, a, b string) *inspect.Result {
	t.Helper()
	var r inspect.Reader
	defer r.Close()
	na, err := r.Open(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	nb, err := r.Open(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	differences, err := r.Compare(t.Context(), na, nb)
	if err != nil {
		t.Fatal(err)
	}
	return inspect.NewResult(filepath.Base(a), filepath.Base(b), differences)
}

// opened opens a file for a comparison.
func opened(t testing.TB, r *inspect.Reader, name string) *inspect.Node {
	t.Helper()
	n, err := r.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// copied returns the name of a copy of a file with one bit changed.
func copied(t testing.TB, name string, at int64, bit byte) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	data[at] ^= bit
	to := filepath.Join(t.TempDir(), filepath.Base(name))
	if err := os.WriteFile(to, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestEqualImagesAreEqual(t *testing.T) {
	t.Parallel()
	a, b := sample().image(t), sample().image(t)
	if r := compare(t, a, b); !r.Equal {
		t.Errorf("two images of the same content differ: %v", r.First())
	}
}

// TestFlippedBitsAreNamed changes one bit of each structure, and expects that the one difference
// is said to be there.
func TestFlippedBitsAreNamed(t *testing.T) {
	t.Parallel()
	image := sample().image(t)
	data, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	const bootAt, rootAt = 1 * mib, 17 * mib
	find := func(text string) int64 { return int64(bytes.Index(data, []byte(text))) }
	modules, initrd := sample().squashfs(t), sample().archive(t)
	hash := hashTree(t, modules)
	squash, xz, tree := find(modules[:4096]), find(initrd[:64]), find(hash[:512])
	fsys, err := ext4.Open(bytes.NewReader(data[rootAt:]))
	if err != nil {
		t.Fatal(err)
	}
	inodes := map[string]uint32{}
	if err := fsys.Walk(t.Context(), func(f *ext4.File) error { inodes[f.Name] = f.Inode; return nil }); err != nil {
		t.Fatal(err)
	}
	var regions regiontest.Map
	if err := fsys.Regions(t.Context(), regions.Add); err != nil {
		t.Fatal(err)
	}
	// place returns where something of the file system is.
	place := func(name string) int64 {
		for at := int64(0); at < 40*mib; at += 64 {
			if r, ok := regions.Find(at); ok && r.Name == name {
				return rootAt + r.From
			}
		}
		t.Fatalf("the file system has no %s", name)
		return 0
	}
	for name, c := range map[string]struct {
		at   int64
		want []string // in the first difference, in this order
	}{
		"code of the MBR":           {3, []string{"code of the master boot record"}},
		"protective MBR":            {446 + 8, []string{"entry 1 of the master boot record"}},
		"signature of the MBR":      {510, []string{"signature"}},
		"GPT header":                {512 + 56, []string{"header of the GPT"}},
		"GPT entry":                 {1024 + 130, []string{"entry 2 of the GPT"}},
		"name of a partition":       {1024 + 128 + 56, []string{"wrong checksum of its entries", "entry 2 of the GPT"}},
		"unused entry of the GPT":   {1024 + 40*128 + 40, []string{"entry 41 of the GPT"}},
		"second GPT header":         {64*mib - 512 + 16, []string{"header of the second GPT"}},
		"gap":                       {bootAt - 100, []string{"before partition 1", fmt.Sprint("byte ", bootAt-100)}},
		"gap at the end":            {63 * mib, []string{"after the last partition", fmt.Sprint("byte ", 63*mib-57*mib)}},
		"boot sector":               {bootAt + 3, []string{"partition 1", "fat16: boot sector"}},
		"second allocation table":   {find("\xf8\xff\xff\xff") + 16*512, []string{"partition 1"}},
		"FAT file":                  {find("set timeout=1"), []string{"partition 1: grub/grub.cfg"}},
		"FAT directory":             {find("GRUB       \x10") + 24, []string{"partition 1: grub: ", "time"}},
		"unused cluster":            {bootAt + 15*mib, []string{"partition 1", "a cluster that no file uses"}},
		"ext4 superblock":           {rootAt + 1024 + 48, []string{"partition 2", "ext4: superblock"}},
		"ext4 magic":                {rootAt + 1024 + 56, []string{"partition 2", "ext4: superblock"}},
		"ext4 descriptor":           {rootAt + 4096 + 12, []string{"partition 2", "descriptor of group 0"}},
		"ext4 block bitmap":         {place("block bitmap of group 0") + 100, []string{"partition 2", "block bitmap of group 0"}},
		"ext4 inode bitmap":         {place("inode bitmap of group 0") + 100, []string{"partition 2", "inode bitmap of group 0"}},
		"ext4 mode of an inode":     {place(fmt.Sprintf("inode %d trails/0/sdk/data", inodes["trails/0/sdk/data"])), []string{"trails/0/sdk/data", "mode"}},
		"ext4 checksum of an inode": {place(fmt.Sprintf("inode %d trails/0/sdk/data", inodes["trails/0/sdk/data"])) + 124, []string{"partition 2", fmt.Sprintf("inode %d trails/0/sdk/data", inodes["trails/0/sdk/data"])}},
		"ext4 unused inode":         {place("an unused inode of group 0") + 4, []string{"an unused inode"}},
		"ext4 journal":              {place("journal") + 5000, []string{"partition 2", "journal"}},
		"ext4 directory":            {place(fmt.Sprintf("directory, inode %d trails/0/bsp", inodes["trails/0/bsp"])) + 4090, []string{"partition 2", "directory, inode", "trails/0/bsp"}},
		"ext4 file":                 {find(noise(4, 64)) + 5000, []string{"trails/0/sdk/data", "byte 5000"}},
		"ext4 unused block":         {rootAt + 39*mib, []string{"partition 2", "a block that no file uses"}},
		"squashfs superblock":       {squash + 8, []string{"trails/0/bsp/modules.squashfs", "squashfs"}},
		"squashfs magic":            {squash, []string{"trails/0/bsp/modules.squashfs", "squashfs: superblock"}},
		"squashfs block":            {find(noise(1, 20_000)[8192:8256]) + 10, []string{"modules.squashfs: lib/a.ko"}},
		"squashfs padding":          {squash + int64(len(modules)) - 1, []string{"modules.squashfs", "padding"}},
		"xz stream header":          {xz + 7, []string{"trails/0/bsp/pantavisor", "xz stream"}},
		"xz block":                  {xz + 3000, []string{"trails/0/bsp/pantavisor", "xz block 0"}},
		"xz index":                  {xz + int64(len(initrd)) - 20, []string{"trails/0/bsp/pantavisor", "xz"}},
		"header of the verity tree": {tree + 20, []string{"modules.squashfs.hash", "UUID"}},
		"block of the verity tree":  {tree + 4096 + 40, []string{"modules.squashfs.hash", "block 0 of the hash tree"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.at < 0 {
				t.Fatal("the place was not found")
			}
			first := compare(t, image, copied(t, image, c.at, 0x04)).First()
			if first == nil {
				t.Fatalf("the bit at %d has no effect", c.at)
			}
			rest := first.String()
			for _, want := range c.want {
				_, after, ok := strings.Cut(rest, want)
				if !ok {
					t.Fatalf("%q is not in %s", want, first)
				}
				rest = after
			}
		})
	}
}

// TestBootStagesBesideFiles: a boot stage outside of the partitions differs, and a file in one too.
func TestBootStagesBesideFiles(t *testing.T) {
	t.Parallel()
	changed := sample()
	changed.boot = "set timeout=2\n"
	a, b := sample().image(t), copied(t, copied(t, changed.image(t), 32<<10, 1), 3, 1)
	var got []string
	for _, d := range compare(t, a, b).Differences {
		got = append(got, fmt.Sprintf("%s at %d", d.Name(), *d.Offset))
	}
	want := []string{"before partition 1 at 32768", "code of the master boot record at 3", "partition 1: grub/grub.cfg at 12"}
	if !slices.Equal(got, want) {
		t.Errorf("%q instead of %q", got, want)
	}
}

// TestFlippedBitOfAMember looks for a bit through everything that is around it.
func TestFlippedBitOfAMember(t *testing.T) {
	t.Parallel()
	changed := sample()
	init := []byte(changed.initrd["init"])
	init[100] ^= 1
	changed.initrd["init"] = string(init)
	first := compare(t, sample().image(t), changed.image(t)).First()
	if first == nil || first.Name() != "partition 2: trails/0/bsp/pantavisor: init" || first.Offset == nil || *first.Offset != 100 || first.Part != "bsp" {
		t.Errorf("%+v", first)
	}
}

// TestFilesOfOtherFileSystems: an inode says nothing about one of another file system.
func TestFilesOfOtherFileSystems(t *testing.T) {
	t.Parallel()
	other, changed := sample(), sample()
	changed.modules = map[string]string{"lib/a.ko": other.modules["lib/a.ko"], "lib/b.ko": noise(8, 300)}
	a, b := sample(), sample()
	a.more["sdk/root.squashfs"], b.more["sdk/root.squashfs"] = other.squashfs(t), changed.squashfs(t)
	b.modules = map[string]string{"lib/a.ko": noise(1, 20_000), "lib/b.ko": noise(2, 300), "lib/c.ko": "c"}
	r := compare(t, a.image(t), b.image(t))
	for _, want := range []string{"partition 2: trails/0/bsp/modules.squashfs: lib/c.ko", "partition 2: trails/0/sdk/root.squashfs: lib/b.ko"} {
		if !slices.ContainsFunc(r.Differences, func(d inspect.Difference) bool { return d.Name() == want }) {
			t.Errorf("%s is not among the differences", want)
		}
	}
}

func TestCompressedImages(t *testing.T) {
	t.Parallel()
	changed := sample()
	changed.boot = "set timeout=2\n"
	image := changed.image(t)
	data, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	compress(t, &packed, data)
	name := filepath.Join(t.TempDir(), "disk.img.xz")
	if err := os.WriteFile(name, packed.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := compare(t, image, name); !r.Equal {
		t.Errorf("an image and its compressed form differ: %v", r.First())
	}
	r := compare(t, sample().image(t), name)
	if first := r.First(); first == nil || !strings.Contains(first.Name(), "partition 1: grub/grub.cfg") || len(first.Details) != 1 || first.Details[0].Change != (inspect.Change{Name: "timeout", Old: "1", New: "2"}) {
		t.Errorf("%+v", first)
	}
	cut := filepath.Join(t.TempDir(), "cut.img.xz")
	if err := os.WriteFile(cut, packed.Bytes()[:packed.Len()-100], 0o644); err != nil {
		t.Fatal(err)
	}
	if first := compare(t, name, cut).First(); first == nil || !strings.Contains(first.Problem, "the second cannot be read") {
		t.Errorf("a stream that is cut short: %v", first)
	}
}

func TestDetails(t *testing.T) {
	t.Parallel()
	status := func(version string) string {
		return "Package: zlib1g\nStatus: install ok installed\nArchitecture: amd64\nVersion: " + version + "\n\n" +
			"Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n"
	}
	kernel := func(config string) string {
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		if _, err := io.WriteString(z, config); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return noise(5, 100) + "IKCFG_ST" + packed.String() + "IKCFG_ED" + noise(6, 100)
	}
	bill := func(version, licence string) string {
		d := &sbom.Document{Name: "sdk", Created: time.Unix(0, 0)}
		d.AddPackage(sbom.Package{Name: "busybox", Version: version, Declared: licence})
		d.AddPackage(sbom.Package{Name: "cc", Version: version, Host: true})
		d.Seal()
		text, err := sbompart.Encode(d)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	a, b := sample(), sample()
	a.more["app/sbom.spdx.zst"], b.more["app/sbom.spdx.zst"] = bill("1.35", "GPL-2.0-only"), bill("1.36", "GPL-2.0-or-later")
	a.more["sdk/var/lib/dpkg/status"], b.more["sdk/var/lib/dpkg/status"] = status("1.2"), status("1.3")
	a.more["bsp2/kernel.img"], b.more["bsp2/kernel.img"] = kernel("CONFIG_A=y\n# CONFIG_B is not set\n"), kernel("CONFIG_A=m\nCONFIG_B=y\n")
	b.more["sdk/run.json"] = `{"name":"sdk","group":"root","roles":["mgmt"]}`
	b.initrd["etc/pantavisor.config"] = "PV_DEBUG_SHELL=1\nPV_LOG=1\n"
	var got []string
	for _, d := range compare(t, a.image(t), b.image(t)).Differences {
		for _, x := range d.Details {
			got = append(got, fmt.Sprintf("%s %s: %s %s → %s", d.Part, x.Subject, x.Name, x.Old, x.New))
		}
	}
	want := []string{
		"app package: busybox 1.35 (GPL-2.0-only) → 1.36 (GPL-2.0-or-later)",
		"bsp configuration key: PV_DEBUG_SHELL 0 → 1",
		"bsp2 kernel option: CONFIG_A y → m", "bsp2 kernel option: CONFIG_B n → y",
		`sdk configuration key: group "platform" → "root"`, `sdk configuration key: roles[0]  → "mgmt"`,
		"sdk package: zlib1g:amd64 1.2 → 1.3",
	}
	for _, line := range want {
		if !strings.Contains(strings.Join(got, "\n"), line) {
			t.Errorf("%q is not in:\n%s", line, strings.Join(got, "\n"))
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d details instead of %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
	}
}

// export writes an export with a file.
func export(t testing.TB, modules string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "device.pvr.tgz")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	z := gzip.NewWriter(f)
	w := tar.NewWriter(z)
	for _, m := range []struct{ name, text string }{
		{"json", fmt.Sprintf(stateForm, len(modules))}, {fmt.Sprintf("objects/%064d", len(modules)), modules},
	} {
		if err := w.WriteHeader(&tar.Header{Name: m.name, Size: int64(len(m.text)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.text); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []io.Closer{w, z, f} {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return name
}

func TestExportsAndImagesHaveTheRevisionInCommon(t *testing.T) {
	t.Parallel()
	d := sample()
	image := d.image(t)
	if r := compare(t, export(t, d.squashfs(t)), image); !r.Equal {
		t.Errorf("the export of the image's revision: %v", r.First())
	}
	d.modules["lib/b.ko"] = noise(7, 400)
	r := compare(t, export(t, d.squashfs(t)), image)
	if first := r.First(); first == nil || first.Name() != "bsp/modules.squashfs: lib/b.ko" {
		t.Errorf("%v", first)
	}
	var r2 inspect.Reader
	defer r2.Close()
	a, err := r2.State("device", fmt.Appendf(nil, stateForm, 5))
	if err != nil {
		t.Fatal(err)
	}
	b, err := r2.Open(t.Context(), export(t, d.squashfs(t)))
	if err != nil {
		t.Fatal(err)
	}
	differences, err := r2.Compare(t.Context(), a, b)
	if err != nil || len(differences) != 1 || differences[0].Path[0] != "bsp/modules.squashfs" {
		t.Errorf("a revision without its objects: %v, %v", differences, err)
	}
}

func TestTextAndMarkdown(t *testing.T) {
	t.Parallel()
	d := sample()
	delete(d.modules, "lib/a.ko")
	d.more["new/run.json"] = `{"name":"new|<b>"}`
	r := compare(t, sample().image(t), d.image(t))
	var text, markdown strings.Builder
	if err := r.Text(&text); err != nil {
		t.Fatal(err)
	}
	if err := r.Markdown(&markdown); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1 removed", "parts\n", "  bsp ", "  new ", "removed  partition 2: trails/0/bsp/modules.squashfs: lib/a.ko", "added    partition 2: trails/0/new", "follows from the above"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not in:\n%s", want, text.String())
		}
	}
	if !strings.Contains(markdown.String(), "<details><summary>files") || strings.Contains(markdown.String(), "new|") {
		t.Errorf("%s", markdown.String())
	}
}

func TestUBI(t *testing.T) {
	t.Parallel()
	o := ubi.Options{Block: 16 << 10, Page: 512, Volume: "pv", Reserved: 8}
	write := func(seed uint64) string {
		name := filepath.Join(t.TempDir(), "flash.ubi")
		var out bytes.Buffer
		if err := ubi.Write(&out, strings.NewReader(noise(seed, 3*o.Payload())), o); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return name
	}
	a := write(1)
	if first := compare(t, a, write(2)).First(); first == nil || first.Name() != "volume pv" {
		t.Errorf("%v", first)
	}
	if first := compare(t, a, copied(t, a, 2*16<<10+20, 1)).First(); first == nil || !strings.Contains(first.Place, "headers of block 0 of volume 0") {
		t.Errorf("%v", first)
	}
}

func TestUBIFS(t *testing.T) {
	t.Parallel()
	o := ubi.Options{Block: 128 << 10, Page: 2048, Volume: "pv", Reserved: 64}
	write := func(text string) string {
		name := filepath.Join(t.TempDir(), "flash.ubi")
		volume, err := os.Create(name + ".volume")
		if err != nil {
			t.Fatal(err)
		}
		defer volume.Close()
		entries := []tree.Entry{
			dir("objects"), file("objects/"+strings.Repeat("ab", 32), text), dir("trails"), dir("trails/0"), dir("trails/0/bsp"),
			{Name: "trails/0/bsp/kernel.img", HardLink: "objects/" + strings.Repeat("ab", 32)},
		}
		if _, err := ubifs.Write(volume, entries, ubifs.Options{Block: o.Payload(), Page: o.Page, MaxBlocks: 64, Time: epoch}); err != nil {
			t.Fatal(err)
		}
		if _, err := volume.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		image, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := ubi.Write(image, volume, o); err != nil {
			t.Fatal(err)
		}
		if err := image.Close(); err != nil {
			t.Fatal(err)
		}
		return name
	}
	a, b := write(noise(1, 9000)), write(noise(1, 8999)+"x")
	if first := compare(t, a, b).First(); first == nil || first.Name() != "volume pv: trails/0/bsp/kernel.img" || *first.Offset != 8999 || first.Part != "bsp" {
		t.Errorf("%+v", first)
	}
	data, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	if first := compare(t, a, copied(t, a, int64(bytes.Index(data, []byte(noise(1, 64))))+70, 1)).First(); first == nil || !strings.Contains(first.String(), "ubifs: block 0 of inode") {
		t.Errorf("%v", first)
	}
}

func TestNothingInCommon(t *testing.T) {
	t.Parallel()
	var r inspect.Reader
	defer r.Close()
	plan := filepath.Join(t.TempDir(), "plan.json")
	if err := os.WriteFile(plan, []byte(`{"target":"x","steps":[{"name":"a","inputs":[{"name":"field/B","digest":"1","value":"2"}]}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	a, err := r.Open(t.Context(), plan)
	if err != nil || !a.IsPlan() {
		t.Fatalf("%+v, %v", a, err)
	}
	other := filepath.Join(t.TempDir(), "other.json")
	if err := os.WriteFile(other, []byte(`{"target":"x","steps":[{"name":"a","inputs":[{"name":"field/B","digest":"1","value":"3"}]},{"name":"b"}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	r2 := compare(t, plan, other)
	var text strings.Builder
	if err := r2.Text(&text); err != nil {
		t.Fatal(err)
	}
	if first := r2.First(); len(r2.Differences) != 2 || first == nil || first.String() != "changed a: field/B 2 → 3" || strings.Contains(text.String(), "parts") {
		t.Errorf("two plans: %v\n%s", r2.Differences, text.String())
	}
	b, err := r.Open(t.Context(), sample().image(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Compare(context.Background(), a, b); err == nil || !strings.Contains(err.Error(), "nothing in common") {
		t.Errorf("a plan and an image: %v", err)
	}
	if _, err := r.Open(t.Context(), filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that is not there was opened")
	}
}

// TestNamesCannotObeyOrLink: what an image has in its names goes to terminals and into comments.
func TestNamesCannotObeyOrLink(t *testing.T) {
	t.Parallel()
	name := "a\x1b]0;title\x07\nb|c\\|`d` ![x](https://example.org/x.png) @all"
	r := inspect.NewResult("a\x1b[2J", "b`", []inspect.Difference{
		{Kind: inspect.Added, Path: []string{"partition 1", name}},
		{Kind: inspect.Changed, Path: []string{name}, Problem: name, Place: name, Offset: new(int64), Attributes: []inspect.Change{{Name: name, Old: name}},
			Details: []inspect.Detail{{Subject: inspect.Line, Change: inspect.Change{Name: name, Old: name}}, {Subject: inspect.Key, Change: inspect.Change{Name: name, Old: name}}}},
	})
	var text, markdown strings.Builder
	if err := errors.Join(r.Text(&text), r.Markdown(&markdown)); err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{text.String(), markdown.String(), r.Differences[1].String()} {
		if strings.ContainsFunc(out, func(r rune) bool { return r < ' ' && r != '\n' }) || strings.Contains(out, "\nb|c") {
			t.Errorf("%q", out)
		}
	}
	if !strings.Contains(text.String(), `a\x1b]0;title\a\nb|c`) {
		t.Errorf("%s", text.String())
	}
	for line := range strings.Lines(markdown.String()) {
		outside, inCode := "", false
		for piece := range strings.SplitSeq(line, "`") {
			if !inCode {
				outside += piece
			}
			inCode = !inCode
		}
		if strings.Contains(outside, "![x]") || strings.Contains(outside, "@all") || !inCode {
			t.Errorf("%q", line)
		}
	}
}

// TestHostileImagesEnd: what is small must not make us do much.
func TestHostileImagesEnd(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 5000)
	slots := func(c byte) string {
		head := make([]byte, fitslot.Size)
		copy(head, "fit_rev=1\x00")
		return strings.Repeat(string(head), 3000) + string(c)
	}
	uImages := func(c byte) string {
		return strings.Repeat("\x27\x05\x19\x56"+strings.Repeat("\x00", 60), 100_000) + string(c)
	}
	const nested, repeated = 2 * 32, 1 << 18
	for name, c := range map[string]struct {
		a, b    string
		insides int // contents that are looked into
		keys    int // details that are made
	}{
		"nested lists":   {deep + strings.Repeat("0,", 1<<20) + "0" + strings.Repeat("]", 5000), deep + strings.Repeat("1,", 1<<20) + "0" + strings.Repeat("]", 5000), 0, 0},
		"one key":        {strings.Repeat("a=1\n", repeated), strings.Repeat("a=2\n", repeated), 0, repeated},
		"nested slots":   {slots('a'), slots('b'), nested, 0},
		"nested uImages": {uImages('a'), uImages('b'), nested, 0},
	} {
		var r inspect.Reader
		defer r.Close()
		all, err := r.Compare(t.Context(), opened(t, &r, written(t, "x.json", []byte(c.a))), opened(t, &r, written(t, "x.json", []byte(c.b))))
		if err != nil || len(all) == 0 {
			t.Errorf("%s: %v, %v", name, all, err)
		}
		keys := 0
		for _, d := range all {
			for _, detail := range d.Details {
				if detail.Subject == inspect.Key {
					keys++
				}
			}
		}
		if r.Insides() != c.insides || keys != c.keys {
			t.Errorf("%s: %d contents looked into, %d keys", name, r.Insides(), keys)
		}
	}
	tree := filepath.Join(t.TempDir(), "tree")
	other := filepath.Join(t.TempDir(), "tree")
	for name, c := range map[string]string{tree: "a", other: "b"} {
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteString("verity\x00\x00")
		if _, err2 := f.WriteAt([]byte(c), 1<<40); errors.Join(err, err2, f.Close()) != nil {
			t.Skipf("no file of 1 TiB: %v", errors.Join(err, err2))
		}
	}
	if first := compare(t, tree, other).First(); first == nil || first.Place != "verity: hash tree" {
		t.Errorf("%+v", first)
	}
}

// TestResultsInDirectories: results that a build leaves in a directory are compared too.
func TestResultsInDirectories(t *testing.T) {
	t.Parallel()
	results := func(text string) string {
		dir := t.TempDir()
		err := errors.Join(os.WriteFile(filepath.Join(dir, "report.json"), []byte(`{"target":"x","artefacts":[{"path":"sbom","bytes":1}]}`), 0o644),
			os.MkdirAll(filepath.Join(dir, "sbom", "more"), 0o755), os.WriteFile(filepath.Join(dir, "sbom", "more", "a.txt"), []byte(text), 0o644))
		if err != nil {
			t.Fatal(err)
		}
		return dir
	}
	if d := compare(t, results("one"), results("one")); !d.Equal {
		t.Errorf("%+v", d)
	}
	if first := compare(t, results("one"), results("two")).First(); first == nil || !slices.Contains(first.Path, "sbom/more/a.txt") {
		t.Errorf("%+v", first)
	}
}

// TestPipe: what has no end is not opened.
func TestPipe(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	var r inspect.Reader
	defer r.Close()
	for _, name := range []string{pipe, os.DevNull} {
		if n, err := r.Open(t.Context(), name); fault.Of(err) != fault.BadInput {
			t.Errorf("%s: %+v, %v", name, n, err)
		}
	}
}

// TestReportOfAnother: a report comes with files of somebody else, and must not name those of this
// machine, whose lines a comparison shows.
func TestReportOfAnother(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	report := `{"target":"x","artefacts":[{"path":"../../etc/passwd","bytes":1,"sha256":""}]}`
	if err := os.WriteFile(filepath.Join(dir, "report.json"), []byte(report), 0o644); err != nil {
		t.Fatal(err)
	}
	var r inspect.Reader
	defer r.Close()
	if n, err := r.Open(t.Context(), dir); fault.Of(err) != fault.BadInput {
		t.Errorf("%+v, %v", n, err)
	}
}

// TestPartitionThatIsTheDisk: a disk that contains itself.
func TestPartitionThatIsTheDisk(t *testing.T) {
	t.Parallel()
	disk := func(last byte) string {
		img := make([]byte, 2*mib)
		le := binary.LittleEndian
		copy(img[512:], "EFI PART")
		le.PutUint64(img[512+72:], 2)
		le.PutUint32(img[512+80:], 2)
		le.PutUint32(img[512+84:], 128)
		for n := range 2 {
			entry := img[1024+128*n:]
			entry[0] = 1
			le.PutUint64(entry[40:], uint64(len(img)/512-1))
		}
		img[len(img)-1] = last
		name := filepath.Join(t.TempDir(), "disk.img")
		if err := os.WriteFile(name, img, 0o644); err != nil {
			t.Fatal(err)
		}
		return name
	}
	var r inspect.Reader
	defer r.Close()
	export := filepath.Join(t.TempDir(), "export.tar")
	if err := os.WriteFile(export, []byte(sample().archive(t)), 0o644); err != nil {
		t.Fatal(err)
	}
	nodes := []*inspect.Node{}
	for _, name := range []string{disk(1), disk(2), export} {
		n, err := r.Open(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, n)
	}
	r.Bound(100, 0)
	all, err := r.Compare(t.Context(), nodes[0], nodes[1])
	bound := func(d inspect.Difference) bool {
		return strings.Contains(d.Problem, "100 archives and file systems were")
	}
	if err != nil || !slices.ContainsFunc(all, bound) || r.Insides() != 100 {
		t.Errorf("%d contents looked into, %v", r.Insides(), err)
	}
	r.Bound(0, 0)
	if _, err := r.Compare(t.Context(), nodes[0], nodes[2]); err == nil {
		t.Error("a disk without a revision was compared with an export")
	}
}

// packedWith returns a gzip stream.
func packedWith(t testing.TB, text string) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := io.WriteString(z, text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// tarOf returns an archive with n members that have one content.
func tarOf(t testing.TB, n int, content []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for i := range n {
		if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("member%04d", i), Size: int64(len(content)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestUnpackedFilesAreClosed: of many things that are unpacked to be looked into, none stays open.
func TestUnpackedFilesAreClosed(t *testing.T) {
	t.Parallel()
	const members = 60
	var r inspect.Reader
	defer r.Close()
	a := opened(t, &r, written(t, "x.tar", tarOf(t, members, packedWith(t, "a=1\n"))))
	b := opened(t, &r, written(t, "x.tar", tarOf(t, members, packedWith(t, "a=2\n"))))
	all, err := r.Compare(t.Context(), a, b)
	if err != nil || len(all) != members || len(all[0].Details) != 1 {
		t.Errorf("%d differences, %v", len(all), err)
	}
	if r.Opened() != 2 {
		t.Errorf("%d files are open after the comparison of 2", r.Opened())
	}
}

// TestNamesAreBounded: archives and FAT have a bound for their names, as file systems have.
func TestNamesAreBounded(t *testing.T) {
	t.Parallel()
	archive := func(last byte) []byte {
		var out bytes.Buffer
		var list []tree.Entry
		for i := range 50 {
			list = append(list, file(fmt.Sprintf("file%02d", i), string(last)))
		}
		if err := errors.Join(cpio.Write(&out, list, cpio.Options{}), cpio.WriteTrailer(&out)); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	volume := func(last byte) []byte {
		f, err := os.Create(filepath.Join(t.TempDir(), "fat"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var list []tree.Entry
		for i := range 50 {
			list = append(list, file(fmt.Sprintf("file%02d", i), string(last)))
		}
		if _, err := fat.Write(f, 0, list, fat.Options{Bits: 16, Size: 16 * mib, Label: "pvboot", ID: 7, Time: epoch}); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	for name, c := range map[string][2][]byte{
		"cpio": {archive('a'), archive('b')},
		"tar":  {tarOf(t, 50, []byte("a")), tarOf(t, 50, []byte("b"))},
		"FAT":  {volume('a'), volume('b')},
	} {
		for bound, want := range map[int64]bool{4 << 10: true, 1 << 20: false} {
			var r inspect.Reader
			defer r.Close()
			r.Bound(0, bound)
			all, err := r.Compare(t.Context(), opened(t, &r, written(t, "a", c[0])), opened(t, &r, written(t, "b", c[1])))
			got := slices.ContainsFunc(all, func(d inspect.Difference) bool {
				return strings.Contains(d.Problem, "its names need too much") && d.Place == ""
			})
			if err != nil || got != want {
				t.Errorf("%s with %d bytes for its names: %v, %v", name, bound, all, err)
			}
		}
	}
}

// opens is a content that counts how often it is opened.
type opens struct {
	text  string
	count int
}

func (o *opens) node(name string) *inspect.Node {
	return &inspect.Node{Name: name, Content: &inspect.Content{Size: int64(len(o.text)), Open: func() (io.ReadCloser, error) {
		o.count++
		return io.NopCloser(strings.NewReader(o.text)), nil
	}}}
}

// TestDetailsReadFilesOnce: a file that has not the form of its name is a text of lines in the
// end, and is not read for each form.
func TestDetailsReadFilesOnce(t *testing.T) {
	t.Parallel()
	opened := func(name, first, second string) int {
		var r inspect.Reader
		defer r.Close()
		a, b := opens{text: first}, opens{text: second}
		in := func(o *opens) *inspect.Node {
			return inspect.Holding(o.node(name))
		}
		all, err := r.Compare(t.Context(), in(&a), in(&b))
		if err != nil || len(all) != 1 || len(all[0].Details) == 0 {
			t.Fatalf("%s: %+v, %v", name, all, err)
		}
		return a.count + b.count
	}
	first := opened("var/lib/dpkg/status", "Package: a\nVersion: 1\n", "Package: a\nVersion: 2\n")
	for _, name := range []string{"a.json", "kernel", "text"} {
		if got := opened(name, "no form\nat all\n", "no form\nat last\n"); got != first {
			t.Errorf("%s: files are opened %d times, and those of the first form %d times", name, got, first)
		}
	}
}

// TestDigestEndsWithItsContext: what is compared by its digest may be long.
func TestDigestEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	var read int64
	long := &inspect.Node{Name: "a", Content: &inspect.Content{Size: 1 << 30, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(io.LimitReader(reader(func(p []byte) (int, error) {
			if read += int64(len(p)); read > mib {
				cancel()
			}
			return len(p), nil
		}), 1<<30)), nil
	}}}
	var r inspect.Reader
	defer r.Close()
	_, err := r.Compare(ctx, long, inspect.Digested("a", "00", 1<<30))
	if !errors.Is(err, context.Canceled) || read > 2*mib {
		t.Errorf("%d bytes were read: %v", read, err)
	}
}

// reader is a function that reads.
type reader func([]byte) (int, error)

func (r reader) Read(p []byte) (int, error) { return r(p) }

// TestErrorsOfThisMachine: what this machine cannot do is an error, and not a difference.
func TestErrorsOfThisMachine(t *testing.T) {
	a, b := written(t, "a.gz", packedWith(t, "a=1\n")), written(t, "b.gz", packedWith(t, "a=2\n"))
	image := sample().image(t)
	exported := export(t, "modules")
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "none"))
	for _, c := range [][2]string{{a, b}, {exported, image}} {
		var r inspect.Reader
		defer r.Close()
		if all, err := r.Compare(t.Context(), opened(t, &r, c[0]), opened(t, &r, c[1])); fault.Of(err) != fault.IO || strings.Contains(err.Error(), "in common") {
			t.Errorf("without a directory for temporary files: %v, %v", all, err)
		}
	}
	checkout := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(checkout, ".pvr"), 0o755), os.WriteFile(filepath.Join(checkout, ".pvr", "json"), fmt.Appendf(nil, stateForm, 5), 0o644)); err != nil {
		t.Fatal(err)
	}
	var r inspect.Reader
	defer r.Close()
	if _, err := r.Open(t.Context(), checkout); err != nil {
		t.Errorf("a checkout without its objects: %v", err)
	}
	if err := os.WriteFile(filepath.Join(checkout, ".pvr", "objects"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Open(t.Context(), checkout); fault.Of(err) != fault.IO {
		t.Errorf("a checkout whose objects cannot be read: %v", err)
	}
}

// TestNoRevisionSaysWhy: a revision that cannot be read is not one that is not there.
func TestNoRevisionSaysWhy(t *testing.T) {
	t.Parallel()
	image := sample().image(t)
	damaged := copied(t, image, 17*mib+1024+24, 0xff) // the size of a block
	var r inspect.Reader
	defer r.Close()
	all, err := r.Compare(t.Context(), opened(t, &r, damaged), opened(t, &r, export(t, sample().squashfs(t))))
	if fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "looking for a revision in partition 2: reading ext4: ") {
		t.Errorf("%v, %v", all, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	a, b := opened(t, &r, image), opened(t, &r, export(t, sample().squashfs(t)))
	cancel()
	if _, err := r.Compare(ctx, a, b); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v", err)
	}
}
