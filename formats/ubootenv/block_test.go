package ubootenv

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/debian/partstest"
)

var variables = []Entry{{"bootcmd", "echo a\necho b"}, {"empty", ""}, {"pv_rev", "locals/a=b"}}

func TestBlockRoundTrip(t *testing.T) {
	t.Parallel()
	for _, b := range []Block{{Size: 256}, {Size: 256, Redundant: true}} {
		data, err := b.Encode(variables, 7)
		if err != nil || len(data) != b.Size {
			t.Fatalf("%d bytes, %v", len(data), err)
		}
		got, mark, err := b.Decode(append(data, 0xff)) // what is behind does not count
		if diff := cmp.Diff(variables, got); diff != "" || err != nil || b.Redundant != (mark == 7) {
			t.Errorf("%+v: mark %d, %v (-want +got):\n%s", b, mark, err, diff)
		}
		for at := range data { // each byte counts, but for the mark
			data[at] ^= 1
			if _, _, err := b.Decode(data); (err == nil) != (b.Redundant && at == 4) {
				t.Fatalf("%+v: byte %d was changed: %v", b, at, err)
			}
			data[at] ^= 1
		}
	}
}

func TestBlockMistakes(t *testing.T) {
	t.Parallel()
	for want, try := range map[string]func() error{
		"want 64 to":        func() error { _, err := Block{Size: 63}.Encode(nil, 0); return err },
		"holds 59":          func() error { _, err := Block{Size: 64}.Encode([]Entry{{"a", strings.Repeat("x", 58)}}, 0); return err },
		"without '='":       func() error { _, err := Block{Size: 64}.Encode([]Entry{{"a=b", ""}}, 0); return err },
		"no NUL":            func() error { _, err := Block{Size: 64}.Encode([]Entry{{"a", "b\x00"}}, 0); return err },
		"it has 63":         func() error { _, _, err := Block{Size: 64}.Decode(make([]byte, 63)); return err },
		"checksum is wrong": func() error { _, _, err := Block{Size: 64}.Decode(make([]byte, 64)); return err },
	} {
		if err := try(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %s", err, want)
		}
	}
	if _, err := (Block{Size: 64}).Encode([]Entry{{"a", strings.Repeat("x", 56)}}, 0); err != nil {
		t.Errorf("a full environment: %v", err)
	}
}

// TestToolsAgree compares with U-Boot's own program.
func TestToolsAgree(t *testing.T) {
	t.Parallel()
	mkenvimage := partstest.Program(t, "u-boot-tools", "mkenvimage")
	dir := t.TempDir()
	text, out := filepath.Join(dir, "text"), filepath.Join(dir, "out")
	if err := os.WriteFile(text, []byte("a=1\npv_rev=0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, b := range []Block{{Size: 512}, {Size: 512, Redundant: true}} {
		args := []string{"-s", "512", "-p", "0", "-o", out, text}
		if b.Redundant {
			args = append([]string{"-r"}, args...)
		}
		if msg, err := mkenvimage(args...).CombinedOutput(); err != nil {
			t.Fatalf("mkenvimage: %v\n%s", err, msg)
		}
		want, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		got, err := b.Encode([]Entry{{"a", "1"}, {"pv_rev", "0"}}, 1)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%+v: %v (-mkenvimage +ours):\n%s", b, err, diff)
		}
	}
}

func FuzzBlock(f *testing.F) {
	good, err := Block{Size: 64, Redundant: true}.Encode([]Entry{{"a", "b"}}, 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, true)
	f.Fuzz(func(t *testing.T, data []byte, redundant bool) {
		b := Block{Size: max(len(data), minBlock), Redundant: redundant}
		entries, mark, err := b.Decode(data)
		if err != nil {
			return
		}
		if _, err := b.Encode(entries, mark); err != nil {
			t.Errorf("what was read cannot be written: %v", err)
		}
	})
}
