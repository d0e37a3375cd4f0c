package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
)

func newStore(t testing.TB) *objects.Store {
	t.Helper()
	s, err := objects.Create(filepath.Join(t.TempDir(), "objects"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sumOf(content string) string {
	h := sha256.Sum256([]byte(content))
	return hex.EncodeToString(h[:])
}

// sample returns a store with two objects, one of them under two paths, and their state.
func sample(t testing.TB) (*objects.Store, *state.State) {
	t.Helper()
	store, st := newStore(t), state.New(state.Spec)
	for path, content := range map[string]string{"app/root.squashfs": "root", "app/copy": "root", "bsp/kernel.img": "kernel"} {
		sum, err := store.Put(context.Background(), strings.NewReader(content), "")
		if err = errors.Join(err, st.SetObject(path, sum)); err != nil {
			t.Fatal(err)
		}
	}
	if err := st.Set("app/run.json", []byte(`{"big":12345678901234567890}`)); err != nil {
		t.Fatal(err)
	}
	return store, st
}

func export(t testing.TB, st *state.State, store *objects.Store, opt ExportOptions) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := Export(context.Background(), &out, st, store, opt); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func list(t *testing.T, store *objects.Store) []string {
	t.Helper()
	entries, err := os.ReadDir(store.Dir())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestRoundTrip(t *testing.T) {
	store, st := sample(t)
	for _, gz := range []bool{false, true} {
		data := export(t, st, store, ExportOptions{Gzip: gz})
		into := newStore(t)
		got, err := Import(context.Background(), bytes.NewReader(data), into, ImportOptions{})
		if err != nil || !state.Equal(got, st) {
			t.Fatalf("gzip %v: %v", gz, err)
		}
		if diff := cmp.Diff(list(t, store), list(t, into)); diff != "" {
			t.Error(diff)
		}
		only, err := ReadState(context.Background(), bytes.NewReader(data))
		if err != nil || !state.Equal(only, st) {
			t.Errorf("gzip %v: %v", gz, err)
		}
	}
}

// TestCompressedForms reads an archive in each form of compression that users send.
func TestCompressedForms(t *testing.T) {
	store, st := sample(t)
	plain := export(t, st, store, ExportOptions{})
	half := len(plain) / 2
	forms := map[string][]byte{
		"gzip of two members, with padding": slices.Concat(compress(t, plain[:half]), compress(t, plain[half:]), make([]byte, 700)),
		"zstd behind a skippable frame":     append([]byte("\x50\x2a\x4d\x18\x01\x00\x00\x00x"), packed(t, plain, "zstd")...),
		"xz":                                packed(t, plain, "xz"),
		"bzip2":                             packed(t, plain, "bzip2"),
	}
	for name, data := range forms {
		got, err := Import(context.Background(), bytes.NewReader(data), newStore(t), ImportOptions{})
		if err != nil || !state.Equal(got, st) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := Import(context.Background(), strings.NewReader("\x04\x22\x4d\x18 and more"), newStore(t), ImportOptions{})
	if !errors.Is(err, ErrArchive) || !strings.Contains(err.Error(), "the form lz4") {
		t.Errorf("a form that cannot be read: %v", err)
	}
}

// packed compresses with a program of the system.
func packed(t *testing.T, data []byte, program string) []byte {
	t.Helper()
	cmd := exec.Command(oracle.Program(t, program), "-c")
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestSystemTar has the system's tar read an export and make one.
func TestSystemTar(t *testing.T) {
	tool := oracle.Program(t, "tar")
	store, st := sample(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "x.tgz")
	if err := os.WriteFile(file, export(t, st, store, ExportOptions{Gzip: true}), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(tool, "-C", dir, "-xzf", file).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	if doc, err := os.ReadFile(filepath.Join(dir, "json")); err != nil || string(doc) != string(st.Encode()) {
		t.Errorf("json %s, %v", doc, err)
	}
	made, err := exec.Command(tool, "-C", dir, "-cz", "./objects", "./json").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Import(context.Background(), bytes.NewReader(made), newStore(t), ImportOptions{}); err != nil || !state.Equal(got, st) {
		t.Errorf("import of tar's archive: %v", err)
	}
}

func TestDeterministicMembers(t *testing.T) {
	store, st := sample(t)
	when := time.Unix(1577836800, 5)
	first := export(t, st, store, ExportOptions{Gzip: true, Time: when})
	if err := os.Chtimes(filepath.Join(store.Dir(), sumOf("root")), time.Now(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, export(t, st, store, ExportOptions{Gzip: true, Time: when})) {
		t.Error("two exports differ")
	}
	tr := tar.NewReader(bytes.NewReader(export(t, st, store, ExportOptions{Time: when})))
	var names []string
	for h, err := tr.Next(); err != io.EOF; h, err = tr.Next() {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		if h.Format != tar.FormatUSTAR || h.Uid != 0 || h.Uname != "" || h.ModTime.Unix() != when.Unix() || h.Typeflag != tar.TypeReg {
			t.Errorf("header %+v", h)
		}
	}
	if diff := cmp.Diff([]string{"json", "objects/" + sumOf("root"), "objects/" + sumOf("kernel")}, names); diff != "" {
		t.Error(diff)
	}
}

// The bytes of a compressed archive are the same on every number of processors, and
// the same from a store that goes round the page cache.
func TestBytesOnAnyNumberOfProcessors(t *testing.T) {
	store, st := newStore(t), state.New(state.Spec)
	text := make([]byte, 5<<20)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(text[:2<<20]) // the rest is zeros
	sum, err := store.Put(t.Context(), bytes.NewReader(text), "")
	if err = errors.Join(err, st.SetObject("app/root.squashfs", sum)); err != nil {
		t.Fatal(err)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	var first []byte
	for n := 1; n <= 5; n++ {
		runtime.GOMAXPROCS(n)
		got := export(t, st, store, ExportOptions{Gzip: true})
		if first == nil {
			first = got
		}
		if !bytes.Equal(got, first) || !bytes.Equal(export(t, st, store.Direct(), ExportOptions{Gzip: true}), first) {
			t.Errorf("%d processors: other bytes", n)
		}
	}
	back := newStore(t).Direct()
	if _, err := Import(t.Context(), bytes.NewReader(first), back, ImportOptions{}); err != nil || !back.Has(sum) {
		t.Error(err)
	}
	check := exec.Command("gzip", "-t")
	check.Stdin = bytes.NewReader(first)
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("gzip -t: %v, %s", err, out)
	}
}

func TestExportParts(t *testing.T) {
	store, st := sample(t)
	data := export(t, st, store, ExportOptions{Parts: []string{"bsp"}})
	got, err := Import(context.Background(), bytes.NewReader(data), newStore(t), ImportOptions{})
	if err != nil || !cmp.Equal(got.Keys(), []string{"#spec", "bsp/kernel.img"}) {
		t.Errorf("%v, %v", got, err)
	}
	if data = export(t, st, store, ExportOptions{Parts: []string{"nothing"}}); len(data) > 4096 {
		t.Errorf("%d bytes for nothing", len(data))
	}
}

func TestExportOfDamagedStore(t *testing.T) {
	store, st := sample(t)
	if err := os.WriteFile(filepath.Join(store.Dir(), sumOf("root")), []byte("RooT"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Export(context.Background(), io.Discard, st, store, ExportOptions{}); !errors.Is(err, objects.ErrMismatch) {
		t.Errorf("damaged: %v", err)
	}
	if err := store.Remove(sumOf("root")); err != nil {
		t.Fatal(err)
	}
	if err := Export(context.Background(), io.Discard, st, store, ExportOptions{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

// member is one entry of a hand-made archive.
type member struct {
	name, content string
	kind          byte
	size          int64 // claimed size, when other than that of the content
}

// build makes a tar stream; a member with a claimed size ends it there.
func build(t testing.TB, members ...member) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Typeflag: m.kind, Size: int64(len(m.content)), Mode: 0o644}
		if m.kind == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Typeflag == tar.TypeSymlink || h.Typeflag == tar.TypeLink {
			h.Linkname, h.Size, m.content = m.content, 0, ""
		}
		if m.size > 0 {
			h.Size = m.size
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.content); err != nil {
			t.Fatal(err)
		}
		if m.size > 0 {
			return out.Bytes()
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func compress(t testing.TB, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestHostileArchives(t *testing.T) {
	doc := member{name: "json", content: `{"#spec":"s","a":"` + sumOf("good") + `"}`}
	good := member{name: "objects/" + sumOf("good"), content: "good"}
	whole := compress(t, build(t, doc, good, member{name: "objects/" + sumOf(strings.Repeat("y", 5000)), content: strings.Repeat("y", 5000)}))
	flip := bytes.Clone(whole)
	flip[len(flip)-6] ^= 1
	cases := []struct {
		name, want string
		data       []byte
	}{
		{"parent", `"../../evil"`, build(t, doc, good, member{name: "../../evil", content: "x"})},
		{"parent object", `"objects/../../evil"`, build(t, doc, good, member{name: "objects/../../evil", content: "x"})},
		{"absolute", `"/etc/passwd"`, build(t, doc, good, member{name: "/etc/passwd", content: "x"})},
		{"dot segments", `"objects/./x"`, build(t, doc, good, member{name: "objects/./x", content: "x"})},
		{"symbolic link", `"objects"`, build(t, doc, good, member{name: "objects", content: "/etc", kind: tar.TypeSymlink})},
		{"hard link", sumOf("x"), build(t, doc, good, member{name: "objects/" + sumOf("x"), content: "/etc/shadow", kind: tar.TypeLink})},
		{"device", `"dev"`, build(t, doc, good, member{name: "dev", kind: tar.TypeChar})},
		{"second state", "a second state", build(t, doc, good, doc)},
		{"wrong hash", sumOf("other"), build(t, doc, good, member{name: "objects/" + sumOf("other"), content: "evil"})},
		{"no hash", "no object name", build(t, doc, good, member{name: "objects/readme", content: "x"})},
		{"object beyond limit", sumOf("big"), build(t, doc, good, member{name: "objects/" + sumOf("big"), size: 10 << 30})},
		{"foreign file beyond limit", "more than", build(t, doc, good, member{name: "big", size: 10 << 30})},
		{"state beyond limit", `"json"`, build(t, good, member{name: "json", size: 1 << 30})},
		{"bad state", "bad format", build(t, good, member{name: "json", content: `{"../x":1}`})},
		{"no state", `no member "json"`, build(t, good)},
		{"truncated tar", sumOf("good"), build(t, doc, good)[:1536+2]},
		{"truncated gzip", "", whole[:len(whole)-20]},
		{"truncated check sum", "last member", whole[:len(whole)-3]},
		{"wrong check sum", "checksum", flip},
		{"no tar", "", bytes.Repeat([]byte("x"), 4096)},
		{"empty", "empty", nil},
		{"trailing flood", "more than", append(build(t, doc, good), make([]byte, 3<<20)...)},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			store := newStore(t)
			st, err := Import(context.Background(), bytes.NewReader(c.data), store, ImportOptions{})
			if !errors.Is(err, ErrArchive) || !strings.Contains(err.Error(), c.want) || st != nil {
				t.Errorf("error %v, want …%s…", err, c.want)
			}
			if left := list(t, store); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// TestForeignMembers: what the state does not name is bounded in bytes and in number.
func TestForeignMembers(t *testing.T) {
	zeros := member{name: "objects/" + sumOf("x"), content: strings.Repeat("\x00", 3<<20)}
	doc := member{name: "json", content: `{}`}
	_, err := Import(context.Background(), bytes.NewReader(compress(t, build(t, doc, zeros))), newStore(t), ImportOptions{Foreign: 2 << 20})
	if !errors.Is(err, ErrArchive) || !strings.Contains(err.Error(), zeros.name) {
		t.Errorf("error %v", err)
	}
	many := []member{doc}
	for range 1<<18 + 1 {
		many = append(many, member{name: "x"})
	}
	_, err = Import(context.Background(), bytes.NewReader(build(t, many...)), newStore(t), ImportOptions{})
	if err == nil || !strings.Contains(err.Error(), "more than 262144 members") {
		t.Errorf("error %v", err)
	}
}

// The objects of the state are without a bound, as often as it names them.
func TestNamedObjectsAreNotForeign(t *testing.T) {
	big := strings.Repeat("\x00", 3<<20)
	doc := member{name: "json", content: `{"a":"` + sumOf(big) + `","b":"` + sumOf(big) + `"}`}
	object := member{name: "objects/" + sumOf(big), content: big}
	for count := 1; count <= 3; count++ {
		members := append([]member{doc}, []member{object, object, object}[:count]...)
		_, err := Import(t.Context(), bytes.NewReader(build(t, members...)), newStore(t), ImportOptions{Foreign: 2 << 20})
		if (err != nil) != (count > 2) {
			t.Errorf("%d times: %v", count, err)
		}
	}
}

func TestWantedObjects(t *testing.T) {
	doc := member{name: "json", content: `{"a/x":"` + sumOf("x") + `","b/x":"` + sumOf("x") + `","b/y":"` + sumOf("y") + `"}`}
	x, y := member{name: "objects/" + sumOf("x"), content: "x"}, member{name: "objects/" + sumOf("y"), content: "y"}
	for prefix, want := range map[string][]string{"a/": {sumOf("x")}, "b/": {sumOf("x"), sumOf("y")}, "c/": nil} {
		slices.Sort(want)
		store := newStore(t)
		opt := ImportOptions{Want: func(key string) bool { return strings.HasPrefix(key, prefix) }}
		if _, err := Import(t.Context(), bytes.NewReader(build(t, doc, y, x)), store, opt); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, list(t, store)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", prefix, diff)
		}
	}
}

func TestObjectOfTwoPathsMayOccurTwice(t *testing.T) {
	good := member{name: "objects/" + sumOf("good"), content: "good"}
	data := build(t, member{name: "json", content: `{}`}, good, good, member{name: "config", content: "{}"}, member{name: "objects/", kind: tar.TypeDir})
	store := newStore(t)
	if _, err := Import(context.Background(), bytes.NewReader(data), store, ImportOptions{}); err != nil || !cmp.Equal(list(t, store), []string{sumOf("good")}) {
		t.Errorf("%v, %v", list(t, store), err)
	}
}

func TestCancelledImport(t *testing.T) {
	store, st := sample(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Import(ctx, bytes.NewReader(export(t, st, store, ExportOptions{})), newStore(t), ImportOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func recordings(t testing.TB) string {
	t.Helper()
	return oracle.Recordings(t, "golden/pvr")
}

func TestRecordedExports(t *testing.T) {
	dir := recordings(t)
	data, err := os.ReadFile(filepath.Join(dir, "repo/exports.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		File    string
		Parts   *string
		Entries []struct{ Name, SHA256 string }
		JSON    json.RawMessage
		RC      int
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(filepath.Join(dir, "repo/exports/all.tgz"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	store := newStore(t)
	st, err := Import(context.Background(), file, store, ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		if c.RC != 0 || len(c.Entries) == 0 {
			continue
		}
		t.Run(c.File, func(t *testing.T) {
			opt := ExportOptions{}
			if c.Parts != nil {
				opt.Parts = strings.Split(*c.Parts, ",")
			}
			want := map[string]string{}
			for _, e := range c.Entries {
				want[e.Name] = e.SHA256
			}
			if diff := cmp.Diff(want, sums(t, export(t, st, store, opt))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// sums returns each member's SHA-256.
func sums(t *testing.T, data []byte) map[string]string {
	t.Helper()
	out := map[string]string{}
	tr := tar.NewReader(bytes.NewReader(data))
	for h, err := tr.Next(); err != io.EOF; h, err = tr.Next() {
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		out[h.Name] = sumOf(string(content))
	}
	return out
}

func FuzzImport(f *testing.F) {
	store, st := sample(f)
	f.Add(export(f, st, store, ExportOptions{}))
	f.Add(export(f, st, store, ExportOptions{Gzip: true}))
	f.Add(build(f, member{name: "json", content: `{}`}, member{name: "../x", content: "y"}))
	f.Fuzz(func(t *testing.T, data []byte) {
		into := newStore(t)
		_, err := Import(context.Background(), bytes.NewReader(data), into, ImportOptions{Foreign: 1 << 21})
		left := list(t, into)
		if err != nil && len(left) > 0 {
			t.Fatalf("left behind after %v: %v", err, left)
		}
		for _, sum := range left {
			if err := into.Verify(context.Background(), sum); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// endless is a file of zeros that is never in memory.
type endless struct{ left int64 }

// Read implements io.Reader.
func (e *endless) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n := int(min(e.left, int64(len(p))))
	clear(p[:n])
	e.left -= int64(n)
	return n, nil
}

const tenGB = 10 << 30

// zeros writes an archive that holds ten gigabytes of zeros, as it is asked for.
func zeros(w io.Writer, name string, members int64) error {
	tw := tar.NewWriter(w)
	doc := `{"#spec":"pantavisor-service-system@1"}`
	err := tw.WriteHeader(&tar.Header{Name: "json", Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(len(doc))})
	if err == nil {
		_, err = io.WriteString(tw, doc)
	}
	if members == 0 && err == nil {
		err = tw.Close()
		if err == nil {
			_, err = io.Copy(w, &endless{tenGB})
		}
		return err
	}
	for i := int64(0); i < members && err == nil; i++ {
		err = tw.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: tenGB / members})
		if err == nil {
			_, err = io.Copy(tw, &endless{tenGB / members})
		}
	}
	return errors.Join(err, tw.Close())
}

// Ten gigabytes of zeros are a few megabytes when compressed. They are refused
// before they are unpacked, in little memory, and leave nothing behind.
func TestTenGigabytesOfZeros(t *testing.T) {
	h := sha256.New()
	if _, err := io.Copy(h, &endless{1 << 20}); err != nil {
		t.Fatal(err)
	}
	megabyte := "objects/" + hex.EncodeToString(h.Sum(nil))
	for _, tc := range []struct {
		title, name string
		members     int64
		foreign     int64
		want        string
	}{
		{"one object", "objects/" + sumOf("x"), 1, 0, "objects/" + sumOf("x")},
		{"another member", "bsp/readme", 1, 0, "bsp/readme"},
		{"the same object many times", megabyte, 10 << 10, 16 << 20, megabyte},
		{"other members", "readme", 10 << 10, 16 << 20, "readme"},
		{"the state", "json", 1, 0, "json"},
		{"behind the end", "", 0, 0, "behind the last member"},
	} {
		t.Run(tc.title, func(t *testing.T) {
			r, w := io.Pipe()
			defer r.Close()
			go func() {
				z := gzip.NewWriter(w)
				_ = w.CloseWithError(errors.Join(zeros(z, tc.name, tc.members), z.Close()))
			}()
			store := newStore(t)
			read := &counted{r: r}
			before := allocated()
			_, err := Import(context.Background(), read, store, ImportOptions{Foreign: tc.foreign})
			if used := allocated() - before; used > 16<<20 {
				t.Errorf("%d bytes of memory", used)
			}
			if !errors.Is(err, ErrArchive) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v", err)
			}
			if read.n > 1<<20 {
				t.Errorf("read %d bytes of the archive", read.n)
			}
			entries, err := os.ReadDir(store.Dir())
			if err != nil || len(entries) > 0 {
				t.Errorf("left behind: %v, %v", entries, err)
			}
		})
	}
}

// counted counts what is read.
type counted struct {
	r io.Reader
	n int64
}

// Read implements io.Reader.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// allocated returns how much memory was ever taken, an upper bound of what is used.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// What goes wrong on this machine is not blamed on the archive, and what is wrong
// with the archive is, also in the middle of an object.
func TestWhoseFault(t *testing.T) {
	good := build(t, member{name: "json", content: `{"#spec":"s","a":"` + sumOf("good") + `"}`},
		member{name: "objects/" + sumOf("good"), content: "good"})
	store := newStore(t)
	if err := os.Remove(store.Dir()); err != nil {
		t.Fatal(err)
	}
	_, err := Import(t.Context(), bytes.NewReader(good), store, ImportOptions{})
	if !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrArchive) || !strings.Contains(err.Error(), sumOf("good")) {
		t.Errorf("a store that is gone: %v", err)
	}
	_, err = Import(t.Context(), bytes.NewReader(make([]byte, 2<<20)), newStore(t), ImportOptions{})
	if !errors.Is(err, ErrArchive) || !strings.Contains(err.Error(), "behind its beginning: more than") {
		t.Errorf("nothing but zeros: %v", err)
	}
	_, err = Import(t.Context(), bytes.NewReader(good[:len(good)-1024-512+2]), newStore(t), ImportOptions{})
	if !errors.Is(err, ErrArchive) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("an object cut short: %v", err)
	}
}
