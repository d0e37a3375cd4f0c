package extlinux

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhatIsWrittenIsRead(t *testing.T) {
	t.Parallel()
	c := &Config{Default: "b", Timeout: 30, Entries: []Entry{
		{Label: "a", Kernel: "/k", Initrd: "/i", DeviceTree: "/d", Append: "console=ttyS0,115200 panic=5"},
		{Label: "b", Kernel: "/k2", Initrd: "/i2"},
	}}
	text, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	const want = "DEFAULT b\nTIMEOUT 30\n\nLABEL a\n  MENU LABEL a\n  LINUX /k\n  INITRD /i\n  FDT /d\n  APPEND console=ttyS0,115200 panic=5\n" +
		"\nLABEL b\n  MENU LABEL b\n  LINUX /k2\n  INITRD /i2\n"
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(c, Parse(text)); diff != "" {
		t.Error(diff)
	}
	if c.Entry("b").Kernel != "/k2" || c.Entry("c") != nil {
		t.Error("entries are not found by their labels")
	}
}

func TestFilesOfOthers(t *testing.T) {
	t.Parallel()
	got := Parse([]byte("# a comment\ntimeout x\nMENU TITLE L4T boot options\nlabel primary\n\tkernel /boot/Image\n\tfdt /a.dtb\n  append  ${cbootargs} quiet \n"))
	want := &Config{Entries: []Entry{{Label: "primary", Kernel: "/boot/Image", DeviceTree: "/a.dtb", Append: "${cbootargs} quiet"}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWhatWouldBreakTheFile(t *testing.T) {
	t.Parallel()
	for _, e := range []Entry{{}, {Label: "a b"}, {Label: "a", Append: "x\nDEFAULT a"}, {Label: "a", Kernel: "/k\r"}} {
		if text, err := (&Config{Entries: []Entry{e}}).Encode(); err == nil {
			t.Errorf("%+v was written as %q", e, text)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("DEFAULT a\nLABEL a\nAPPEND b\n"))
	f.Add([]byte("label\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c := Parse(text)
		again, err := c.Encode()
		if err != nil {
			return
		}
		if once, err := Parse(again).Encode(); err != nil || !bytes.Equal(once, again) {
			t.Errorf("%q becomes %q: %v", again, once, err)
		}
	})
}
