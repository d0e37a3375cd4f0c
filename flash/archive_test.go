package flash_test

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/flash"
	"github.com/pantavisor/pantavisor/formats/bmap"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/oracle"
)

// member is a file of an archive.
type member struct {
	name string
	data []byte
}

// many are files with long names.
func many() (out []member) {
	for i := range 50 {
		out = append(out, member{fmt.Sprint(i) + strings.Repeat("x", 300), nil})
	}
	return out
}

// newZip writes an archive.
func newZip(t *testing.T, members ...member) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, m := range members {
		f, err := w.Create(m.name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(m.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "disk.img.zip")
	write(t, name, b.Bytes())
	return name
}

// unpack writes the image of an archive to a file, and returns that.
func unpack(t *testing.T, archive string) (flash.Result, []byte, error) {
	t.Helper()
	im, err := flash.OpenArchive(t.Context(), archive)
	if err != nil {
		return flash.Result{}, nil, err
	}
	defer im.Close()
	to := filepath.Join(t.TempDir(), "medium")
	r, err := flash.Write(t.Context(), im, to, flash.Options{})
	got, _ := os.ReadFile(to) // what an error leaves, too
	return r, got, err
}

func mapOf(t *testing.T, data []byte) []byte {
	t.Helper()
	m, err := bmap.Create(t.Context(), bytes.NewReader(data), int64(len(data)), extents)
	if err != nil {
		t.Fatal(err)
	}
	return m.Encode()
}

func TestZip(t *testing.T) {
	t.Parallel()
	data := content()
	packed := compressed(t, "xz", data)
	beside := newZip(t, member{"disk.img", data})
	write(t, strings.TrimSuffix(beside, ".zip")+".bmap", mapOf(t, data))
	const mapped = 36<<10 + 2*mib
	for name, c := range map[string]struct {
		archive string
		bytes   int64
	}{
		"alone":             {newZip(t, member{"disk.img", data}), imageSize},
		"in directories":    {newZip(t, member{"a/", nil}, member{"a/disk.img", data}, member{"__MACOSX/a/._disk.img", []byte("x")}), imageSize},
		"with its map":      {newZip(t, member{"disk.img.bmap", mapOf(t, data)}, member{"disk.img", data}), mapped},
		"beside its map":    {beside, mapped},
		"compressed in zip": {newZip(t, member{"disk.img.xz", packed}), imageSize},
	} {
		r, got, err := unpack(t, c.archive)
		if err != nil || !bytes.Equal(got, data) || r.Bytes != c.bytes {
			t.Errorf("%s: %d bytes, %v", name, r.Bytes, err)
		}
	}
	for name, c := range map[string]struct {
		archive string
		kind    fault.Kind
		text    string
	}{
		"two files":  {newZip(t, member{"one.img", data}, member{"two.img", data}), fault.BadInput, `2 files, "one.img", "two.img": it is not known`},
		"many files": {newZip(t, many()...), fault.BadInput, `50 files, "0` + strings.Repeat("x", 99) + `", "1` + strings.Repeat("x", 99) + `", "2` + strings.Repeat("x", 99) + `" and 47 more: `},
		"no file":    {newZip(t, member{"a/", nil}), fault.BadInput, "no image"},
		"only a map": {newZip(t, member{"disk.img.bmap", mapOf(t, data)}), fault.BadInput, "no image"},
		"a bad map":  {newZip(t, member{"disk.img.bmap", []byte("<bmap>")}, member{"disk.img", data}), fault.BadInput, "disk.img.bmap"},
		"nothing":    {newZip(t, member{"disk.img", nil}), fault.BadInput, "it is empty"},
	} {
		if _, _, err := unpack(t, c.archive); fault.Of(err) != c.kind || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: kind %v: %v", name, fault.Of(err), err)
		}
	}
	if _, err := flash.Open(t.Context(), beside); fault.Of(err) != fault.Unsupported {
		t.Errorf("a program without zip: %v", err)
	}
}

func compressed(t *testing.T, program string, data []byte) []byte {
	t.Helper()
	cmd := exec.Command(oracle.Program(t, program), "-c", "-q")
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestDamagedArchives: every form, cut at several places and with a changed byte, with and
// without a map. An error is bad input or a wrong checksum, and what is on the medium is the
// mark; a success is the image.
func TestDamagedArchives(t *testing.T) {
	t.Parallel()
	data := content()
	forms := map[string][]byte{}
	for suffix, program := range map[string]string{".xz": "xz", ".zst": "zstd", ".gz": "gzip", ".bz2": "bzip2"} {
		forms[suffix] = compressed(t, program, data)
	}
	archive, err := os.ReadFile(newZip(t, member{"disk.img", data}))
	if err != nil {
		t.Fatal(err)
	}
	forms[".zip"] = archive
	for suffix, whole := range forms {
		for _, mapped := range []bool{false, true} {
			found := 0
			for at := 1; at < len(whole); at += len(whole)/4 + 1 {
				flipped := bytes.Clone(whole)
				flipped[at] ^= 0x10
				for what, damaged := range map[string][]byte{"cut": whole[:at], "changed": flipped} {
					name := filepath.Join(t.TempDir(), "disk.img"+suffix)
					write(t, name, damaged)
					if mapped {
						write(t, strings.TrimSuffix(name, suffix)+".bmap", mapOf(t, data))
					}
					_, got, err := unpack(t, name)
					if err == nil {
						if !bytes.Equal(got, data) {
							t.Errorf("%s, %s at %d, map %v: success with other data", suffix, what, at, mapped)
						}
						continue
					}
					found++
					if k := fault.Of(err); k != fault.BadInput && k != fault.Digest && k != fault.Unsupported {
						t.Errorf("%s, %s at %d, map %v: kind %v: %v", suffix, what, at, mapped, k, err)
					}
					if got == nil {
						continue // it was found before the medium was opened
					}
					if _, ok := flash.ReadMark(bytes.NewReader(got)); !ok {
						t.Errorf("%s, %s at %d, map %v: no mark", suffix, what, at, mapped)
					}
				}
			}
			if found < 4 {
				t.Errorf("%s, map %v: only %d damages were found", suffix, mapped, found)
			}
		}
	}
}

// TestHolesAreLeftOut: also of an image without a map, unless all of it is wanted.
func TestHolesAreLeftOut(t *testing.T) {
	t.Parallel()
	data := content()
	name := filepath.Join(t.TempDir(), "disk.img")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, e := range extents {
		if _, err := f.WriteAt(data[e.Offset:e.Offset+e.Length], e.Offset); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if holes, err := bmap.Extents(f); err != nil || len(holes) < 2 {
		t.Skipf("the file system of the temporary directory does not tell holes: %v", err)
	}
	for _, whole := range []bool{false, true} {
		to := filepath.Join(t.TempDir(), "medium")
		r, err := run(t, name, to, flash.Options{Whole: whole})
		got, _ := os.ReadFile(to)
		if err != nil || !bytes.Equal(got, data) || whole != (r.Bytes == imageSize) {
			t.Errorf("whole %v: %d bytes, %v", whole, r.Bytes, err)
		}
	}
	image, _ := newImage(t, true)
	if r, err := run(t, image, filepath.Join(t.TempDir(), "medium"), flash.Options{Whole: true}); err != nil || r.Bytes != imageSize {
		t.Errorf("whole, with a map: %d bytes, %v", r.Bytes, err)
	}
}

// TestImageIsNotItsMedium: an image that is written to itself would be lost.
func TestImageIsNotItsMedium(t *testing.T) {
	t.Parallel()
	image, data := newImage(t, true)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(image, link); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{image, link} {
		if _, err := run(t, image, to, flash.Options{}); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "same file") {
			t.Errorf("%v", err)
		}
	}
	if got, err := os.ReadFile(image); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the image is gone: %v", err)
	}
}

// killedImage and killedMedium tell TestMain that this process is to write an image, and to be
// killed on the way.
const killedImage, killedMedium = "FLASH_TEST_IMAGE", "FLASH_TEST_MEDIUM"

func TestMain(m *testing.M) {
	if image := os.Getenv(killedImage); image != "" {
		writeUntilKilled(image, os.Getenv(killedMedium))
	}
	os.Exit(m.Run())
}

// writeUntilKilled says a line for each phase that begins or goes on, and waits for the answer.
func writeUntilKilled(image, medium string) {
	im, err := flash.Open(context.Background(), image)
	if err != nil {
		panic(err)
	}
	_, err = flash.Write(context.Background(), im, medium, flash.Options{Progress: func(p flash.Phase, _, _ int64) {
		_, _ = io.WriteString(os.Stdout, string(p)+"\n")
		_, _ = os.Stdin.Read(make([]byte, 1))
	}})
	if err != nil {
		panic(err)
	}
	os.Exit(0)
}

// TestKilledProcess: at each step of its progress until the last one, a killed process leaves
// the mark, and a later run makes the medium whole.
func TestKilledProcess(t *testing.T) {
	t.Parallel()
	image, data := newImage(t, true)
	to := filepath.Join(t.TempDir(), "medium")
	write(t, to, bytes.Repeat([]byte("old!"), imageSize/4))
	for n := 1; ; n++ {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), killedImage+"="+image, killedMedium+"="+to)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		phase, line := "", make([]byte, 64)
		for range n {
			k, err := out.Read(line)
			if err != nil {
				break
			}
			phase = strings.TrimSpace(string(line[:k]))
			_, _ = in.Write([]byte{1})
		}
		_ = cmd.Process.Kill()
		if err := cmd.Wait(); err == nil {
			if n < 6 {
				t.Errorf("only %d steps", n)
			}
			break
		}
		f, err := os.Open(to)
		if err != nil {
			t.Fatal(err)
		}
		_, ok := flash.ReadMark(f)
		_ = f.Close()
		if got, err := os.ReadFile(to); !ok && (err != nil || !bytes.Equal(got, data)) {
			t.Errorf("killed at step %d, %s: neither the mark nor the image is there", n, phase)
		}
	}
	if _, err := run(t, image, to, flash.Options{}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the medium differs: %v", err)
	}
}
