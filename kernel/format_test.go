package kernel

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/formats/uimage"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

// marked is content of a form: its mark with zeros around it.
func marked(form string) []byte {
	b := make([]byte, 8192)
	for _, m := range marks {
		if m.form == form {
			copy(b[m.at:], m.bytes)
		}
	}
	return b
}

func zipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// executable is a little-endian MIPS program with two segments at 0x80100000 and 0x80102000,
// started at 0x80100010. Each has half of the content.
func executable(content []byte) []byte {
	le := binary.LittleEndian
	head := append([]byte("\x7fELF\x01\x01\x01"), make([]byte, 9)...)
	for _, v := range []uint16{2, 8} { // executable, MIPS
		head = le.AppendUint16(head, v)
	}
	for _, v := range []uint32{1, 0x80100010, 52, 0, 0x1000} {
		head = le.AppendUint32(head, v)
	}
	for _, v := range []uint16{52, 32, 2, 40, 0, 0} {
		head = le.AppendUint16(head, v)
	}
	n := uint32(len(content) / 2)
	for i, at := range []uint32{0x80100000, 0x80102000} {
		for _, v := range []uint32{1, 116 + uint32(i)*n, at, at, n, n + 4096, 7, 4} {
			head = le.AppendUint32(head, v)
		}
	}
	return append(head, content...)
}

func formats(t *testing.T, have []byte, s *Converted) ([]byte, error) {
	t.Helper()
	s.Tree = kernelTree(t, map[string]string{"boot/vmlinuz-6.1.0": string(have)})
	out, _, err := run(t, s)
	if err != nil {
		return nil, err
	}
	got, err := os.ReadFile(filepath.Join(out, ImageFile))
	if err != nil {
		t.Fatal(err)
	}
	return got, nil
}

func TestFormats(t *testing.T) {
	t.Parallel()
	flat := marked(flatImage)
	tests := []struct {
		name, format string
		have, want   []byte
		wrong        string
	}{
		{"the wanted one", zImage, marked(zImage), marked(zImage), ""},
		{"PC", bzImage, marked(bzImage), marked(bzImage), ""},
		{"unpacked", flatImage, zipped(t, flat), flat, ""},
		{"compressed already", gzipImage, zipped(t, flat), zipped(t, flat), ""},
		{"another one", zImage, flat, nil, "Image, which cannot become kernel.format zImage"},
		{"an unknown one", flatImage, []byte("MZ"), nil, "not in a known form"},
		{"another one inside", flatImage, zipped(t, marked(zImage)), nil, "what is compressed is zImage"},
		{"damaged", flatImage, zipped(t, flat)[:40], nil, "unexpected EOF"},
		{"no address", legacyImage, marked(zImage), nil, "bootloader.addresses.kernel"},
		{"no segments", legacyImage, executable(nil), nil, "no segments to load"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := formats(t, tc.have, &Converted{Format: tc.format})
			if tc.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wrong) || fault.Of(err) != fault.BadInput {
					t.Errorf("%v, want bad input with %q", err, tc.wrong)
				}
				return
			}
			if err != nil || !bytes.Equal(got, tc.want) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	packed, err := formats(t, flat, &Converted{Format: gzipImage})
	if err != nil {
		t.Fatal(err)
	}
	again, err := formats(t, packed, &Converted{Format: flatImage})
	if err != nil || !bytes.Equal(again, flat) || len(packed) > len(flat)/10 {
		t.Errorf("packed to %d bytes and unpacked: %v", len(packed), err)
	}
}

// TestLegacyImages has U-Boot's own program read them.
func TestLegacyImages(t *testing.T) {
	t.Parallel()
	oracle.Need(t, "dumpimage")
	noise := make([]byte, 16384)
	for i, x := 0, uint32(1); i < len(noise); i++ {
		x = x*1664525 + 1013904223
		noise[i] = byte(x >> 24)
	}
	tests := []struct {
		name string
		have []byte
		step Converted
		want []string
	}{
		{"zImage", marked(zImage), Converted{Arch: uimage.ARM, Load: 0x80008000},
			[]string{"ARM Linux Kernel Image (uncompressed)", "Load Address: 80008000", "Entry Point:  80008000", "Data Size:    8192 Bytes"}},
		{"ELF", executable(make([]byte, 16384)), Converted{Arch: uimage.MIPS},
			[]string{"MIPS Linux Kernel Image (gzip compressed)", "Load Address: 80100000", "Entry Point:  80100010"}},
		{"ELF that is compressed", executable(noise), Converted{Arch: uimage.MIPS},
			[]string{"MIPS Linux Kernel Image (uncompressed)", "Load Address: 80100000", "Data Size:    16384 Bytes"}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.step.Format = legacyImage
			got, err := formats(t, tc.have, &tc.step)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "uImage")
			if err := os.WriteFile(file, got, 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), "dumpimage", "-l", file).CombinedOutput()
			for _, want := range tc.want {
				if err != nil || !strings.Contains(string(out), want) {
					t.Errorf("%v, want %q:\n%s", err, want, out)
				}
			}
		})
	}
}
