package grubenv

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/debian/partstest"
)

func mustBytes(t *testing.T, e Env) []byte {
	t.Helper()
	b, err := e.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBlockIsExact(t *testing.T) {
	got := mustBytes(t, Env{"pv_try": "", "pv_rev": "locals/abc"})
	want := "# GRUB Environment Block\npv_rev=locals/abc\npv_try=\n"
	want += strings.Repeat("#", Size-len(want))
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("block (-want +got):\n%s", diff)
	}
}

func TestRoundTrip(t *testing.T) {
	for _, e := range []Env{
		{},
		{"pv_rev": "0"},
		{"a": "with = and # signs", "b": `back\slash`, "c": "two\nlines", "d": `ends in \`},
		{"empty": "", "_x9": "spaces  kept "},
	} {
		got, err := Parse(mustBytes(t, e))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(e, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestParseTolerates(t *testing.T) {
	for name, c := range map[string]struct {
		block string
		want  Env
	}{
		"oversize file":      {header + "pv_rev=3\n" + strings.Repeat("#", 4096), Env{"pv_rev": "3"}},
		"no padding":         {header + "pv_rev=3\n", Env{"pv_rev": "3"}},
		"no last newline":    {header + "pv_rev=3", Env{"pv_rev": "3"}},
		"first one counts":   {header + "a=1\na=2\n", Env{"a": "1"}},
		"names match whole":  {header + "pv_trying=5\npv_try=4\n", Env{"pv_try": "4", "pv_trying": "5"}},
		"lines without sign": {header + "junk\n=x\n1a=2\na b=1\nok=1\n", Env{"ok": "1"}},
		"backslash at end":   {header + `a=1\`, Env{"a": `1\`}},
	} {
		got, err := Parse([]byte(c.block))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestErrors(t *testing.T) {
	for _, block := range []string{"", "pv_rev=0\n", "# GRUB", "\x00"} {
		if _, err := Parse([]byte(block)); !errors.Is(err, errFormat) {
			t.Errorf("Parse(%q) = %v, want ErrFormat", block, err)
		}
	}
	for _, name := range []string{"", "1a", "a b", "a=b", "a\n", "ä"} {
		if _, err := (Env{name: "x"}).Bytes(); !errors.Is(err, errName) {
			t.Errorf("name %q: %v, want ErrName", name, err)
		}
	}
	room := Size - len(header) - len("a=\n")
	if _, err := (Env{"a": strings.Repeat("x", room)}).Bytes(); err != nil {
		t.Errorf("a block filled to the last byte: %v", err)
	}
	if _, err := (Env{"a": strings.Repeat("x", room+1)}).Bytes(); !errors.Is(err, errFull) {
		t.Errorf("one byte more: %v, want ErrFull", err)
	}
}

// TestEditenvAgrees compares with GRUB's own program.
func TestEditenvAgrees(t *testing.T) {
	editenv := partstest.Program(t, "grub-common", "grub-editenv")
	e := Env{"pv_rev": "locals/abc", "pv_try": `a\b`}
	file := filepath.Join(t.TempDir(), "grubenv")
	if err := os.WriteFile(file, mustBytes(t, e), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := editenv(file, "set", "pv_trying=7").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	block, err := os.ReadFile(file)
	if err != nil || len(block) != Size {
		t.Fatalf("%d bytes, %v", len(block), err)
	}
	got, err := Parse(block)
	if err != nil {
		t.Fatal(err)
	}
	e["pv_trying"] = "7"
	if diff := cmp.Diff(e, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(header + "pv_rev=0\npv_try=\\\\\n###"))
	f.Add([]byte(header + "a=\\\n=\n"))
	f.Fuzz(func(t *testing.T, block []byte) {
		e, err := Parse(block)
		if err != nil {
			return
		}
		b, err := e.Bytes()
		if err != nil {
			if !errors.Is(err, errFull) {
				t.Fatal(err)
			}
			return
		}
		again, err := Parse(b)
		if err != nil || !maps.Equal(e, again) || len(b) != Size || !bytes.HasPrefix(b, []byte(header)) {
			t.Fatalf("%v: %v became %v", err, e, again)
		}
	})
}
