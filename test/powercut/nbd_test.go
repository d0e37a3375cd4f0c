package powercut

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/oracle"
)

// TestServesQEMU has QEMU's own client write, flush and read.
func TestServesQEMU(t *testing.T) {
	oracle.Need(t, "qemu-io")
	rec := newRecorder(newDisk(bytes.NewReader(bytes.Repeat([]byte{7}, 1<<20)), 4<<20), 0)
	stop, socket, err := serve(t.TempDir(), rec)
	must(t, err)
	t.Cleanup(stop)
	command(t, "qemu-io", "-f", "raw", "-t", "writeback", "nbd+unix:///?socket="+socket,
		"-c", "read -P 7 0 1M", "-c", "write -P 90 4608 1024", "-c", "flush", "-c", "write -P 91 2M 64k",
		"-c", "read -P 90 4608 1024", "-c", "read -P 7 4096 512", "-c", "read -P 0 1M 4k")
	type op struct {
		kind kind
		off  int64
		size int
	}
	var got []op
	for _, e := range rec.Log() {
		got = append(got, op{e.Kind, e.Off, len(e.Data)})
	}
	for len(got) > 4 && got[len(got)-1] == got[len(got)-2] { // QEMU flushes when it closes
		got = got[:len(got)-1]
	}
	want := []op{{wrote, 4608, 1024}, {flushed, 0, 0}, {wrote, 2 << 20, 64 << 10}, {flushed, 0, 0}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(op{})); diff != "" {
		t.Errorf("recorded: want(-), got(+):\n%s", diff)
	}
}

// TestDisksDoNotDisturbTheirBase writes to a copy of a copy.
func TestDisksDoNotDisturbTheirBase(t *testing.T) {
	t.Parallel()
	base := newDisk(bytes.NewReader(make([]byte, 3*block)), 3*block)
	write := func(d *disk, text string, at int64) {
		t.Helper()
		if _, err := d.WriteAt([]byte(text), at); err != nil {
			t.Fatal(err)
		}
	}
	write(base, "below", block-2)
	over := newDisk(base, 3*block)
	before := over.version(0)
	if before == 0 || before != base.version(0) || over.version(2) != 0 {
		t.Errorf("versions %d, %d, %d", before, base.version(0), over.version(2))
	}
	write(over, "ABC", block-1)
	if over.version(0) == before || base.version(0) != before {
		t.Error("the version of a block does not follow its content")
	}
	for d, want := range map[*disk]string{base: "\x00below\x00", over: "\x00bABCw\x00"} {
		got := make([]byte, 7)
		if _, err := d.ReadAt(got, block-3); err != nil || string(got) != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	if _, err := over.WriteAt([]byte("xx"), 3*block-1); err == nil {
		t.Error("a write behind the end is taken")
	}
}

func TestServerRejects(t *testing.T) {
	t.Parallel()
	for name, request := range map[string]string{
		"no client flags":     "\x00",
		"another magic":       "\x00\x00\x00\x03IHAVEOPX\x00\x00\x00\x07\x00\x00\x00\x00",
		"an option too large": "\x00\x00\x00\x03IHAVEOPT\x00\x00\x00\x07\xff\xff\xff\xff",
		"a request behind the end": "\x00\x00\x00\x03IHAVEOPT\x00\x00\x00\x01\x00\x00\x00\x00" +
			"\x25\x60\x95\x13\x00\x00\x00\x00hhhhhhhh\x00\x00\x00\x00\x00\x10\x00\x00\x00\x00\x00\x01",
	} {
		conn := struct {
			io.Reader
			io.Writer
		}{strings.NewReader(request), io.Discard}
		err := serveOne(conn, newDisk(strings.NewReader(""), 1<<20))
		if closed := name == "no client flags"; (err == nil) != closed {
			t.Errorf("%s: %v", name, err)
		}
	}
}
