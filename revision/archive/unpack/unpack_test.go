package unpack

import (
	"archive/tar"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
)

func sumOf(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

type member struct {
	name, content string
	records       map[string]string
}

func object(content string) member {
	return member{name: "objects/" + sumOf(content), content: content}
}

func build(t testing.TB, members ...member) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Size: int64(len(m.content)), Mode: 0o644, PAXRecords: m.records}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, err := z.Write(data)
	if err = errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// store returns a Put that keeps the objects' names.
func store(into *[]string) func(io.Reader, string, int64) error {
	return func(r io.Reader, sum string, size int64) error {
		h := sha256.New()
		n, err := io.Copy(h, r)
		switch {
		case err != nil:
			return err
		case n != size:
			return fmt.Errorf("%d bytes, %d were announced", n, size)
		case hex.EncodeToString(h.Sum(nil)) != sum:
			return objects.ErrMismatch
		}
		*into = append(*into, sum)
		return nil
	}
}

func TestAnyForm(t *testing.T) {
	t.Parallel()
	doc := `{"#spec":"s","a b/c":"` + sumOf("x") + `"}`
	plain := build(t, member{name: "./json", content: doc}, member{name: "./objects/" + sumOf("x"), content: "x"})
	cmd := exec.Command(oracle.Program(t, "bzip2"), "-c")
	cmd.Stdin = bytes.NewReader(plain)
	bz, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"tar": plain, "gzip": zipped(t, plain), "bzip2": bz, "gzip, members": append(zipped(t, plain[:700]), zipped(t, plain[700:])...),
	} {
		var got []string
		st, err := Any(t.Context(), bytes.NewReader(data), Options{Put: store(&got), Bzip2: bzip2.NewReader})
		if err != nil || string(st.Raw()) != doc || !slices.Equal(got, []string{sumOf("x")}) {
			t.Errorf("%s: %v, objects %v", name, err, got)
		}
	}
	if st, err := Any(t.Context(), strings.NewReader("\n "+doc), Options{}); err != nil || string(st.Encode()) != doc {
		t.Errorf("JSON: %v", err)
	}
}

func TestOtherForms(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", blockSize)
	for name, c := range map[string]struct{ data, want string }{
		"empty":         {"", "it is empty"},
		"zstd":          {"\x28\xb5\x2f\xfd" + long, "the form zstd"},
		"xz":            {"\xfd7zXZ\x00" + long, "the form xz"},
		"text":          {long, "not a tar stream"},
		"broken gzip":   {"\x1f\x8b" + long, "reading gzip"},
		"gzip of text":  {string(zipped(t, []byte(long))), "not a tar stream"},
		"bzip2":         {"BZh9" + long, "the form bzip2: tar, also with gzip, and"},
		"broken JSON":   {`{"a":`, "bad format"},
		"JSON, twice":   {`{}{}`, "bad format"},
		"JSON, ../":     {`{"../x":{}}`, "bad format"},
		"JSON, nested":  {`{"a.json":` + strings.Repeat("[", 100000), "bad format"},
		"deep gzip":     {string(zipped(t, zipped(t, build(t, member{name: "json", content: "{}"})))), "not a tar stream"},
		"JSON as array": {`[]`, "not a tar stream"},
	} {
		if st, err := Any(t.Context(), strings.NewReader(c.data), Options{}); st != nil || !errors.Is(err, ErrArchive) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want …%s…", name, err, c.want)
		}
	}
	if st, err := Any(t.Context(), strings.NewReader("BZh9"+long), Options{Bzip2: bzip2.NewReader}); st != nil || !errors.Is(err, ErrArchive) {
		t.Errorf("broken bzip2: %v", err)
	}
}

func TestObjectsThatTheStateDoesNotName(t *testing.T) {
	t.Parallel()
	doc := member{name: "json", content: `{"a":"` + sumOf("a") + `"}`}
	for name, c := range map[string]struct {
		data  []byte
		named bool
		want  []string
	}{
		"all":              {build(t, doc, object("a"), object("b")), false, []string{sumOf("a"), sumOf("b")}},
		"named":            {build(t, doc, object("b"), object("a")), true, []string{sumOf("a")}},
		"before the state": {build(t, object("b"), doc, object("a")), true, []string{sumOf("b"), sumOf("a")}},
	} {
		var got []string
		_, err := Tar(t.Context(), bytes.NewReader(c.data), Options{Put: store(&got), Named: c.named})
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v, %s", name, err, diff)
		}
	}
}

// TestSparse: a header of a few bytes would be an object of any size.
func TestSparse(t *testing.T) {
	t.Parallel()
	file := object("x")
	// The writer of archive/tar does not write such records, so they are put into those of
	// another name with as many letters.
	file.records = map[string]string{"XNU.sparse.major": "1", "XNU.sparse.minor": "0", "XNU.sparse.realsize": "99999999", "XNU.sparse.name": "objects/" + sumOf("x")}
	file.content = "1\n0\n1\n" + strings.Repeat("\x00", blockSize-6) + "x"
	data := bytes.ReplaceAll(build(t, member{name: "json", content: "{}"}, file), []byte("XNU.sparse"), []byte("GNU.sparse"))
	if _, err := Tar(t.Context(), bytes.NewReader(data), Options{Put: store(new([]string))}); !errors.Is(err, ErrArchive) || !strings.Contains(err.Error(), "sparse") {
		t.Errorf("error %v", err)
	}
}

func TestErrorOfThePlaceIsNotTheArchives(t *testing.T) {
	t.Parallel()
	full := errors.New("no space")
	data := build(t, member{name: "json", content: "{}"}, object("x"))
	_, err := Tar(t.Context(), bytes.NewReader(data), Options{Put: func(io.Reader, string, int64) error { return full }})
	if !errors.Is(err, full) || errors.Is(err, ErrArchive) || !strings.Contains(err.Error(), sumOf("x")) {
		t.Errorf("error %v", err)
	}
}

func FuzzAny(f *testing.F) {
	plain := build(f, member{name: "json", content: `{"#spec":"s","a":"` + sumOf("x") + `"}`}, object("x"))
	f.Add(plain)
	f.Add(zipped(f, plain))
	f.Add([]byte(`{"#spec":"s"}`))
	f.Add(build(f, object("x"), member{name: "../x", content: "y"}))
	f.Fuzz(func(t *testing.T, data []byte) {
		var got []string
		st, err := Any(t.Context(), bytes.NewReader(data), Options{Put: store(&got), Foreign: 1 << 20, Bzip2: bzip2.NewReader})
		if (st == nil) != (err != nil) {
			t.Fatalf("state %v, error %v", st, err)
		}
		for _, sum := range got {
			if !state.IsSum(sum) {
				t.Fatalf("object %q", sum)
			}
		}
	})
}
