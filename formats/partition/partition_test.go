package partition

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/diskfs/go-diskfs/partition/mbr"

	"github.com/pantavisor/pantavisor/formats/region"
	"github.com/pantavisor/pantavisor/formats/region/regiontest"
)

const mib = 1 << 20

// disk returns the content of a disk with the table that write writes.
func disk(t testing.TB, write func(f *os.File) error) []byte {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(16 * mib); err != nil {
		t.Fatal(err)
	}
	if err := write(f); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func guids(t testing.TB) []byte {
	t.Helper()
	return disk(t, func(f *os.File) error {
		return (&gpt.Table{
			GUID: "5CA3360B-5DE6-4FCF-B4CE-419CEE433B51", ProtectiveMBR: true, LogicalSectorSize: 512, PhysicalSectorSize: 512,
			Partitions: []*gpt.Partition{
				{Index: 1, Start: 2048, End: 4095, Size: mib, Type: gpt.EFISystemPartition, Name: "pvböot", GUID: "5CA3360B-5DE6-4FCF-B4CE-419CEE433B60", Attributes: 4},
				{Index: 3, Start: 4096, End: 8191, Size: 2 * mib, Type: gpt.LinuxFilesystem, Name: "pvroot", GUID: "5CA3360B-5DE6-4FCF-B4CE-419CEE433B61"},
			},
		}).Write(f, 16*mib)
	})
}

func TestGPT(t *testing.T) {
	t.Parallel()
	data := guids(t)
	got, err := Read(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	if got.Form != "gpt" || got.ID != "5ca3360b-5de6-4fcf-b4ce-419cee433b51" || len(got.Damage) > 0 || len(got.Partitions) != 2 {
		t.Fatalf("%+v", got)
	}
	want := Partition{Number: 1, Start: mib, Size: mib, Type: "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", ID: "5ca3360b-5de6-4fcf-b4ce-419cee433b60", Name: "pvböot", Attributes: 4}
	if got.Partitions[0] != want {
		t.Errorf("%+v, want %+v", got.Partitions[0], want)
	}
	if p := got.Partitions[1]; p.Number != 3 || p.Start != 2*mib || p.Size != 2*mib {
		t.Errorf("%+v", p)
	}
	var m regiontest.Map
	got.Regions(m.Add)
	for at := int64(0); at < 16*mib; at += 512 {
		if _, ok := m.Find(at); !ok {
			t.Fatalf("byte %d is in no region", at)
		}
	}
}

func TestGaps(t *testing.T) {
	t.Parallel()
	const table = 2*512 + 128*128
	for name, c := range map[string]struct {
		change func(data []byte)
		want   []Gap
	}{
		"two partitions": {func([]byte) {}, []Gap{
			{bootCode, 0, 440, []region.Run{{Length: 440}}},
			{"before partition 1", 0, mib, []region.Run{{Offset: table, Length: mib - table, From: table}}},
			{"after the last partition", 4 * mib, 12 * mib, []region.Run{{Length: 12*mib - 33*512, From: 4 * mib}}},
		}},
		"the first is the whole disk": {func(data []byte) {
			binary.LittleEndian.PutUint64(data[1024+32:], 0)
			binary.LittleEndian.PutUint64(data[1024+40:], 16*mib/512-1)
			clear(data[16*mib-512:])
		}, nil},
		"the second is first, and larger than the disk": {func(data []byte) {
			binary.LittleEndian.PutUint64(data[1024+2*128+32:], 8)
			binary.LittleEndian.PutUint64(data[1024+2*128+40:], 1<<40)
			clear(data[16*mib-512:])
		}, []Gap{{bootCode, 0, 440, []region.Run{{Length: 440}}}}},
	} {
		data := guids(t)
		c.change(data)
		got, err := Read(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		if gaps := got.Gaps(); !reflect.DeepEqual(gaps, c.want) {
			t.Errorf("%s: %+v instead of %+v", name, gaps, c.want)
		}
	}
}

func TestDamagedGPT(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		at   int64
		want string
	}{
		"header":        {512 + 24, "the header of the GPT has a wrong checksum"},
		"no header":     {512, "the header of the GPT is not there"},
		"entries":       {1024 + 33, "the header of the GPT has a wrong checksum of its entries"},
		"second header": {16*mib - 512 + 30, "the second header of the GPT has a wrong checksum"},
		"number":        {512 + 84, "the header of the GPT has 128 entries of"},
		"signature":     {511, "the master boot record has no signature"},
	} {
		data := guids(t)
		data[c.at] ^= 1
		got, err := Read(bytes.NewReader(data), int64(len(data)))
		if err != nil || len(got.Partitions) != 2 || got.Partitions[0].Start != mib || !strings.Contains(strings.Join(got.Damage, "\n"), c.want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestMBR(t *testing.T) {
	t.Parallel()
	data := disk(t, func(f *os.File) error {
		return (&mbr.Table{LogicalSectorSize: 512, PhysicalSectorSize: 512, Partitions: []*mbr.Partition{
			{Index: 1, Bootable: true, Type: mbr.Fat32LBA, Start: 2048, Size: 2048}, {Index: 2, Type: mbr.Linux, Start: 4096, Size: 4096},
		}}).Write(f, 16*mib)
	})
	got, err := Read(bytes.NewReader(data), int64(len(data)))
	if err != nil || got.Form != "mbr" || len(got.Partitions) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	if want := (Partition{Number: 1, Start: mib, Size: mib, Type: "0c", Attributes: 0x80}); got.Partitions[0] != want {
		t.Errorf("%+v", got.Partitions[0])
	}
	clear(data[mbrEntries:510])
	if _, err := Read(bytes.NewReader(data), int64(len(data))); !errors.Is(err, ErrFormat) {
		t.Errorf("a sector with a signature alone: %v", err)
	}
}

// FuzzRead reads damaged tables.
func FuzzRead(f *testing.F) {
	data := guids(f)
	f.Add(uint16(512), byte(1), uint16(600), byte(2))
	f.Fuzz(func(t *testing.T, at uint16, with byte, at2 uint16, with2 byte) {
		image := bytes.Clone(data[:64<<10])
		image[at], image[at2] = with, with2
		table, err := Read(bytes.NewReader(image), int64(len(image)))
		if err == nil {
			table.Regions(region.Find(int64(at)).Add)
			for _, g := range table.Gaps() {
				for _, r := range g.Runs {
					if r.From != g.Start+r.Offset || r.Offset < 0 || r.Length <= 0 || r.Offset+r.Length > g.Size || g.Start+g.Size > int64(len(image)) {
						t.Errorf("%+v", g)
					}
				}
			}
		}
	})
}
