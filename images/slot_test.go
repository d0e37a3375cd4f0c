package images

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/revision/fragment"
)

func slotOf(format string, mib int64) *SlotImage {
	return &SlotImage{
		Slot:      Slot{Role: "boota", Key: "rpiab", File: "pantavisor-rpi.img.gz"},
		Partition: Partition{Name: "boota", Role: "boota", Format: format, Size: mib << 20},
		Files: []RoleFiles{
			{"boota", Artefact{Step: &made{"files/a", map[string]string{"kernel.img": strings.Repeat("k", 1<<20), "overlays/x.dtbo": "x"}}}},
			{"bootsel", Artefact{Step: &made{"files/sel", map[string]string{"autoboot.txt": "no"}}}},
		},
	}
}

// TestSlotImage unpacks the image onto a partition: the file system is whole and has the files
// of its role alone. Equal input gives equal bytes.
func TestSlotImage(t *testing.T) {
	t.Parallel()
	oracle.Need(t, "fsck.vfat", "mdir", "mtype")
	var made [2][]byte
	for i := range made {
		dir := newRunner(t).must(slotOf("fat32", 40))
		data, err := os.ReadFile(filepath.Join(dir, "pantavisor-rpi.img.gz"))
		if err != nil {
			t.Fatal(err)
		}
		made[i] = data
	}
	if !bytes.Equal(made[0], made[1]) {
		t.Error("two runs differ")
	}
	z, err := gzip.NewReader(bytes.NewReader(made[0]))
	if err != nil {
		t.Fatal(err)
	}
	image, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if len(image) >= 40<<20 {
		t.Errorf("the image has %d bytes, as much as the partition", len(image))
	}
	part := filepath.Join(t.TempDir(), "part")
	if err := os.WriteFile(part, bytes.Repeat([]byte("old"), 40<<20/3+1)[:40<<20], 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(part, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(image); err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	for _, c := range [][]string{{"fsck.vfat", "-n", part}, {"mtype", "-i", part, "::overlays/x.dtbo"}} {
		if out, err := exec.CommandContext(t.Context(), c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", c, err, out)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "mdir", "-b", "-i", part, "::").CombinedOutput(); err != nil || strings.Contains(string(out), "autoboot") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestSlotImageRejects(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		slot *SlotImage
		want fault.Kind
	}{{slotOf("ext4", 40), fault.Unsupported}, {slotOf("fat32", 33), fault.NoSpace}} {
		if c.want == fault.NoSpace {
			c.slot.Files[0].Tree.Step.(*made).files["large"] = strings.Repeat("x", 33<<20)
		}
		if _, err := newRunner(t).run(c.slot); fault.Of(err) != c.want {
			t.Errorf("%s, %d bytes: kind %v: %v", c.slot.Partition.Format, c.slot.Partition.Size, fault.Of(err), err)
		}
	}
}

// TestBSPWithSlot has the image in place of kernel and initrd.
func TestBSPWithSlot(t *testing.T) {
	t.Parallel()
	kernel := &made{"kernel", map[string]string{"k": "kernel", "modules": "m"}}
	bsp := &BSP{Target: "pi", Boot: slotOf("fat32", 40), Kernel: Artefact{kernel, "k"}, Initrd: Artefact{kernel, "k"}, Modules: &Artefact{kernel, "modules"}}
	st, err := fragment.Read(newRunner(t).must(bsp))
	if err != nil {
		t.Fatal(err)
	}
	value, ok := st.Get("bsp/run.json")
	var run map[string]any
	if err := json.Unmarshal(value, &run); !ok || err != nil {
		t.Fatalf("%s, %v", value, err)
	}
	if run["rpiab"] != "pantavisor-rpi.img.gz" || run["linux"] != nil || run["initrd"] != nil || run["modules"] != "modules.squashfs" {
		t.Errorf("run.json has %v", run)
	}
	if _, ok := st.Object("bsp/pantavisor-rpi.img.gz"); !ok {
		t.Error("the state has no image")
	}
	if _, ok := st.Object("bsp/kernel.img"); ok {
		t.Error("the state has the kernel too")
	}
}
