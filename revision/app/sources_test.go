package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/revision/archive"
	"github.com/pantavisor/pantavisor/revision/objects"
	"github.com/pantavisor/pantavisor/revision/state"
)

type rootfsCase struct {
	Args   []string
	RC     int
	Files  []string
	Source string `json:"src.json"`
	Run    string `json:"run.json"`
	Config string `json:"lxc.container.conf"`
}

// otherwiseRootfs are the recorded command lines where this package does
// something else.
var otherwiseRootfs = map[string]string{
	"--volume ovl:/var:permanent": "the scheme belongs to the path, as later versions have it",
	"--format-options=-comp gzip": "format options count for root file systems too, as later versions have it",
	"--base other":                "a root file system over a base would render an application that cannot start",
	"--format-options -comp gzip": "how flags are split is the command line's business",
	"--source bogus":              "origins are parsed by image.ParseOrigins",
}

func TestRecordedRootfs(t *testing.T) {
	t.Parallel()
	var file struct{ Cases []rootfsCase }
	readJSON(t, filepath.Join(recordings(t, "template"), "app-add-rootfs.json"), &file)
	if len(file.Cases) == 0 {
		t.Fatal("no cases")
	}
	w, _ := workspace(t, nil)
	w.NoSBOM = true // the recorded tool made none
	from := t.TempDir()
	if err := os.WriteFile(filepath.Join(from, "file"), []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	for n, c := range file.Cases {
		words := strings.Join(c.Args, " ")
		t.Run(words, func(t *testing.T) {
			if why := otherwiseRootfs[words]; why != "" {
				t.Log("not compared: " + why)
				return
			}
			_, o, _ := arguments(t, w, c.Args)
			o.From = from
			if o.Kind == "" {
				o.Kind = Rootfs
			}
			name := fmt.Sprintf("app%d", n)
			_, err := w.Add(context.Background(), name, o)
			if c.RC != 0 {
				if err == nil || w.Exists(name) {
					t.Errorf("error %v; the directory is there: %v", err, w.Exists(name))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			checkRootfs(t, w, name, from, c)
		})
	}
}

func checkRootfs(t *testing.T, w *Workspace, name, from string, c rootfsCase) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(w.Dir, name, rootName))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	digest := hex.EncodeToString(sum[:])
	source := strings.NewReplacer("@DIGEST@", digest, "../rootfs", from).Replace(c.Source)
	files := map[string]string{SourceName: source, runName: c.Run, "lxc.container.conf": c.Config, rootName + rootfsDigest: "sha256:" + digest, rootName: ""}
	want := map[string]json.RawMessage{}
	for _, f := range c.Files {
		raw, err := json.Marshal(files[f])
		if err != nil {
			t.Fatal(err)
		}
		want[f] = raw
	}
	checkFiles(t, filepath.Join(w.Dir, name), want)
}

// TestRootfsForms adds the same small tree in every form it can come in.
func TestRootfsForms(t *testing.T) {
	t.Parallel()
	dir, plain := t.TempDir(), tarOf(t, [2]string{"etc/", ""}, [2]string{"etc/conf", "c"})
	oracle.Need(t, "xz", "zstd")
	for file, tool := range map[string][]string{"r.tar": {"cat"}, "r.tar.gz": {"gzip", "-c"}, "r.tar.xz": {"xz", "-c"}, "r.tar.zst": {"zstd", "-c"}} {
		cmd := exec.Command(tool[0], tool[1:]...)
		cmd.Stdin = strings.NewReader(string(plain))
		out, err := cmd.Output()
		if err = errors.Join(err, os.WriteFile(filepath.Join(dir, file), out, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer server.Close()
	w, _ := workspace(t, nil)
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var first []listed
	for _, f := range files {
		for i, from := range []string{filepath.Join(dir, f.Name()), server.URL + "/" + f.Name()} {
			name := fmt.Sprintf("%s-%d", strings.ReplaceAll(f.Name(), ".", "-"), i)
			if _, err := w.Add(context.Background(), name, AddOptions{From: from, Kind: Rootfs}); err != nil {
				t.Fatal(err)
			}
			got := list(t, filepath.Join(w.Dir, name, rootName))
			if first == nil {
				first = got
			}
			if d := cmp.Diff(first, got); d != "" || len(got) != 3 {
				t.Errorf("%s: %d entries\n%s", from, len(got), d)
			}
		}
	}
}

// TestEmptyRootfs: nothing is not taken for a root file system without a word.
func TestEmptyRootfs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, c := range map[string]struct {
		data       []byte
		fail, warn string
	}{
		"nothing":        {nil, "the archive is empty", ""},
		"no members":     {make([]byte, 1024), "", "has no files"},
		"text":           {[]byte("hello\n"), "it is not a tar archive", ""},
		"long text":      {[]byte(strings.Repeat("hello\n", 1000)), "it is not a tar archive", ""},
		"another format": {[]byte("070701" + strings.Repeat("0", 600)), "the form cpio", ""},
	} {
		file := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
		if err := os.WriteFile(file, c.data, 0o644); err != nil {
			t.Fatal(err)
		}
		w, said := workspace(t, nil)
		_, err := w.Add(t.Context(), "x", AddOptions{From: file, Kind: Rootfs})
		if (err == nil) != (c.fail == "") || err != nil && !strings.Contains(err.Error(), c.fail) {
			t.Errorf("%s: %v; want %q", name, err, c.fail)
		}
		if all := fmt.Sprint(*said); !strings.Contains(all, c.warn) {
			t.Errorf("%s: it says %q; want %q", name, all, c.warn)
		}
	}
}

func TestRootfsUpdate(t *testing.T) {
	t.Parallel()
	from := t.TempDir()
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(from, "f"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put("one")
	w, log := workspace(t, nil)
	ctx := context.Background()
	if _, err := w.Add(ctx, "a", AddOptions{From: from, Kind: Rootfs, FormatOptions: "-comp gzip -e f2", Args: []string{"K=v"}}); err != nil {
		t.Fatal(err)
	}
	before := list(t, filepath.Join(w.Dir, "a", rootName))
	put("two, longer")
	log.take()
	if r, err := w.Install(ctx, "a"); err != nil || len(r.Written) != 0 || !strings.Contains(strings.Join(log.take(), "\n"), "root.squashfs: already up to date.") {
		t.Errorf("install changed %v, %v", r, err)
	}
	if r, err := w.Update(ctx, "a", UpdateOptions{}); err != nil || len(r.Written) != 4 {
		t.Errorf("update wrote %v, %v; want the image, its digest, src.json and the bill of materials", r, err)
	}
	after := list(t, filepath.Join(w.Dir, "a", rootName))
	if before[1].SHA256 == after[1].SHA256 {
		t.Error("the update does not have the new content")
	}
	src, err := w.read("a")
	if err != nil || src.Text("rootfs_url") != from || string(src.Value("args").Encode()) != `{"K":"v"}` {
		t.Errorf("src.json lost something: %s, %v", src.Encode(), err)
	}
	comp, err := exec.Command(oracle.Program(t, "unsquashfs"), "-s", filepath.Join(w.Dir, "a", rootName)).Output()
	if err != nil || !strings.Contains(string(comp), "Compression gzip") {
		t.Errorf("%v\n%s", err, comp)
	}
}

// imported is a Repository of one archive.
type imported struct {
	t     *testing.T
	store *objects.Store
}

func (i imported) Fetch(ctx context.Context, reference string, _ state.Fragment) (*state.State, *objects.Store, error) {
	if !strings.HasSuffix(reference, ".tgz") {
		return nil, nil, fault.New(fault.Unreachable, "no repository %s", reference)
	}
	f, err := os.Open(reference)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	s, err := archive.Import(ctx, f, i.store, archive.ImportOptions{})
	return s, i.store, err
}

func partWorkspace(t *testing.T) *Workspace {
	t.Helper()
	store, err := objects.Create(filepath.Join(t.TempDir(), "objects"))
	if err != nil {
		t.Fatal(err)
	}
	w, _ := workspace(t, nil)
	w.Repository = imported{t, store}
	return w
}

func TestRecordedParts(t *testing.T) {
	t.Parallel()
	dir := recordings(t, "app")
	var cases []recordedCase
	readJSON(t, filepath.Join(dir, "pvr-source.json"), &cases)
	w := partWorkspace(t)
	repository := filepath.Join(dir, "srcrepo.tgz")
	for _, c := range cases {
		t.Run(c.Run.Cmd[len(c.Run.Cmd)-1], func(t *testing.T) {
			name, o, _ := arguments(t, w, c.Run.Cmd[3:])
			recordedFrom := o.From
			_, fragment, _ := strings.Cut(o.From, "#")
			o.From = repository + "#" + fragment
			if _, err := w.Add(context.Background(), name, o); err != nil {
				t.Fatal(err)
			}
			c.Files[rootName] = json.RawMessage(`{}`)
			var source string
			if err := json.Unmarshal(c.Files[SourceName], &source); err != nil {
				t.Fatal(err)
			}
			raw, err := json.Marshal(strings.ReplaceAll(source, recordedFrom, o.From))
			if err != nil {
				t.Fatal(err)
			}
			c.Files[SourceName] = raw
			checkFiles(t, filepath.Join(w.Dir, name), c.Files)
		})
	}
	if _, err := os.Stat(filepath.Join(w.Dir, "_config/orig/etc/c")); err != nil {
		t.Errorf("the configuration of the part: %v", err)
	}
}

func TestPartsRefused(t *testing.T) {
	t.Parallel()
	repository := filepath.Join(recordings(t, "app"), "srcrepo.tgz")
	w := partWorkspace(t)
	for from, want := range map[string]string{
		repository:              "REPOSITORY#PART",
		repository + "#nothing": "no application",
		repository + "#../x":    "fragment",
		"elsewhere#orig":        "no repository elsewhere",
	} {
		if _, err := w.Add(context.Background(), "x", AddOptions{From: from, Kind: PVR}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", from, err, want)
		}
	}
	if len(treeOf(t, w.Dir)) != 1 {
		t.Errorf("something was left: %v", treeOf(t, w.Dir))
	}
}

func TestPartUpdateKeepsWhatIsSetHere(t *testing.T) {
	t.Parallel()
	repository := filepath.Join(recordings(t, "app"), "srcrepo.tgz")
	w, ctx := partWorkspace(t), context.Background()
	if _, err := w.Add(ctx, "x", AddOptions{From: repository + "#orig", Kind: PVR, Volumes: []string{"/v:boot"}}); err != nil {
		t.Fatal(err)
	}
	before := treeOf(t, w.Dir)
	r, err := w.Update(ctx, "x", UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, treeOf(t, w.Dir)); d != "" || len(r.Written) != 0 {
		t.Errorf("an update to the same changed %v:\n%s", r.Written, d)
	}
}

func TestSourceKeepsWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	const text = `{
  "base": "b",
  "#spec": "service-manifest-src@1",
  "template": "builtin-lxc-docker",
  "args": {
   "N": 12345678901234567890
  },
  "docker_name": "n",
  "aaa": [
   1
  ],
  "zzz": null
 }`
	s, err := parseSource([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(text, string(s.Encode())); d != "" {
		t.Error(d)
	}
	for _, bad := range []string{"", "[]", `{"docker_name":1}`, `{"rootfs_url":{}}`} {
		if _, err := parseSource([]byte(bad)); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func FuzzSource(f *testing.F) {
	f.Add([]byte(`{"#spec":"service-manifest-src@1","args":{"a":1},"dm_enabled":{"v":true},"x":[{}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseSource(data)
		if err != nil {
			return
		}
		again, err := parseSource(s.Encode())
		if err != nil || string(again.Encode()) != string(s.Encode()) {
			t.Fatalf("%v\n%s\n%s", err, s.Encode(), again.Encode())
		}
	})
}

// TestDefaultIsNoLargerThanBefore compares with what mksquashfs -comp xz makes of
// programs of this machine.
func TestDefaultIsNoLargerThanBefore(t *testing.T) {
	t.Parallel()
	from, left := t.TempDir(), int64(12<<20)
	programs, err := os.ReadDir("/usr/bin")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range programs {
		data, err := os.ReadFile(filepath.Join("/usr/bin", p.Name()))
		if err != nil || !p.Type().IsRegular() || int64(len(data)) > left {
			continue
		}
		left -= int64(len(data))
		if err := os.WriteFile(filepath.Join(from, p.Name()), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	other := filepath.Join(t.TempDir(), "other")
	if out, err := exec.Command(oracle.Program(t, "mksquashfs"), from, other, "-comp", "xz", "-no-progress", "-quiet").CombinedOutput(); err != nil {
		t.Fatalf("mksquashfs: %v\n%s", err, out)
	}
	w, _ := workspace(t, nil)
	if _, err := w.Add(context.Background(), "a", AddOptions{From: from, Kind: Rootfs}); err != nil {
		t.Fatal(err)
	}
	ours, err := os.Stat(filepath.Join(w.Dir, "a", rootName))
	theirs, err2 := os.Stat(other)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	if ours.Size() > theirs.Size()+theirs.Size()/100 {
		t.Errorf("%d bytes, mksquashfs makes %d of it", ours.Size(), theirs.Size())
	}
}

func TestFormatOptions(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"-comp xz":                         "xz 0 0",
		"-comp zstd -Xcompression-level 9": "zstd 9 0",
		"-b 1M -comp gzip":                 "gzip 0 1048576",
		"-b 65536":                         "gzip 0 65536",
		"":                                 "xz 0 524288",
	} {
		f, err := parseFormat(text)
		if got := fmt.Sprintf("%v %d %d", f.squashfs.Compression, f.squashfs.Level, f.squashfs.BlockSize); err != nil || got != want {
			t.Errorf("%q: %s, %v; want %s", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"-comp lzo": "-comp lzo", "-nope": "-nope", "-b": "its value is missing", "-b 3K": "block size", "-comp xz -Xcompression-level 3": "level 3",
		"-Xcompression-level x": "-Xcompression-level x", "-root-mode 0700": "0755", "-e a -comp xz": "-e takes all words", "-b 9999999999M": "-b 9999999999M",
	} {
		if _, err := parseFormat(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", text, err, want)
		}
	}
}

func TestAddRefusesWithEverythingThatIsWrong(t *testing.T) {
	t.Parallel()
	w, _ := workspace(t, nil)
	_, err := w.Add(context.Background(), "x", AddOptions{Kind: "odd", Group: "g", RunLevel: "r", Volumes: []string{"/d"}, Args: []string{"=v"}, FormatOptions: "-zz"})
	for _, want := range []string{"--from", "--group", "type odd", `"/d"`, `"=v"`, "-zz"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	for _, name := range []string{"", "/", "..", "a/b", ".pvr", "a b", "#spec", "a\\b"} {
		if _, err := w.Add(context.Background(), name, AddOptions{From: "x"}); fault.Of(err) != fault.BadInput {
			t.Errorf("the name %q: %v", name, err)
		}
	}
}
