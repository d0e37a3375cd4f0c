package meta

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func open(t *testing.T, o Options) *Store {
	t.Helper()
	if o.Kind == "" {
		o.Kind = User
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func set(t *testing.T, s *Store, pairs ...string) {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if err := s.Set(pairs[i], pairs[i+1]); err != nil {
			t.Fatal(err)
		}
	}
}

func list(t *testing.T, s *Store) string {
	t.Helper()
	var b strings.Builder
	if err := s.List(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestListAsClientsKnowIt(t *testing.T) {
	s := open(t, Options{})
	set(t, s, "key1", "value1", "key1", "value2", "jobj", `{"a":[1,2],"b":"c"}`, "jarr", `[1,"x"]`, "num", "42",
		"esc", "a\"b\\c\nd\te", "utf8", "héé ☃", "a.b.c", "x", "a%20b", "x", "app1.k", "for app1")
	want := `{"app1.k":"for app1","a%20b":"x","a.b.c":"x","utf8":"héé ☃","esc":"a\u0022b\u005Cc\u000Ad\u0009e","num":"42","jarr":[1,"x"],"jobj":{"a":[1,2],"b":"c"},"key1":"value2"}`
	if diff := cmp.Diff(want, list(t, s)); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
}

func TestListIsAlwaysJSON(t *testing.T) {
	s := open(t, Options{})
	for i, v := range []string{"", "{", `{"a":1} x`, "[", "\xff\xfe", "{\"a\":\"\xff\"}", "\x00\x01", "null", `"q"`, " [1] ", "\u2028"} {
		set(t, s, fmt.Sprint("k", i), v)
	}
	var out map[string]any
	if err := json.Unmarshal([]byte(list(t, s)), &out); err != nil || len(out) != 11 {
		t.Errorf("the list is not JSON object of 11 pairs: %v\n%s", err, list(t, s))
	}
}

func TestValuesSurviveAndKeepTheirOrder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache", "meta")
	s := open(t, Options{Dir: dir})
	set(t, s, "old", "1", "middle", "2", "new", "3\x00\xff")
	for i, key := range []string{"old", "middle", "new"} {
		at := time.Unix(int64(1000+i), 0)
		if err := os.Chtimes(filepath.Join(dir, key), at, at); err != nil {
			t.Fatal(err)
		}
	}
	again := open(t, Options{Dir: dir})
	if diff := cmp.Diff([]string{"new", "middle", "old"}, again.Keys()); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	if v, ok := again.Get("new"); !ok || v != "3\x00\xff" {
		t.Errorf("new = %q, %v", v, ok)
	}
	st, err := os.Stat(filepath.Join(dir, "old"))
	if err != nil || st.Mode().Perm() != 0o644 {
		t.Errorf("a key's file: %v, %v", st.Mode(), err)
	}
}

func TestKeysThatCannotBe(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	for _, key := range []string{"", ".", "..", ".hidden", "a/b/c", "a//b", "a/", "/a", "../a", "a/..", "a/.b", ".a/b", "/etc/passwd", "a\x00b", "a\nb", "\xff", strings.Repeat("k", 256), "a/" + strings.Repeat("k", 254)} {
		if err := s.Set(key, "v"); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("Set(%q) = %v, want fs.ErrInvalid", key, err)
		}
		if err := s.Delete(key); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Delete(%q) = %v, want fs.ErrNotExist", key, err)
		}
	}
	set(t, s, strings.Repeat("k", 255), "v", "%2e%2e%2f", "v")
	if files, _ := os.ReadDir(dir); len(files) != 2 {
		t.Errorf("%d files, want those of the two good keys", len(files))
	}
	if err := s.Set("big", strings.Repeat("v", maxValue+1)); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("a value above the limit: %v", err)
	}
}

func TestStoreIsBounded(t *testing.T) {
	s := open(t, Options{})
	for i := range maxKeys {
		set(t, s, fmt.Sprint(i), "v")
	}
	if err := s.Set("more", "v"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("key %d: %v, want fs.ErrInvalid", maxKeys+1, err)
	}
	set(t, s, "7", "other")
}

func TestDelete(t *testing.T) {
	dir, run := t.TempDir(), t.TempDir()
	s := open(t, Options{Dir: dir, RunDir: run})
	set(t, s, "app.k", "v")
	if err := s.Delete("app.k"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "app.k"), filepath.Join(run, "user-meta.app/k")} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", path, err)
		}
	}
	if err := s.Delete("app.k"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("deleting twice: %v", err)
	}
}

func TestContainersGetTheirKeys(t *testing.T) {
	dir, run := t.TempDir(), t.TempDir()
	s := open(t, Options{Kind: Device, Dir: dir, RunDir: run})
	set(t, s, "app.opts", "1", "app.a.b", "2", "nodot", "3", "evil..", "4", "evil...", "5", "x.", "6")
	var got []string
	_ = filepath.WalkDir(run, func(path string, d fs.DirEntry, _ error) error {
		if !d.IsDir() {
			text, _ := os.ReadFile(path)
			rel, _ := filepath.Rel(run, path)
			got = append(got, rel+"="+string(text))
		}
		return nil
	})
	slices.Sort(got)
	if diff := cmp.Diff([]string{"device-meta.app/a.b=2", "device-meta.app/opts=1"}, got); diff != "" {
		t.Errorf("copies (-want +got):\n%s", diff)
	}
	made, err := s.ContainerDir("other")
	if st, statErr := os.Stat(made); err != nil || statErr != nil || !st.IsDir() {
		t.Errorf("ContainerDir = %q, %v, %v", made, err, statErr)
	}
	for _, bad := range []string{"..", "a/b", ""} {
		if dir, err := s.ContainerDir(bad); err == nil {
			t.Errorf("ContainerDir(%q) = %q", bad, dir)
		}
	}
	if err := os.RemoveAll(filepath.Join(run, "device-meta.app")); err != nil {
		t.Fatal(err)
	}
	open(t, Options{Kind: Device, Dir: dir, RunDir: run})
	if text, err := os.ReadFile(filepath.Join(run, "device-meta.app/opts")); err != nil || string(text) != "1" {
		t.Errorf("after a restart the copy is %q, %v", text, err)
	}
}

// copies returns the files below <run> as "path=value".
func copies(t *testing.T, run string) []string {
	t.Helper()
	var got []string
	err := filepath.WalkDir(run, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		rel, _ := filepath.Rel(run, path)
		got = append(got, rel+"="+string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestKeysWithASlashBelongToAContainer(t *testing.T) {
	t.Parallel()
	dir, run := t.TempDir(), t.TempDir()
	s := open(t, Options{Dir: dir, RunDir: run})
	set(t, s, "app/opts", "1", "app/a.b", "2", "my.app/k", "3", "app.opts", "old form")
	want := []string{"user-meta.app/a.b=2", "user-meta.app/opts=old form", "user-meta.my.app/k=3"}
	if diff := cmp.Diff(want, copies(t, run)); diff != "" {
		t.Errorf("copies (-want +got):\n%s", diff)
	}
	if got := list(t, s); got != `{"app.opts":"old form","my.app/k":"3","app/a.b":"2","app/opts":"1"}` {
		t.Errorf("list: %s", got)
	}
	for i, key := range []string{"app/opts", "app/a.b", "my.app/k", "app.opts"} {
		at := time.Unix(int64(1000+i), 0)
		if err := os.Chtimes(filepath.Join(dir, key), at, at); err != nil {
			t.Fatal(err)
		}
	}
	again := t.TempDir()
	s = open(t, Options{Dir: dir, RunDir: again})
	if diff := cmp.Diff(want, copies(t, again)); diff != "" {
		t.Errorf("copies after a restart (-want +got):\n%s", diff)
	}
	for _, key := range []string{"app.opts", "app/a.b", "my.app/k"} {
		if err := s.Delete(key); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"user-meta.app/opts=1"}, copies(t, again)); diff != "" {
		t.Errorf("copies of what is left (-want +got):\n%s", diff)
	}
	if _, err := os.Lstat(filepath.Join(dir, "my.app")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory of deleted keys: %v", err)
	}
}

func TestAKeyIsNoDirectoryOfAnother(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Dir: t.TempDir()})
	set(t, s, "file", "1", "dir/k", "2")
	for _, key := range []string{"file/k", "dir"} {
		if err := s.Set(key, "v"); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("Set(%q) = %v, want fs.ErrInvalid", key, err)
		}
	}
	if err := s.Delete("dir/k"); err != nil {
		t.Fatal(err)
	}
	set(t, s, "dir", "now a key")
}

func TestChangesAreToldOnce(t *testing.T) {
	var told []string
	s := open(t, Options{Changed: func(key string) { told = append(told, key) }})
	set(t, s, "a", "1", "a", "1", "a", "2")
	if err := s.Publish("b", "1"); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete("a"); err != nil {
		t.Fatal(err)
	}
	_ = s.Delete("a")
	if diff := cmp.Diff([]string{"a", "a", "b", "a"}, told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

func TestPublishWritesOnlyWhatChanged(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	path := filepath.Join(dir, "k")
	if err := s.Publish("k", "1"); err != nil {
		t.Fatal(err)
	}
	first, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Publish("k", "1"); err != nil {
		t.Fatal(err)
	}
	second, _ := os.Stat(path)
	if !os.SameFile(first, second) {
		t.Error("an unchanged value was written again")
	}
	if err := s.Publish("k", "2"); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(path); string(text) != "2" {
		t.Errorf("the file holds %q", text)
	}
}

func TestLoadLeavesForeignFilesAlone(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "directory"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, size := range map[string]int{".hidden": 1, "huge": maxValue + 1, "good": 3} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var warned []string
	s := open(t, Options{Dir: dir, Warn: func(format string, args ...any) { warned = append(warned, fmt.Sprintf(format, args...)) }})
	if diff := cmp.Diff([]string{"good"}, s.Keys()); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	if len(warned) != 1 || !strings.Contains(warned[0], `"huge"`) {
		t.Errorf("warned %q, want one line about the huge file", warned)
	}
	if _, err := Open(Options{Kind: User, Dir: filepath.Join(dir, "good", "x")}); err == nil {
		t.Error("a store below a plain file was opened")
	}
}

func FuzzKeysStayInTheirDirectories(f *testing.F) {
	for _, s := range []string{"a.b", "..", "a..", "a/../b", "a.\x00", "é.☃"} {
		f.Add(s, "v")
	}
	f.Fuzz(func(t *testing.T, key, value string) {
		root := t.TempDir()
		s := open(t, Options{Dir: filepath.Join(root, "cache"), RunDir: filepath.Join(root, "run")})
		if err := s.Set(key, value); err != nil {
			return
		}
		if got, _ := s.Get(key); got != value {
			t.Errorf("Get(%q) = %q, want %q", key, got, value)
		}
		if !json.Valid([]byte(list(t, s))) {
			t.Errorf("list is not JSON: %s", list(t, s))
		}
		top, _ := os.ReadDir(root)
		for _, d := range top {
			if d.Name() != "cache" && d.Name() != "run" {
				t.Errorf("key %q left %s outside", key, d.Name())
			}
		}
	})
}

// TestPublishWithoutSpace publishes where no file can be written: what the device says of itself is
// true all the same.
func TestPublishWithoutSpace(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "meta")
	s := open(t, Options{Dir: dir})
	if err := errors.Join(s.Publish("status", "1"), os.RemoveAll(dir)); err != nil {
		t.Fatal(err)
	}
	if err := s.Publish("status", "2"); err == nil {
		t.Error("nothing is told of a file that cannot be written")
	}
	if v, _ := s.Get("status"); v != "2" {
		t.Errorf("the value is %s", v)
	}
	if err := s.Set("status", "3"); err == nil {
		t.Error("a value that must be durable was set")
	}
}

func TestShowWritesNothing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	if err := errors.Join(s.Publish("time", "1"), s.Show("time", "2")); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "time"))
	if v, _ := s.Get("time"); v != "2" || string(text) != "1" || err != nil {
		t.Errorf("the value is %s, the file has %s, %v", v, text, err)
	}
}
