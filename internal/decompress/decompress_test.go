package decompress

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

// pack compresses with a program of the system.
func pack(t *testing.T, text, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(oracle.Program(t, program), append(args, "-c")...)
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func zipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := io.WriteString(w, text)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func read(data string) (string, error) {
	r, err := Reader(strings.NewReader(data))
	if err != nil {
		return "", err
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	return string(text), err
}

func TestFormsAreReadToTheirEnd(t *testing.T) {
	t.Parallel()
	gz, zst, lzma2 := zipped(t, "text"), pack(t, "text", "zstd"), pack(t, "text", "xz")
	const skip = "\x5e\x2a\x4d\x18\x03\x00\x00\x00abc"
	const zeros = "\x00\x00\x00\x00\x00\x00\x00\x00"
	for name, c := range map[string]struct{ data, want string }{
		"plain":                      {"text", "text"},
		"empty":                      {"", ""},
		"gzip":                       {gz, "text"},
		"gzip, members":              {gz + zipped(t, "") + gz, "texttext"},
		"gzip, padding":              {gz + gz + zeros + "\x00", "texttext"},
		"gzip of nothing":            {zipped(t, ""), ""},
		"zstd":                       {zst, "text"},
		"zstd, frames":               {zst + zst, "texttext"},
		"zstd, skippable":            {skip + zst + skip + zst + skip, "texttext"},
		"zstd, only skippable":       {skip, ""},
		"xz":                         {lzma2, "text"},
		"xz, streams with padding":   {lzma2 + zeros + lzma2 + zeros, "texttext"},
		"xz, SHA-256":                {pack(t, "text", "xz", "--check=sha256"), "text"},
		"xz, no check":               {pack(t, "text", "xz", "--check=none"), "text"},
		"text that begins like gzip": {"\x1f", "\x1f"},
	} {
		if got, err := read(c.data); err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
}

func TestDamageIsReported(t *testing.T) {
	t.Parallel()
	gz, zst, lzma2 := zipped(t, "text"), pack(t, "text", "zstd"), pack(t, "text", "xz")
	for name, data := range map[string]string{
		"gzip, cut": gz[:len(gz)-1], "gzip, sum": gz[:len(gz)-5] + "x" + gz[len(gz)-4:], "gzip, text behind": gz + "text",
		"gzip, member behind padding": gz + "\x00" + gz, "gzip, second cut": gz + gz[:9],
		"zstd, cut": zst[:len(zst)-1], "zstd, text behind": zst + "text", "skippable, cut": "\x50\x2a\x4d\x18\x09\x00\x00\x00a",
		"xz, cut": lzma2[:len(lzma2)-1], "xz, odd padding": lzma2 + "\x00\x00\x00", "xz, text behind": lzma2 + "text",
		"bzip2": "BZh91AY&SY",
	} {
		if got, err := read(data); err == nil {
			t.Errorf("%s: read as %q", name, got)
		}
	}
}

func TestUnknownFormsAreNamed(t *testing.T) {
	t.Parallel()
	for _, f := range forms {
		if f.open != nil {
			continue
		}
		if _, err := read(f.magic + strings.Repeat("x", 600)); fault.Of(err) != fault.Unsupported || !strings.Contains(err.Error(), "the form "+f.name+":") {
			t.Errorf("%s: %v", f.name, err)
		}
	}
}

// TestNamesThatLookLikeForms reads archives whose first file has such a name.
func TestNamesThatLookLikeForms(t *testing.T) {
	t.Parallel()
	for _, f := range append(forms, form{name: "skippable", magic: "\x50\x2a\x4d\x18"}) {
		b := make([]byte, 1024)
		copy(b, f.magic[:min(len(f.magic), 90)])
		sum := sumN * int(' ')
		for _, c := range b[:tarBlock] {
			sum += int(c)
		}
		copy(b[sumAt:], []byte{byte('0' + sum>>15&7), byte('0' + sum>>12&7), byte('0' + sum>>9&7), byte('0' + sum>>6&7), byte('0' + sum>>3&7), byte('0' + sum&7), 0, ' '})
		if got, err := read(string(b)); err != nil || got != string(b) {
			t.Errorf("%s: %d bytes, %v", f.name, len(got), err)
		}
	}
}

func FuzzReader(f *testing.F) {
	for _, form := range forms {
		f.Add([]byte(form.magic))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Reader(bytes.NewReader(data))
		if err != nil {
			return
		}
		defer r.Close()
		_, _ = io.Copy(io.Discard, io.LimitReader(r, 1<<20))
	})
}
