package debian

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/fault"
)

func entry(name, version, digest string) Entry {
	return Entry{Package: name, Version: version, Arch: "amd64", Suite: "bookworm",
		Path: "pool/main/" + name + "_" + version + ".deb", SHA256: strings.Repeat(digest, 64), Size: 10}
}

var (
	kernelReq = Request{Name: "kernel", Suite: "bookworm", Arch: "amd64", Packages: []string{"linux-image-amd64"}}
	toolReq   = Request{Name: "tools", Suite: "bookworm", Arch: "amd64", Packages: []string{"e2fsprogs"}, Closure: true}
)

func TestLockRoundTrip(t *testing.T) {
	l := &Lock{Reference: &Reference{Source: "https://hub.example.org/nick/device#app", Step: "https://hub.example.org/steps/7", SHA256: strings.Repeat("1", 64)}}
	// Values that YAML could take for numbers, dates or floats must stay text.
	odd := entry("libc6", "1.10", "1")
	odd.SHA256 = strings.Repeat("1", 30) + "e" + strings.Repeat("2", 33)
	l.replace(toolReq, []Entry{odd, entry("e2fsprogs", "2:1.47", "b"), entry("dash", "20230210-5", "3"), entry("x1", "0x10", "4"), entry("x2", "1e3", "5")})
	l.replace(kernelReq, []Entry{entry("dash", "20230210-5", "3")})
	text, err := l.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseLock(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if diff := cmp.Diff(l, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if shared, err := got.Find(kernelReq, "dash"); err != nil || len(shared.For) != 2 {
		t.Errorf("a package of two requests: %+v, %v", shared, err)
	}
	again, err := got.Bytes()
	if err != nil || !bytes.Equal(text, again) {
		t.Errorf("written again, the text differs: %v", err)
	}
}

func TestLockFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "parts.lock")
	if l, err := LoadLock(file); err != nil || len(l.Packages) != 0 {
		t.Fatalf("no file: %v, %v", l, err)
	}
	l := &Lock{}
	l.replace(kernelReq, []Entry{entry("linux-image-6.1.0-1-amd64", "1", "a")})
	if err := l.Save(file); err != nil {
		t.Fatal(err)
	}
	got, err := LoadLock(file)
	if err != nil {
		t.Fatal(err)
	}
	e, err := got.Find(kernelReq, "linux-image-*")
	if err != nil || e.Package != "linux-image-6.1.0-1-amd64" {
		t.Errorf("found %v, %v", e, err)
	}
	if _, err := got.Find(kernelReq, "firmware"); fault.Of(err) != fault.Missing {
		t.Errorf("a package that is not there: %v", err)
	}
	changed := kernelReq
	changed.Packages = []string{"linux-image-cloud-amd64"}
	if got.Entries(changed) != nil {
		t.Error("a changed request is satisfied from the lock")
	}
}

func TestParseLockRejects(t *testing.T) {
	good := &Lock{Reference: &Reference{Source: "http://192.0.2.1", SHA256: strings.Repeat("c", 64)}}
	good.replace(kernelReq, []Entry{entry("dash", "1", "a")})
	text, err := good.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string][2]string{
		"way out in path":   {"pool/main/dash_1.deb", "pool/../../etc/x.deb"},
		"absolute path":     {"pool/main/dash_1.deb", "/etc/x.deb"},
		"short digest":      {strings.Repeat("a", 64), "abc"},
		"option as package": {"package: dash", "package: --help"},
		"short reference":   {strings.Repeat("c", 64), "c"},
		"empty reference":   {"source: http://192.0.2.1", "source: \"\""},
		"unknown request":   {"for: [kernel/amd64]", "for: [other/amd64]"},
		"unknown field":     {"size:", "sizes:"},
		"zero size":         {"size: 10", "size: 0"},
		"option as suite":   {"suite: bookworm", "suite: -o"},
		"no YAML":           {"packages:", "packages: ]["},
	} {
		bad := strings.ReplaceAll(string(text), c[0], c[1])
		if bad == string(text) {
			t.Fatalf("%s: nothing replaced in\n%s", name, text)
		}
		if _, err := ParseLock([]byte(bad)); fault.Of(err) != fault.BadInput {
			t.Errorf("%s: %v, want bad input", name, err)
		}
	}
	if _, err := ParseLock(make([]byte, maxLockSize+1)); fault.Of(err) != fault.BadInput {
		t.Errorf("a huge lock: %v", err)
	}
}

func TestAllMistakesAtOnce(t *testing.T) {
	l := &Lock{Requests: []Request{kernelReq, kernelReq}, Packages: []Entry{{Package: "X"}, {Package: "ok", Version: "!"}}}
	err := l.check()
	for _, want := range []string{"twice", `"X"`, `"!"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: does not mention %s", err, want)
		}
	}
}

func FuzzParseLock(f *testing.F) {
	l := &Lock{}
	l.replace(toolReq, []Entry{entry("e2fsprogs", "2:1.47", "b")})
	text, err := l.Bytes()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := ParseLock(data)
		if err != nil {
			return
		}
		for _, e := range l.Packages {
			if strings.Contains(e.Path, "..") && strings.Contains(e.Path, "/../") || len(e.SHA256) != 64 {
				t.Fatalf("%+v", e)
			}
		}
		text, err := l.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseLock(text); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
	})
}

func TestMoved(t *testing.T) {
	e := func(name, arch, version string) Entry { return Entry{Package: name, Arch: arch, Version: version} }
	before := &Lock{Packages: []Entry{e("gone", "amd64", "1"), e("kernel", "amd64", "6.1"), e("kernel", "arm64", "6.1"), e("tool", "amd64", "1"), e("tool", "amd64", "2")}}
	after := &Lock{Packages: []Entry{e("kernel", "amd64", "6.2"), e("kernel", "arm64", "6.1"), e("new", "all", "3"), e("tool", "amd64", "1"), e("tool", "amd64", "3")}}
	want := []string{"gone:amd64 1 removed", "kernel:amd64 6.1 -> 6.2", "new:all 3 added", "tool:amd64 1, 2 -> 1, 3"}
	if diff := cmp.Diff(want, after.Moved(before)); diff != "" {
		t.Error(diff)
	}
	if same := after.Moved(after); same != nil {
		t.Errorf("a lock that did not move: %q", same)
	}
}
