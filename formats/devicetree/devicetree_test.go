package devicetree

import (
	"bytes"
	"encoding/binary"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/oracle"
)

const source = `/dts-v1/; / { model = "board"; soc { serial@1 { status = "okay"; reg = <1 2>; }; }; };`

func compile(t testing.TB) []byte {
	t.Helper()
	cmd := exec.Command("dtc", "-O", "dtb", "-")
	cmd.Stdin = strings.NewReader(source)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("dtc: %v", err)
	}
	return out
}

func TestRead(t *testing.T) {
	t.Parallel()
	oracle.Need(t, "dtc")
	tree, err := Read(compile(t))
	if err != nil {
		t.Fatal(err)
	}
	serial := tree.RootNode.Children[0].Children[0]
	if serial.Name != "serial@1" || string(serial.Properties[0].Value) != "okay\x00" {
		t.Errorf("the tree has %+v", serial)
	}
}

// TestSizesThatLie has each size of a tree become one that is not there.
func TestSizesThatLie(t *testing.T) {
	t.Parallel()
	oracle.Need(t, "dtc")
	good := compile(t)
	structs := int(binary.BigEndian.Uint32(good[8:]))
	first := structs + bytes.Index(good[structs:], []byte{0, 0, 0, property, 0, 0, 0, 6}) // model
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for name, c := range map[string]struct {
		at   int
		want string
	}{
		"total": {4, "cut off"}, "structs": {8, "behind its end"}, "strings": {12, "behind its end"}, "size of strings": {32, "behind its end"},
		"size of structs": {36, "behind its end"}, "property": {first + 4, "a property reaches"}, "token": {first, "is not known"}, "magic": {0, "does not begin"},
	} {
		data := bytes.Clone(good)
		binary.BigEndian.PutUint32(data[c.at:], 0xf000_0000)
		if _, err := Read(data); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 64<<20 {
		t.Errorf("%d bytes were taken for trees of %d", took, len(good))
	}
	deep := bytes.Clone(good[:structs])
	for range maxDepth + 1 {
		deep = append(deep, 0, 0, 0, beginNode, 'a', 0, 0, 0)
	}
	binary.BigEndian.PutUint32(deep[4:], uint32(len(deep)))
	binary.BigEndian.PutUint32(deep[36:], uint32(len(deep)-structs))
	binary.BigEndian.PutUint32(deep[32:], 0)
	binary.BigEndian.PutUint32(deep[12:], 40)
	if _, err := Read(deep); err == nil || !strings.Contains(err.Error(), "too deep") {
		t.Errorf("nested nodes: %v", err)
	}
	if _, err := Read(good[:20]); err == nil {
		t.Error("a part of a header was read")
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("\xd0\x0d\xfe\xed"))
	oracle.Need(f, "dtc")
	f.Add(compile(f))
	f.Fuzz(func(_ *testing.T, data []byte) { _, _ = Read(data) })
}
