package kernel

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/pantavisor/pantavisor/internal/fault"
)

const someConfig = "# Linux\nCONFIG_SQUASHFS=m\nCONFIG_LOCALVERSION=\"-x\"\n"

// TestConfigInEachForm reads a configuration from all that may hold one.
func TestConfigInEachForm(t *testing.T) {
	t.Parallel()
	plain := append([]byte("\x7fELF code "+ikconfigStart), zipped(t, []byte(someConfig))...)
	plain = append(plain, "IKCFG_ED more code"...)
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		".config": []byte(someConfig), "config.gz": zipped(t, []byte(someConfig)), "vmlinux": plain,
		"Image.gz": zipped(t, plain), "bzImage": append([]byte("real mode \x1f\x8b\x08 code "), append(zipped(t, plain), "size"...)...),
		"zstd": append([]byte("stub"), z.EncodeAll(plain, nil)...),
	} {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := ReadConfig(file)
		if err != nil || c["SQUASHFS"] != "m" || c["LOCALVERSION"] != "-x" || len(c) != 2 {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
	for name, data := range map[string]string{
		"empty": "", "text": "hello\n", "kernel without it": "\x7fELF code", "cut": string(plain[:len(plain)/2]),
	} {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadConfig(file); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "CONFIG_IKCONFIG") {
			t.Errorf("%s: kind %v: %v", name, fault.Of(err), err)
		}
	}
}

// TestSearchForAConfigEnds: what only looks like a kernel is not unpacked for ever.
func TestSearchForAConfigEnds(t *testing.T) {
	t.Parallel()
	image := append([]byte(strings.Repeat("code ", 1000)+ikconfigStart), zipped(t, []byte(someConfig))...)
	packed := zipped(t, image)
	looks := func(streams int) []byte { return append([]byte(strings.Repeat("\x1f\x8b\x08 ", streams)), packed...) }
	for _, c := range []struct {
		data []byte
		most int64
		want bool
	}{
		{looks(maxStreams - 1), maxKernelImage, true}, {looks(maxStreams), maxKernelImage, false},
		{packed, int64(len(image)), true}, {packed, int64(len(image)) / 2, false}, {image, 0, true},
		{append(zipped(t, make([]byte, len(image))), packed...), int64(len(image)), false},
		{append(zipped(t, make([]byte, len(image))), packed...), 3 * int64(len(image)), true},
	} {
		if got := ConfigText(c.data, c.most); (got == someConfig) != c.want {
			t.Errorf("%d bytes, of which %d are unpacked at most: %q", len(c.data), c.most, got)
		}
	}
}

func TestLacksAreAnError(t *testing.T) {
	t.Parallel()
	if err := Lacking(nil); err != nil {
		t.Error(err)
	}
	lacks := Config{"64BIT": "y"}.Check()
	err := Lacking(lacks)
	if fault.Of(err) != fault.Unsupported || !strings.Contains(err.Error(), "CONFIG_SQUASHFS,") {
		t.Errorf("kind %v: %v", fault.Of(err), err)
	}
	for _, l := range lacks {
		if l.Without == "" {
			t.Errorf("%s: nobody says what happens without it", l.Option)
		}
	}
}
