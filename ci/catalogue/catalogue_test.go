package catalogue

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/ci/releases"
	"github.com/pantavisor/pantavisor/ci/store"
	"github.com/pantavisor/pantavisor/internal/attest"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/signing"
)

// now is the time of all additions.
var now = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

// newStore returns an empty store in a directory.
func newStore(t testing.TB) (*store.Store, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	s, err := store.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

// newRelease makes a directory as mage release does. The key may be nil.
func newRelease(t testing.TB, name, version string, key *signing.Key) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name+"-"+version)
	x := &releases.Index{Format: releases.IndexFormat, Target: name, Version: version, Board: releases.Board{Description: "Board " + name, Arch: "arm64"}}
	var files []attest.File
	write := func(file, text string) {
		path := filepath.Join(dir, filepath.FromSlash(file))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, attest.File{Name: file})
	}
	image := strings.Repeat(name+version, 1000)
	for file, text := range map[string]string{
		name + ".img": image, name + ".img.zst": "compressed " + name + version, name + ".img.bmap": "map", name + ".pvr.tgz": "bsp " + version,
		name + "-revision.pvr.tgz": "revision " + version, "sbom.json": "{}", "sbom/bsp.spdx.json": "{}",
	} {
		write(file, text)
	}
	if err := attest.Digest(t.Context(), dir, files); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(files, func(a, b attest.File) int { return strings.Compare(a.Name, b.Name) })
	for _, f := range files {
		info, err := os.Stat(filepath.Join(dir, f.Name))
		if err != nil {
			t.Fatal(err)
		}
		x.Add(f.Name, info.Size(), f.SHA256)
	}
	x.SetForms()
	text, err := x.Text()
	if err != nil {
		t.Fatal(err)
	}
	results := slices.Clone(files)
	write(releases.IndexName, string(text))
	write("report.txt", "text")
	if err := attest.Digest(t.Context(), dir, files); err != nil {
		t.Fatal(err)
	}
	if key == nil {
		err = attest.List(dir, files)
	} else {
		var s *attest.Statement
		if s, err = attest.NewStatement(&build.Report{Target: name, Recipe: &build.Recipe{}}, results, attest.Origin{}); err == nil {
			_, err = attest.Sign(dir, key, files, s, name)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func atNow() AddOptions { return AddOptions{Options: Options{Now: now}} }

// read returns a file of a directory.
func read(t testing.TB, name ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(name...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAdd(t *testing.T) {
	t.Parallel()
	s, dir := newStore(t)
	a, b := newRelease(t, "rpi", "1.0", nil), newRelease(t, "x64", "1.0", nil)
	added, err := Add(t.Context(), s, atNow(), []string{a, b})
	if err != nil {
		t.Fatal(err)
	}
	if len(added) != 2 || added[0].Channel != releases.Stable || len(added[0].Uploaded) != 12 || len(added[0].Files) != 12 {
		t.Errorf("%+v", added)
	}
	c, err := releases.ParseCatalogue([]byte(read(t, dir, releases.CatalogueName)))
	if err != nil {
		t.Fatal(err)
	}
	v := c[releases.Stable]["1.0"]
	if v == nil || v.Date != "2026-05-04 03:02" || len(v.Devices) != 2 {
		t.Fatalf("%+v", c)
	}
	d := v.Devices[0]
	for got, want := range map[string]string{
		d.Name: "rpi", d.FullImage.URL: "1.0/rpi/rpi-1.0.tar.gz", d.BSP.URL: "1.0/rpi/rpi.pvr.tgz", d.PVRExports.URL: "1.0/rpi/rpi-1.0-exports.zip", d.Release.URL: "1.0/rpi/index.json",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := tarOf(t, filepath.Join(dir, d.FullImage.URL)); cmp.Diff(map[string]string{"rpi.img": read(t, a, "rpi.img"), "rpi.img.bmap": "map"}, got) != "" {
		t.Errorf("the archive has %d files: %.200q", len(got), got)
	}
	z, err := zip.OpenReader(filepath.Join(dir, d.PVRExports.URL))
	if err != nil || len(z.File) != 2 || z.File[0].Name != "rpi-revision.pvr.tgz" || z.File[1].Name != "rpi.pvr.tgz" {
		t.Errorf("exports: %v", err)
	}
	z.Close()
	if list, err := Check(t.Context(), placeOf(s, Options{}), CheckOptions{}); err != nil || len(list) != 2 || list[0].Files != 10 {
		t.Errorf("check: %+v, %v", list, err)
	}
	// The same once more changes nothing, later on neither.
	before := tree(t, dir)
	later := atNow()
	later.Now = now.Add(time.Hour)
	again, err := Add(t.Context(), s, later, []string{a, b})
	if err != nil || len(again[0].Uploaded) != 0 {
		t.Errorf("once more: %v, %v", again, err)
	}
	if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
		t.Errorf("the same release changes the store:\n%s", diff)
	}
}

// tarOf reads a tar.gz.
func tarOf(t *testing.T, name string) map[string]string {
	t.Helper()
	z, err := gzip.NewReader(strings.NewReader(read(t, name)))
	if err != nil {
		t.Fatal(err)
	}
	out, r := map[string]string{}, tar.NewReader(z)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		out[h.Name] = string(data)
	}
}

// tree returns all files of a directory with their contents.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			out[strings.TrimPrefix(path, dir)] = read(t, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestOthersCatalogue adds to files of other programs, which stay as they are but for the addition.
func TestOthersCatalogue(t *testing.T) {
	t.Parallel()
	const others = `{
    "stable": {"0.9": [{"name":"rpi","full_image":{"url":"https://x/1","sha256":"aa"}, "x": 1.50}, {"timestamp": "then"}],
  "1.0": {"release-date": "2020-01-01 00:00", "docs": {"name": "d"}, "devices": [ {"name":"old","sdk":{"url":"u","sha256":"b"}} ], "more": {"é": "\u00e9"}}},
    "unknown" : { }
}
`
	s, dir := newStore(t)
	if _, err := s.Put(t.Context(), releases.CatalogueName, []byte(others), store.Any); err != nil {
		t.Fatal(err)
	}
	o := atNow()
	if _, err := Add(t.Context(), s, o, []string{newRelease(t, "rpi", "1.0", nil)}); err != nil {
		t.Fatal(err)
	}
	o.Channel = "stable"
	if _, err := Add(t.Context(), s, o, []string{newRelease(t, "x64", "0.9", nil)}); err != nil {
		t.Fatal(err)
	}
	text := read(t, dir, releases.CatalogueName)
	for _, same := range []string{`"full_image":{"url":"https://x/1","sha256":"aa"}, "x": 1.50}`, `{"timestamp": "then"}`, `"docs": {"name": "d"}`, `"more": {"é": "\u00e9"}`, `"unknown" : { }`, `{"name":"old","sdk":{"url":"u","sha256":"b"}}`} {
		if !strings.Contains(text, same) {
			t.Errorf("%s is not there any more:\n%s", same, text)
		}
	}
	c, err := releases.ParseCatalogue([]byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	names := func(v *releases.Version) (out []string) {
		for _, d := range v.Devices {
			out = append(out, d.Name)
		}
		return out
	}
	if got := names(c["stable"]["0.9"]); !slices.Equal(got, []string{"rpi", "x64"}) || c["stable"]["0.9"].Date != "then" {
		t.Errorf("%v", got)
	}
	if got := names(c["stable"]["1.0"]); !slices.Equal(got, []string{"old", "rpi"}) || c["stable"]["1.0"].Date != "2020-01-01 00:00" {
		t.Errorf("%v", got)
	}
	for _, name := range []string{"rpi", "x64", "old"} {
		if _, err := Remove(t.Context(), s, map[string]string{"rpi": "1.0", "x64": "0.9", "old": "1.0"}[name], RemoveOptions{Name: name}); err != nil {
			t.Error(err)
		}
	}
	text = read(t, dir, releases.CatalogueName)
	if c, err = releases.ParseCatalogue([]byte(text)); err != nil || len(c["stable"]) != 1 || len(c["stable"]["0.9"].Devices) != 1 {
		t.Errorf("after removing: %v\n%s", err, text)
	}
}

func TestAddRejects(t *testing.T) {
	t.Parallel()
	s, dir := newStore(t)
	good := newRelease(t, "rpi", "1.0", nil)
	key, other := newKey(t), newKey(t)
	signed := newRelease(t, "rpi", "2.0", key)
	changed := newRelease(t, "rpi", "3.0", nil)
	if err := os.WriteFile(filepath.Join(changed, "rpi.img"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	built := t.TempDir()
	report := build.Report{Target: "rpi"}
	if err := report.Save(built); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		dir  string
		o    func(o *AddOptions)
		kind fault.Kind
		says string
	}{
		"nothing there":    {t.TempDir(), nil, fault.Missing, "mage release"},
		"changed":          {changed, nil, fault.Digest, "rpi.img"},
		"another version":  {good, func(o *AddOptions) { o.Version = "9" }, fault.BadInput, "mage release --version=9"},
		"not signed":       {good, func(o *AddOptions) { o.Key = key.Public }, fault.Missing, "no signature"},
		"another key":      {signed, func(o *AddOptions) { o.Key = other.Public }, fault.Digest, "is not signed by"},
		"no version":       {built, nil, fault.BadInput, "--version=V"},
		"a wrong version":  {built, func(o *AddOptions) { o.Version = "../1" }, fault.BadInput, "--version"},
		"a wrong channel":  {good, func(o *AddOptions) { o.Channel = "../x" }, fault.BadInput, "valid name of a channel"},
		"a build, signed?": {built, func(o *AddOptions) { o.Key = key.Public }, fault.BadInput, "mage release --sign=KEY"},
	} {
		o := atNow()
		if c.o != nil {
			c.o(&o)
		}
		dirs := []string{good, c.dir}
		if c.dir == good || o.Key != nil {
			dirs = dirs[1:]
		}
		_, err := Add(t.Context(), s, o, dirs)
		if fault.Of(err) != c.kind || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s: %v: %v", name, fault.Of(err), err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 0 {
		t.Errorf("something was uploaded: %v", left)
	}
	o := atNow()
	o.Key = key.Public
	if _, err := Add(t.Context(), s, o, []string{signed}); err != nil {
		t.Fatal(err)
	}
	again := newRelease(t, "rpi", "2.0", nil)
	if err := os.WriteFile(filepath.Join(again, releases.IndexName), []byte(strings.Replace(read(t, again, releases.IndexName), "Board rpi", "Another", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	relist(t, again)
	if _, err := Add(t.Context(), s, atNow(), []string{again}); fault.Of(err) != fault.Different {
		t.Errorf("another release of the version: %v", err)
	}
}

// relist lists the digests of a directory anew.
func relist(t *testing.T, dir string) {
	t.Helper()
	var files []attest.File
	for name := range tree(t, dir) {
		if name = strings.TrimPrefix(name, "/"); name != build.SumsName {
			files = append(files, attest.File{Name: name})
		}
	}
	if err := attest.Digest(t.Context(), dir, files); err != nil {
		t.Fatal(err)
	}
	if err := attest.List(dir, files); err != nil {
		t.Fatal(err)
	}
}

// TestAtOnce adds releases from many pipelines; none may be lost, on the pages neither.
func TestAtOnce(t *testing.T) {
	t.Parallel()
	s, dir := newStore(t)
	const pipelines = 8
	var group sync.WaitGroup
	for i := range pipelines {
		r := newRelease(t, []string{"rpi", "x64"}[i%2], fmt.Sprintf("1.%d", i/2), nil)
		group.Go(func() {
			if _, err := Add(t.Context(), s, atNow(), []string{r}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	c, err := placeOf(s, Options{}).Catalogue(t.Context())
	if err != nil || len(c[releases.Stable]) != pipelines/2 {
		t.Fatalf("%v, %v", c, err)
	}
	for version, v := range c[releases.Stable] {
		if len(v.Devices) != 2 {
			t.Errorf("%s has %d devices", version, len(v.Devices))
		}
		for _, board := range []string{"rpi", "x64"} {
			if !strings.Contains(read(t, dir, "boards", board+".html"), "../"+version+"/"+board+"/"+board+".img.zst") {
				t.Errorf("the page of %s has no %s", board, version)
			}
		}
	}
	for _, board := range []string{"rpi", "x64"} {
		if !strings.Contains(read(t, dir, "index.html"), `href="1.3/`+board+"/") {
			t.Errorf("the first page has not the newest release of %s", board)
		}
	}
}

// TestInterrupted ends the addition at every file that it writes; the same command then completes it.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	r := newRelease(t, "rpi", "1.0", nil)
	want, wantDir := newStore(t)
	if _, err := Add(t.Context(), want, atNow(), []string{r}); err != nil {
		t.Fatal(err)
	}
	whole := tree(t, wantDir)
	for stop := 1; ; stop += 1 + stop/8 {
		s, dir := newStore(t)
		ctx, end := context.WithCancel(t.Context())
		_, err := Add(&countdown{ctx, stop, new(sync.Mutex), new(int), end}, s, atNow(), []string{r})
		end()
		if err == nil {
			if stop < 20 {
				t.Errorf("it ended after %d questions of the context only", stop)
			}
			return
		}
		if text, err := os.ReadFile(filepath.Join(dir, releases.CatalogueName)); err == nil {
			if list, err := Check(t.Context(), placeOf(s, Options{}), CheckOptions{}); err != nil || len(list) != 1 {
				t.Errorf("stopped at %d, the catalogue has a release that is not complete: %v\n%s", stop, err, text)
			}
		}
		if _, err := Add(t.Context(), s, atNow(), []string{r}); err != nil {
			t.Fatalf("stopped at %d, once more: %v", stop, err)
		}
		if diff := cmp.Diff(whole, tree(t, dir)); diff != "" {
			t.Fatalf("stopped at %d, once more:\n%s", stop, diff)
		}
	}
}

// countdown is a context that ends when it was asked for its error some times.
type countdown struct {
	context.Context
	after int
	mu    *sync.Mutex
	asked *int
	end   func()
}

func (c *countdown) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if *c.asked++; *c.asked >= c.after {
		c.end()
	}
	return c.Context.Err()
}

// newKey makes a key that signs.
func newKey(t *testing.T) *signing.Key {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := signing.Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestCheck(t *testing.T) {
	t.Parallel()
	s, dir := newStore(t)
	key, other := newKey(t), newKey(t)
	o := atNow()
	o.Public = "https://unreachable.invalid/x" // its files are read in the store all the same
	if _, err := Add(t.Context(), s, o, []string{newRelease(t, "rpi", "1.0", key), newRelease(t, "x64", "1.0", nil)}); err != nil {
		t.Fatal(err)
	}
	place := placeOf(s, o.Options)
	if list, err := Check(t.Context(), place, CheckOptions{Name: "rpi", Key: key.Public}); err != nil || !list[0].Signed {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := Check(t.Context(), place, CheckOptions{Quick: true}); err != nil {
		t.Error(err)
	}
	if _, err := Check(t.Context(), place, CheckOptions{Name: "rpi", Key: other.Public}); fault.Of(err) != fault.Digest {
		t.Errorf("another key: %v", err)
	}
	if _, err := Check(t.Context(), place, CheckOptions{Name: "x64", Key: key.Public}); fault.Of(err) != fault.Missing {
		t.Errorf("not signed: %v", err)
	}
	if _, err := Check(t.Context(), place, CheckOptions{Version: "2"}); fault.Of(err) != fault.Missing {
		t.Errorf("no such version: %v", err)
	}
	for name, text := range map[string]string{"1.0/rpi/rpi.img.zst": "changed", "1.0/rpi/sbom.json": "", "1.0/rpi/index.json": "{}", "1.0/rpi/rpi-1.0.tar.gz": "x"} {
		was := read(t, dir, name)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		list, err := Check(t.Context(), place, CheckOptions{})
		if fault.Of(err) != fault.Digest || !strings.Contains(err.Error(), filepath.Base(name)) || len(list[0].Problems) == 0 || len(list[1].Problems) != 0 {
			t.Errorf("%s was changed: %v", name, err)
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		if _, err := Check(t.Context(), place, CheckOptions{Quick: true}); fault.Of(err) != fault.Missing {
			t.Errorf("%s is not there: %v", name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(was), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRemove(t *testing.T) {
	t.Parallel()
	s, dir := newStore(t)
	one, two := newRelease(t, "rpi", "1.0", nil), newRelease(t, "rpi", "1.1", nil)
	if _, err := Add(t.Context(), s, atNow(), []string{one, two}); err != nil {
		t.Fatal(err)
	}
	o := atNow()
	o.Channel = "beta"
	if _, err := Add(t.Context(), s, o, []string{two}); err != nil {
		t.Fatal(err)
	}
	dry := RemoveOptions{Options: Options{DryRun: true}}
	if r, err := Remove(t.Context(), s, "1.0", dry); err != nil || len(r.Files) != 12 {
		t.Fatalf("%+v, %v", r, err)
	}
	if r, err := Remove(t.Context(), s, "1.1", RemoveOptions{Channel: "beta"}); err != nil || len(r.Files) != 0 {
		t.Errorf("the files are still those of another channel: %+v, %v", r, err)
	}
	if r, err := Remove(t.Context(), s, "1.1", RemoveOptions{}); err != nil || len(r.Files) != 12 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := Remove(t.Context(), s, "1.1", RemoveOptions{}); fault.Of(err) != fault.Missing {
		t.Errorf("once more: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "1.1", "rpi", "index.json")); err == nil {
		t.Error("its files are there")
	}
	if page := read(t, dir, "boards", "rpi.html"); strings.Contains(page, "1.1") || !strings.Contains(page, "1.0") {
		t.Error("its page was not changed")
	}
	if _, err := Check(t.Context(), placeOf(s, Options{}), CheckOptions{}); err != nil {
		t.Error(err)
	}
}

// TestRemoveInterrupted stops a removal at many points, and expects that it can be repeated.
func TestRemoveInterrupted(t *testing.T) {
	t.Parallel()
	both := []string{newRelease(t, "rpi", "1.0", nil), newRelease(t, "rpi", "1.1", nil)}
	full, fullDir := newStore(t)
	if _, err := Add(t.Context(), full, atNow(), both); err != nil {
		t.Fatal(err)
	}
	for _, keep := range []bool{false, true} {
		o := RemoveOptions{Name: "rpi", KeepFiles: keep}
		removed := func(ctx context.Context) (*store.Store, string, error) {
			s, dir := newStore(t)
			if err := os.CopyFS(dir, os.DirFS(fullDir)); err != nil {
				t.Fatal(err)
			}
			_, err := Remove(ctx, s, "1.0", o)
			return s, dir, err
		}
		_, dir, err := removed(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		whole := tree(t, dir)
		for stop := 1; ; stop++ {
			ctx, end := context.WithCancel(t.Context())
			var s *store.Store
			s, dir, err = removed(&countdown{ctx, stop, new(sync.Mutex), new(int), end})
			end()
			if err == nil {
				if stop < 10 {
					t.Errorf("it ended after %d questions of the context only", stop)
				}
				break
			}
			if _, err := Remove(t.Context(), s, "1.0", o); err != nil && fault.Of(err) != fault.Missing {
				t.Fatalf("stopped at %d, once more: %v", stop, err)
			}
			var list board
			if err := json.Unmarshal([]byte(read(t, dir, "boards", "rpi.json")), &list); err != nil || len(list.Releases) != 1 {
				t.Fatalf("stopped at %d, once more, the board has %d releases: %v", stop, len(list.Releases), err)
			}
			if diff := cmp.Diff(whole, tree(t, dir)); diff != "" && !keep {
				t.Fatalf("stopped at %d, once more:\n%s", stop, diff)
			}
		}
	}
}

func TestRegister(t *testing.T) {
	t.Parallel()
	s, dir := newStore(t)
	put := func(name, version string, builds ...string) {
		t.Helper()
		d := ChannelDevice{Name: name, Device: "user/" + name, Version: version}
		for _, b := range builds {
			d.Images = append(d.Images, ChannelImage{Build: b, Target: "x", Kind: "img", URL: "u" + version, SHA256: "s", Bytes: 1})
		}
		if err := register(t.Context(), s, releases.Stable, d, Options{Now: now}); err != nil {
			t.Fatal(err)
		}
	}
	put("a", "001", "default")
	put("b", "001", "default")
	put("a", "002", "default")
	put("a", "002", "debug")
	put("a", "001", "default") // a pipeline that is late
	var got map[string]struct{ Devices []ChannelDevice }
	if err := json.Unmarshal([]byte(read(t, dir, "stable.json")), &got); err != nil {
		t.Fatal(err)
	}
	list := got[releases.Stable].Devices
	if len(list) != 2 || list[0].Version != "002" || len(list[0].Images) != 2 || list[0].Device != "user/a" || list[1].Name != "b" {
		t.Errorf("%+v", list)
	}
	for _, channel := range []string{"releases", "boards", "../x", ""} {
		if err := register(t.Context(), s, channel, ChannelDevice{Name: "a", Version: "1"}, Options{}); fault.Of(err) != fault.BadInput {
			t.Errorf("channel %q: %v", channel, err)
		}
	}
}

// TestPromoted publishes two builds of a device, each twice.
func TestPromoted(t *testing.T) {
	t.Parallel()
	s, dir := newStore(t)
	for range 2 {
		for _, b := range []string{"default", "debug"} {
			built := filepath.Join(t.TempDir(), "arm-rpi3")
			if err := os.Mkdir(built, 0o755); err != nil {
				t.Fatal(err)
			}
			report := build.Report{Target: "arm-rpi3"}
			for _, name := range []string{"a.img", "a.img.zst", "a.pvr.tgz"} {
				text := []byte(b + name)
				sum := sha256.Sum256(text)
				if err := os.WriteFile(filepath.Join(built, name), text, 0o600); err != nil {
					t.Fatal(err)
				}
				report.Artefacts = append(report.Artefacts, build.Published{Path: name, Bytes: int64(len(text)), SHA256: hex.EncodeToString(sum[:])})
			}
			if err := report.Save(built); err != nil {
				t.Fatal(err)
			}
			p := Promoted{Dir: built, Device: "rpi3_initial", Hub: "rpi3_initial_stable", Build: b, Target: "arm-rpi3", Version: "019", Channel: releases.Stable}
			if _, err := p.Publish(t.Context(), s, Options{Now: now}); err != nil {
				t.Fatal(err)
			}
		}
	}
	var got map[string]struct{ Devices []ChannelDevice }
	if err := json.Unmarshal([]byte(read(t, dir, "stable.json")), &got); err != nil {
		t.Fatal(err)
	}
	list := got[releases.Stable].Devices
	if len(list) != 1 || list[0].Device != "rpi3_initial_stable" || len(list[0].Images) != 4 || list[0].Images[0].URL != "019/rpi3_initial-debug/a.img" {
		t.Errorf("%+v", list)
	}
	if _, err := Check(t.Context(), placeOf(s, Options{}), CheckOptions{Name: "rpi3_initial-debug"}); err != nil {
		t.Error(err)
	}
}

func TestServe(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	if _, err := Add(t.Context(), s, atNow(), []string{newRelease(t, "rpi", "1.0", nil)}); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(Handler(s))
	defer server.Close()
	p, err := releases.OpenPlace(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	c, err := p.Catalogue(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f, err := c.Find("rpi", "", "")
	if err != nil || f.FullImage.URL != server.URL+"/1.0/rpi/rpi-1.0.tar.gz" {
		t.Errorf("%+v, %v", f, err)
	}
	if _, err := Check(t.Context(), p, CheckOptions{}); err != nil {
		t.Error(err)
	}
	get := func(path string, header ...string) (int, string, string) {
		req := httptest.NewRequest("GET", path, nil)
		if len(header) > 0 {
			req.Header.Set("Range", header[0])
		}
		w := httptest.NewRecorder()
		Handler(s).ServeHTTP(w, req)
		return w.Code, w.Body.String(), w.Header().Get("Content-Type")
	}
	if code, body, mime := get("/"); code != 200 || !strings.Contains(body, "<h1>Releases</h1>") || mime != "text/html; charset=utf-8" {
		t.Errorf("%d %s %.100s", code, mime, body)
	}
	if code, body, _ := get("/1.0/rpi/sbom/bsp.spdx.json", "bytes=1-"); code != 206 || body != "}" {
		t.Errorf("%d %q", code, body)
	}
	for _, path := range []string{"/none", "/.lock", "/../x", "/boards", "/1.0/rpi/"} {
		if code, _, _ := get(path); code != 404 {
			t.Errorf("%s: %d", path, code)
		}
	}
}

func TestDryRun(t *testing.T) {
	t.Parallel()
	s, dir := newStore(t)
	o := atNow()
	o.DryRun = true
	added, err := Add(t.Context(), s, o, []string{newRelease(t, "rpi", "1.0-rc1", nil)})
	if err != nil || len(added) != 1 || added[0].Channel != releases.Candidate || len(added[0].Files) != 7 {
		t.Errorf("%+v, %v", added, err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("something was written")
	}
}

// manyReleases is a catalogue of 5,000 releases: 250 versions of 20 boards.
func manyReleases(b *testing.B) *store.Store {
	b.Helper()
	s, _ := newStore(b)
	var x releases.Index
	text := read(b, newRelease(b, "board-00", "1.0", nil), releases.IndexName)
	if err := json.Unmarshal([]byte(text), &x); err != nil {
		b.Fatal(err)
	}
	c := releases.Catalogue{releases.Stable: {}}
	link := func(v, n, f string) *releases.Link {
		return &releases.Link{URL: "https://images.example/project/" + v + "/" + n + "/" + f, SHA256: strings.Repeat("0123456789abcdef", 4)}
	}
	all := &boards{Format: boardsFormat, Boards: map[string]*summary{}}
	for n := range 20 {
		name := fmt.Sprintf("board-%02d", n)
		bd := &board{Format: boardFormat, Name: name}
		for v := range 250 {
			version := fmt.Sprintf("%d.%d", 1+v/10, v%10)
			if c[releases.Stable][version] == nil {
				c[releases.Stable][version] = &releases.Version{Date: "2026-01-01 00:00"}
			}
			c[releases.Stable][version].Devices = append(c[releases.Stable][version].Devices, releases.Device{
				Name: name, FullImage: link(version, name, "f.tar.gz"), PVRExports: link(version, name, "e.zip"), BSP: link(version, name, "b.pvr.tgz"), Release: link(version, name, "index.json"),
			})
			bd.Releases = append(bd.Releases, Entry{Channel: releases.Stable, Version: version, Date: "2026-01-01 00:00", IndexSHA256: strings.Repeat("0", 64), Index: &x})
		}
		putJSON(b, s, boardName(name), bd)
		all.Boards[name] = bd.summary()
	}
	putJSON(b, s, boardsName, all)
	putJSON(b, s, releases.CatalogueName, c)
	return s
}

func putJSON(b *testing.B, s *store.Store, name string, v any) {
	b.Helper()
	text, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		_, err = s.Put(b.Context(), name, text, store.Any)
	}
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkAdd adds to a catalogue of 5,000 releases.
func BenchmarkAdd(b *testing.B) {
	s := manyReleases(b)
	dirs := []string{newRelease(b, "board-07", "9.9.1", nil), newRelease(b, "board-07", "9.9.2", nil)}
	i := 0
	var spent time.Duration
	for b.Loop() {
		began := processorTime(b)
		if _, err := Add(b.Context(), s, atNow(), dirs[i%2:i%2+1]); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		spent += processorTime(b) - began
		if _, err := Remove(b.Context(), s, fmt.Sprintf("9.9.%d", 1+i%2), RemoveOptions{}); err != nil {
			b.Fatal(err)
		}
		i++
		b.StartTimer()
	}
	b.ReportMetric(float64(spent.Microseconds())/1000/float64(i), "cpu-ms/op")
}

// processorTime is the time that this process has used of processors.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		b.Fatal(err)
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

func TestSplice(t *testing.T) {
	t.Parallel()
	set := func(text string) func([]byte) ([]byte, error) {
		return func([]byte) ([]byte, error) { return []byte(text), nil }
	}
	drop := func([]byte) ([]byte, error) { return nil, nil }
	for _, c := range []struct {
		text, key string
		do        func([]byte) ([]byte, error)
		want      string
	}{
		{`{}`, "a", set("1"), "{\n  \"a\": 1\n}"},
		{`{ }`, "a", set("1"), "{\n  \"a\": 1\n}"},
		{`{"b":2}`, "a", set("1"), "{\"b\":2,\n  \"a\": 1}"},
		{`{"a":{"a":[1,"}"]},"b":"\"}"}`, "a", set("1"), `{"a":1,"b":"\"}"}`},
		{`{"a":-1.5e3 ,"b":true}`, "a", set("{}"), `{"a":{} ,"b":true}`},
		{`{"\u0061":1,"b":null}`, "a", drop, `{"b":null}`},
		{`{"a":1, "b":2, "c":3}`, "b", drop, `{"a":1, "c":3}`},
		{`{"a":1, "b":2}`, "b", drop, `{"a":1}`},
		{`{"b":2}`, "b", drop, `{}`},
		{`{"b":2}`, "x", drop, `{"b":2}`},
	} {
		got, err := edit([]byte(c.text), c.key, "  ", c.do)
		if string(got) != c.want || err != nil || !json.Valid(got) {
			t.Errorf("edit(%s, %s): %s, %v; want %s", c.text, c.key, got, err, c.want)
		}
	}
	for _, text := range []string{`[]`, `1`, `null`} {
		if _, err := edit([]byte(text), "a", "", set("1")); fault.Of(err) != fault.BadInput {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// FuzzChange changes any JSON: what comes out is valid, and has the release and what it had before.
func FuzzChange(f *testing.F) {
	f.Add([]byte(`{"stable":{"1":{"devices":[{"name":"x"}]}}}`))
	f.Add([]byte(`{"stable":{"1":[{"name":"x"},{"timestamp":"t"}]}, "a":"\"{"}`))
	f.Add([]byte(`{"stable":{}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		out, err := change(text, "stable", "1", func(old []byte) ([]byte, error) { return withDevice(old, "d", releases.Device{Name: "new"}) })
		if err != nil {
			return
		}
		if !json.Valid(out) {
			t.Fatalf("%q became %q", text, out)
		}
		c, err := releases.ParseCatalogue(out)
		if err != nil { // it was not one before
			return
		}
		if _, err := c.Find("new", "stable", "1"); err != nil {
			t.Fatalf("%v: %q became %q", err, text, out)
		}
		back, err := change(out, "stable", "1", func(old []byte) ([]byte, error) { return withoutDevice(old, "new") })
		if err != nil || !json.Valid(back) || bytes.Contains(back, []byte(`"new"`)) && !bytes.Contains(text, []byte("new")) {
			t.Fatalf("%v: %q became %q", err, out, back)
		}
	})
}
