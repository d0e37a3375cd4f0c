package scan

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/formats/tree"
	"github.com/pantavisor/pantavisor/sbom"
)

const root = "Package-root"

// files is a root file system: contents by path; "-> TARGET" is a symbolic link.
type files map[string]string

func (f files) walk() Walk {
	set := tree.Set{}
	for name, text := range f {
		if target, link := strings.CutPrefix(text, "-> "); link {
			set.Put(tree.Symlink(name, target))
			continue
		}
		set.Put(tree.Bytes(name, 0o644, []byte(text)))
	}
	set.Complete()
	return entries(set.Sorted())
}

func entries(list []tree.Entry) Walk {
	return func(_ context.Context, do func(tree.Entry) error) error {
		for _, e := range list {
			if err := do(e); err != nil {
				return err
			}
		}
		return nil
	}
}

// found is what a scan finds, for people: packages with what contains them, files, and notes.
func found(t *testing.T, walk Walk) (*Result, []string) {
	t.Helper()
	r, err := Scan(t.Context(), walk, Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{root: "root"}
	for _, p := range r.Document.Packages {
		names[p.ID] = p.Name
	}
	var out []string
	for _, p := range r.Document.Packages {
		line := p.PURL
		if p.SourceName != "" {
			line += " of " + p.SourceName + " " + p.SourceVersion
		}
		if p.Declared != "" {
			line += " under " + refless(p.Declared)
		}
		for _, rel := range r.Document.Relations {
			if rel.To == p.ID && rel.Kind == sbom.Contains && rel.From != root {
				line += " in " + names[rel.From]
			}
		}
		out = append(out, line)
	}
	for _, f := range r.Document.Files {
		out = append(out, f.Name)
	}
	slices.Sort(out)
	return r, append(out, r.Notes...)
}

// refless removes the digests from LicenseRefs.
func refless(expression string) string {
	words := strings.Fields(expression)
	for i, w := range words {
		if strings.Contains(w, "LicenseRef-") {
			words[i] = w[:strings.LastIndexByte(w, '-')]
		}
	}
	return strings.Join(words, " ")
}

const debianRelease = "ID=debian\nNAME=\"Debian GNU/Linux\"\nVERSION_ID='12'\nPRETTY_NAME=\"Debian \\\"12\\\"\"\n# ID=x\n"

func TestDpkg(t *testing.T) {
	t.Parallel()
	r, got := found(t, files{
		"usr/lib/os-release": debianRelease, "etc/os-release": "-> ../usr/lib/os-release",
		"bin": "-> usr/bin", "lib": "-> usr/lib",
		"var/lib/dpkg/status": `Package: bash
Status: install ok installed
Architecture: amd64
Version: 5.2.15-2+b2
Source: bash (5.2.15-2)
Description: a shell
 with: a continuation

Package: libc6
Status: install ok half-configured
Architecture: amd64
Version: 1:2.36-9
Source: glibc

Package: gone
Status: deinstall ok config-files
Version: 1
Architecture: amd64
`,
		"var/lib/dpkg/info/bash.list":        "/.\n/bin\n/bin/bash\n/usr/bin\n/etc/gone\n/etc/skel/.bashrc\n/bin/moved\n",
		"var/lib/dpkg/info/bash.postinst":    "#!/bin/sh",
		"var/lib/dpkg/info/libc6:amd64.list": "/lib/libc.so.6\n/usr/lib/x.py\n",
		"var/lib/dpkg/diversions":            "/bin/moved\n/bin/moved.bash\nlibc6\n",
		"usr/bin/moved":                      "by libc6", "usr/bin/moved.bash": "of bash",
		"usr/bin/bash": "ELF", "etc/skel/.bashrc": "x", "usr/lib/libc.so.6": "ELF", "usr/lib/x.py": "", "usr/lib/__pycache__/x.cpython-311.pyc": "",
		"usr/share/doc/bash":            "-> libc6",
		"usr/share/doc/libc6/copyright": "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: LGPL-2.1+\nCopyright: FSF\n",
		"etc/passwd":                    "root", "usr/local/bin/tool": "#!",
	}.walk())
	want := []string{
		"etc/passwd",
		"pkg:deb/debian/bash@5.2.15-2%2Bb2?arch=amd64&distro=debian-12 of bash 5.2.15-2 under LGPL-2.1-or-later",
		"pkg:deb/debian/libc6@1:2.36-9?arch=amd64&distro=debian-12 of glibc 1:2.36-9 under LGPL-2.1-or-later",
		"pkg:generic/debian@12",
		"usr/bin/moved",
		"usr/lib/os-release",
		"usr/local/bin/tool",
		"usr/share/doc/libc6/copyright",
		"var/lib/dpkg/diversions",
		"var/lib/dpkg/status",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	bash, ok := r.Owner("/bin/bash")
	if again, _ := r.Owner("usr/bin/bash"); !ok || again != bash || !strings.HasPrefix(bash, "Package-bash") {
		t.Errorf("%q, %q owns bash", bash, again)
	}
	if id, ok := r.Owner("etc/passwd"); ok {
		t.Errorf("%s owns what no list has", id)
	}
	if p := r.Document.Packages[0]; p.Comment != `Debian "12"` || p.Purpose != sbom.OperatingSystem {
		t.Errorf("%+v", p)
	}
}

// TestDistroless has a paragraph for each package in a file of its own.
func TestDistroless(t *testing.T) {
	t.Parallel()
	_, got := found(t, files{
		"var/lib/dpkg/status.d/base":         "Package: base-files\nVersion: 12.4\nArchitecture: all\n",
		"var/lib/dpkg/status.d/base.md5sums": "0123  etc/issue\n",
		"var/lib/dpkg/status.d/base-files":   "Package: base-files\nVersion: 12.4\nArchitecture: all\n",
		"etc/issue":                          "x",
	}.walk())
	if want := []string{"etc/issue", "pkg:deb/debian/base-files@12.4?arch=all of base-files 12.4", "var/lib/dpkg/status.d/base", "var/lib/dpkg/status.d/base.md5sums"}; !slices.Equal(got, want) {
		t.Error(cmp.Diff(want, got))
	}
}

func TestApk(t *testing.T) {
	t.Parallel()
	_, got := found(t, files{
		"etc/os-release": "ID=alpine\nVERSION_ID=3.20.1\nNAME=\"Alpine Linux\"",
		"lib/apk/db/installed": "C:Q1abc\nP:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\no:musl\nF:lib\nR:ld-musl-x86_64.so.1\nZ:Q1x\n\n" +
			"P:busybox\nV:1.36.1-r29\nA:x86_64\nL:GPL-2.0-only AND custom\no:busybox\nF:bin\nR:busybox\nF:\nR:top\n\nP:old\nV:1\nL:GPL2 BSD-3-Clause\n",
		"lib/ld-musl-x86_64.so.1": "ELF", "bin/busybox": "ELF", "bin/sh": "-> /bin/busybox", "top": "", "srv/app": "x",
	}.walk())
	want := []string{
		"etc/os-release", "lib/apk/db/installed",
		"pkg:apk/alpine/busybox@1.36.1-r29?arch=x86_64&distro=alpine-3.20.1 of busybox 1.36.1-r29 under GPL-2.0-only AND LicenseRef-custom",
		"pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64&distro=alpine-3.20.1 of musl 1.2.5-r0 under MIT",
		"pkg:apk/alpine/old@1?distro=alpine-3.20.1 under BSD-3-Clause AND GPL-2.0-only",
		"pkg:generic/alpine@3.20.1", "srv/app",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestOpkg(t *testing.T) {
	t.Parallel()
	_, got := found(t, files{
		"etc/os-release":                 "ID=poky\nVERSION_ID=5.0",
		"var/lib/opkg/status":            "Package: zlib\nVersion: 1.3-r0\nStatus: install user installed\nArchitecture: cortexa53\n\nPackage: no\nVersion: 1\nStatus: deinstall hold not-installed\n",
		"var/lib/opkg/info/zlib.control": "Package: zlib\nLicense: Zlib & MIT\nSource: zlib_1.3.bb\n",
		"var/lib/opkg/info/zlib.list":    "/usr/lib/libz.so.1\t0120777\tlibz.so.1.3\n/usr/lib/libz.so.1.3\t0100755\n",
		"usr/lib/libz.so.1.3":            "ELF", "usr/lib/libz.so.1": "-> libz.so.1.3",
	}.walk())
	want := []string{
		"etc/os-release", "pkg:generic/poky@5.0",
		"pkg:opkg/poky/zlib@1.3-r0?arch=cortexa53&distro=poky-5.0 of zlib  under MIT AND Zlib", "var/lib/opkg/status",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// rpmPackages is a database in the form of SUSE with one package; package rpmdb tests the forms.
func rpmPackages() string {
	be, le := binary.BigEndian, binary.LittleEndian
	var index, data []byte
	for i, s := range []string{"bash", "5.1", "2.el9", "x86_64", "GPLv3+", "bash-5.1-2.el9.src.rpm", "/bin/bash"} {
		tag, kind := []uint32{1000, 1001, 1002, 1022, 1014, 1044, 1027}[i], uint32(6)
		if tag == 1027 {
			kind = 8
		}
		for _, v := range []uint32{tag, kind, uint32(len(data)), 1} {
			index = be.AppendUint32(index, v)
		}
		data = append(append(data, s...), 0)
	}
	header := be.AppendUint32(be.AppendUint32(nil, uint32(len(index)/16)), uint32(len(data)))
	header = append(append(header, index...), data...)
	page := make([]byte, 4096)
	copy(page, "RpmP")
	page[12] = 1
	for at := 32; at < len(page); at += 16 {
		copy(page[at:], "Slot")
	}
	page[36], page[41] = 1, 1 // block 256, behind the page
	blob := append([]byte("BlbS\x01\x00\x00\x00\x00\x00\x00\x00"), le.AppendUint32(nil, uint32(len(header)))...)
	return string(page) + string(blob) + string(header)
}

func TestRPM(t *testing.T) {
	t.Parallel()
	release := "ID=rocky\nVERSION_ID=9.4\nNAME=Rocky\n"
	_, got := found(t, files{
		"etc/os-release": release, "var/lib/rpm": "-> ../../usr/lib/sysimage/rpm", "usr/lib/sysimage/rpm/Packages.db": rpmPackages(),
		"usr/bin/bash": "ELF", "bin": "-> usr/bin",
	}.walk())
	want := []string{
		"etc/os-release", "pkg:generic/rocky@9.4",
		"pkg:rpm/rocky/bash@5.1-2.el9?arch=x86_64&distro=rocky-9.4 of bash 5.1-2.el9 under GPL-3.0-or-later", "usr/lib/sysimage/rpm/Packages.db",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	_, got = found(t, files{"var/lib/rpm/Packages.db": rpmPackages()[:4200]}.walk())
	if len(got) != 2 || !strings.Contains(got[1], "var/lib/rpm/Packages.db: ") || !strings.Contains(got[1], "damaged") {
		t.Errorf("a damaged database: %q", got)
	}
}

// TestGo scans this test's own program, which is a Go program with modules, as of a package.
func TestGo(t *testing.T) {
	t.Parallel()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	own, err := tree.File(program, "usr/bin/program")
	if err != nil {
		t.Fatal(err)
	}
	forwards := own
	forwards.Name, forwards.Open = "opt/program", func() (io.ReadCloser, error) {
		r, err := own.Open()
		return struct{ io.ReadCloser }{r}, err // without ReadAt
	}
	other := tree.Bytes("usr/bin/other", 0o755, slices.Concat([]byte("\x7fELF"), make([]byte, minProgram)))
	data := own
	data.Name, data.Mode = "srv/data", 0o644
	list := []tree.Entry{
		forwards, other, own, data, tree.Bytes("usr/lib/apk/db/installed", 0o644, []byte("P:demo\nV:1\nA:x\nF:usr/bin\nR:program\n")),
	}
	_, got := found(t, entries(list))
	var modules, in int
	for _, line := range got {
		if strings.HasPrefix(line, "pkg:golang/") {
			modules++
		}
		if strings.HasSuffix(line, " in demo") {
			in++
		}
	}
	text := strings.Join(got, "\n")
	for _, want := range []string{"pkg:golang/github.com/pantavisor/pantavisor", "pkg:golang/stdlib@", "usr/bin/other", "srv/data"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
	if modules != 2 || in != modules || strings.Contains(text, "\nopt/program") {
		t.Errorf("%d modules, %d in the package:\n%s", modules, in, text)
	}
}

// TestModules has build information with modules, one of them replaced.
func TestModules(t *testing.T) {
	t.Parallel()
	_, files := found(t, files{}.walk())
	if len(files) != 0 {
		t.Fatalf("%q in an empty tree", files)
	}
	r, err := Scan(t.Context(), entries(nil), Options{Root: root, Prefix: "app/"})
	if err != nil {
		t.Fatal(err)
	}
	info := &debug.BuildInfo{
		GoVersion: "go1.26.0 X:nodwarf5", Path: "example.com/m/v2/cmd/x", Main: debug.Module{Path: "example.com/m/v2", Version: "(devel)"},
		Deps: []*debug.Module{
			{Path: "example.com/a", Version: "v1.0.0", Sum: "h1:abc="},
			{Path: "example.com/b", Version: "v1.0.0", Replace: &debug.Module{Path: "example.com/fork", Version: "v1.0.1"}},
			{Path: "evil\n", Version: "v1"},
		},
		Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "0123"}, {Key: "-ldflags", Value: "secret"}},
	}
	for _, name := range []string{"bin/x", "bin/y"} {
		r.s.goProgram(&entry{name: name}, info)
	}
	var got []string
	ids := map[string]string{}
	for _, p := range r.Document.Packages {
		ids[p.ID] = p.Name
		got = append(got, strings.Join(append([]string{p.PURL, p.Comment}, p.Paths...), " "))
	}
	for _, rel := range r.Document.Relations {
		if rel.Kind == sbom.DependsOn {
			got = append(got, ids[rel.From]+" needs "+ids[rel.To])
		}
	}
	want := []string{
		"pkg:golang/example.com/m/v2#cmd/x vcs.revision=0123 app/bin/x app/bin/y", "pkg:golang/example.com/a@v1.0.0 go.sum: h1:abc=", "pkg:golang/example.com/fork@v1.0.1 ",
		"pkg:golang/stdlib@1.26.0 ",
		"example.com/m/v2 needs example.com/a", "example.com/m/v2 needs example.com/fork", "example.com/m/v2 needs stdlib",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestManyCopies has one package in very many places. With a list that is sorted for each of them it takes
// minutes.
func TestManyCopies(t *testing.T) {
	t.Parallel()
	const copies, atMost = 100_000, 30 * time.Second
	start := time.Now()
	r, err := Scan(t.Context(), func(_ context.Context, do func(tree.Entry) error) error {
		for i := range copies {
			if err := do(tree.Bytes(fmt.Sprintf("%06d/node_modules/a/package.json", copies-1-i), 0o644, []byte(`{"name":"a","version":"1"}`))); err != nil {
				return err
			}
		}
		return nil
	}, Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	if p := r.Document.Packages; len(p) != 1 || len(p[0].Paths) != copies || !slices.IsSorted(p[0].Paths) {
		t.Errorf("%d packages", len(p))
	}
	if took := time.Since(start); took > atMost {
		t.Errorf("it took %s", took)
	}
}

// TestCancelled: a file that is endless for all purposes does not keep a scan from ending.
func TestCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	endless := tree.Entry{Name: "zeros", Mode: 0o644, Size: 1 << 60, Open: func() (io.ReadCloser, error) {
		cancel()
		return io.NopCloser(io.LimitReader(zeros{}, 1<<40)), nil
	}}
	_, err := Scan(ctx, func(_ context.Context, do func(tree.Entry) error) error { return do(endless) }, Options{Root: root})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestPython(t *testing.T) {
	t.Parallel()
	site := "usr/lib/python3.11/site-packages/"
	_, got := found(t, files{
		site + "Foo_Bar-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: Foo_Bar\nVersion: 1.0\nLicense-Expression: MIT OR Apache-2.0\n\nName: not this\n",
		site + "Foo_Bar-1.0.dist-info/RECORD":   "foo/__init__.py,sha256=x,1\r\n\"foo/a,b.py\",,\n../../../bin/foo,,\n../../../../etc/shadow,,\n../../../../../../../etc/above,,\n",
		site + "Foo_Bar-1.0.dist-info/WHEEL":    "x",
		site + "foo/__init__.py":                "", site + "foo/a,b.py": "", site + "foo/__pycache__/__init__.cpython-311.pyc": "", "usr/bin/foo": "#!",
		"etc/above":                               "x",
		site + "old.egg-info/PKG-INFO":            "Name: old\nVersion: 2\nLicense: UNKNOWN\nClassifier: Topic :: Any\nClassifier: License :: OSI Approved :: MIT License\n",
		site + "old.egg-info/installed-files.txt": "../old.py\n",
		site + "old.py":                           "",
		site + "single.egg-info":                  "Name: single\nVersion: 3\nLicense: Copyright me\n        all rights\n        reserved\n",
		site + "empty.dist-info/METADATA":         "no metadata",
	}.walk())
	want := []string{
		"pkg:pypi/foo-bar@1.0 under Apache-2.0 OR MIT", "pkg:pypi/old@2 under MIT", "pkg:pypi/single@3 under LicenseRef-single-licence",
		site + "empty.dist-info/METADATA",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestNPM(t *testing.T) {
	t.Parallel()
	_, got := found(t, files{
		"app/node_modules/a/package.json":                   `{"name":"a","version":"1.0.0","license":"(MIT OR Apache-2.0)"}`,
		"app/node_modules/a/index.js":                       "x",
		"app/node_modules/a/dist/package.json":              `{"name":"inner","version":"9"}`,
		"app/node_modules/a/node_modules/@s/b/package.json": `{"name":"@s/b","version":"2.0.0","licenses":[{"type":"MIT"},{"type":"ISC"}]}`,
		"app/node_modules/a/node_modules/@s/b/lib/x.js":     "x",
		"app/node_modules/c/package.json":                   `{"name":"c","version":"3","license":{"type":"BSD-2-Clause"}}`,
		"app/node_modules/broken/package.json":              `{"name":`,
		"app/node_modules/.bin/package.json":                `{"name":"no","version":"1"}`,
		"app/package.json":                                  `{"name":"app","version":"1"}`,
		"usr/share/nodejs/node_modules/see/package.json":    `{"name":"see","version":"1","license":"SEE LICENSE IN x.txt"}`,
		"usr/share/nodejs/node_modules/empty/package.json":  `{"type":"module"}`,
	}.walk())
	notes := slices.DeleteFunc(slices.Clone(got), func(s string) bool { return !strings.Contains(s, " is not valid: ") })
	if len(notes) != 1 || !strings.Contains(notes[0], "broken") {
		t.Errorf("notes: %q", notes)
	}
	want := []string{
		"app/node_modules/.bin/package.json", "app/node_modules/broken/package.json", "app/package.json",
		"pkg:npm/%40s/b@2.0.0 under ISC OR MIT", "pkg:npm/a@1.0.0 under Apache-2.0 OR MIT", "pkg:npm/c@3 under BSD-2-Clause",
		"pkg:npm/see@1 under LicenseRef-see-x.txt", "usr/share/nodejs/node_modules/empty/package.json",
	}
	if diff := cmp.Diff(want, got[:len(got)-1]); diff != "" {
		t.Error(diff)
	}
}

// TestUpdatedInPlace has a package of npm that another package manager has installed and that has changed
// since.
func TestUpdatedInPlace(t *testing.T) {
	t.Parallel()
	_, got := found(t, files{
		"lib/apk/db/installed":                  "P:npm\nV:1\nF:usr/lib/node_modules/npm\nR:package.json\n",
		"usr/lib/node_modules/npm/package.json": `{"name":"npm","version":"2"}`, "usr/lib/node_modules/npm/new.js": "x",
	}.walk())
	if want := []string{"lib/apk/db/installed", "pkg:apk/alpine/npm@1", "pkg:npm/npm@2 in npm"}; !slices.Equal(got, want) {
		t.Error(cmp.Diff(want, got))
	}
}

// TestLinks has links that lead to themselves, out of the tree and far.
func TestLinks(t *testing.T) {
	t.Parallel()
	tr := files{
		"etc/os-release": "-> /etc/os-release", "usr/lib/os-release": "-> ../../../../../../etc/real", "etc/real": "ID=demo",
		"a": "-> b", "b": "-> a", "lib": "-> a/x", "var/lib/dpkg": "-> /elsewhere", "elsewhere/status": "Package: p\nVersion: 1\nStatus: install ok installed\n",
		"elsewhere/info/p.list": "/a/x\n/lib/y\n/../../etc/real\n",
	}
	r, got := found(t, tr.walk())
	want := []string{"elsewhere/status", "pkg:deb/demo/p@1?distro=demo of p 1", "pkg:generic/demo"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if id, ok := r.Owner("a/b/c"); ok {
		t.Errorf("%s owns a name that leads nowhere", id)
	}
}

// TestHostile has databases that are not what they should be.
func TestHostile(t *testing.T) {
	t.Parallel()
	var many strings.Builder
	for i := range maxPackages + 500 {
		fmt.Fprintf(&many, "P:p%d\nV:1\n\n", i)
	}
	for name, c := range map[string]struct {
		tree files
		want string
	}{
		"control characters": {files{"lib/apk/db/installed": "P:a\x1b[31m\nV:1\n\nP:b\nV:1\x00\n\nP:" + strings.Repeat("x", 5000) + "\nV:1\n"}, "such names are not valid"},
		"not UTF-8":          {files{"var/lib/dpkg/status": "Package: \xff\nStatus: install ok installed\nVersion: 1\n"}, "such names are not valid"},
		"no version":         {files{"etc/os-release": "ID=a b\n"}, `the ID "a b" is not valid`},
		"a million packages": {files{"lib/apk/db/installed": many.String()}, fmt.Sprintf("more than %d", maxPackages)},
		"a huge document":    {files{"x/node_modules/y/package.json": strings.Repeat(" ", maxDocument+1)}, "what it says is not described"},
		"a huge database":    {files{"var/lib/dpkg/status": strings.Repeat("Package: a\n", maxDatabase/11+9)}, "what comes after"},
	} {
		r, err := Scan(t.Context(), c.tree.walk(), Options{Root: root})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(r.Notes, func(s string) bool { return strings.Contains(s, c.want) }) {
			t.Errorf("%s: %.300q", name, r.Notes)
		}
		if len(r.Document.Packages) > maxPackages || len(r.Notes) > maxNotes+1 {
			t.Errorf("%s: %d packages, %d notes", name, len(r.Document.Packages), len(r.Notes))
		}
	}
}

// TestNames has names of files that a document cannot have as they are.
func TestNames(t *testing.T) {
	t.Parallel()
	_, got := found(t, files{"a\nb": "", "c\xff": "", "ü ö": "", `d\n`: ""}.walk())
	want := []string{`a\x0ab`, `c\xff`, `d\n`, "ü ö"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestManyFiles has more files of no package than are listed.
func TestManyFiles(t *testing.T) {
	t.Parallel()
	tr := files{"etc/a": "a", "etc/b": "b", "top": "t", "opt/small/x": "x"}
	for i := range maxFiles {
		tr[fmt.Sprintf("opt/large/%d/%d", i%10, i)] = "x"
	}
	r, err := Scan(t.Context(), tr.walk(), Options{Root: root, Prefix: "app/root.squashfs/"})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Document.Files) > maxFiles {
		t.Errorf("%d files", len(r.Document.Files))
	}
	byName := map[string]sbom.File{}
	for _, f := range r.Document.Files {
		byName[f.Name] = f
	}
	for _, name := range []string{"etc/a", "etc/b", "top", "opt/small/x"} {
		if f, ok := byName["app/root.squashfs/"+name]; !ok || f.Size != 1 {
			t.Errorf("%s is not listed: %+v", name, f)
		}
	}
	d := byName["app/root.squashfs/opt/large/9/"]
	if d.Size != maxFiles/10 || !strings.HasPrefix(d.Comment, "200 files") {
		t.Errorf("%+v", d)
	}
	tr["opt/large/9/9"] = "y"
	changed, err := Scan(t.Context(), tr.walk(), Options{Root: root, Prefix: "app/root.squashfs/"})
	if err != nil {
		t.Fatal(err)
	}
	if slices.Equal(changed.Document.Files, r.Document.Files) {
		t.Error("another content of a file has the same digest")
	}
}

// TestErrors has files that cannot be read, and a scan that is cancelled.
// TestMuchData has a file with data of a package under very many names, as hard links are.
func TestMuchData(t *testing.T) {
	t.Parallel()
	text := make([]byte, maxDocument)
	copy(text, "Name: a\nVersion: 1\n\n")
	const fits = maxRead / maxDocument
	var list []tree.Entry
	reads := 0
	for i := range fits + 50 {
		e := tree.Bytes(fmt.Sprintf("%03d.dist-info/METADATA", i), 0o644, text)
		open := e.Open
		e.Open = func() (io.ReadCloser, error) { reads++; return open() }
		if i > 0 {
			e.HardLink = list[0].Name
		}
		list = append(list, e)
	}
	r, err := Scan(t.Context(), entries(list), Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Notes) != 1 || !strings.Contains(r.Notes[0], fmt.Sprintf("%03d.dist-info/METADATA", fits)) {
		t.Errorf("notes %q", r.Notes)
	}
	if reads > fits+1 || len(r.Document.Packages) != 1 {
		t.Errorf("%d reads, %d packages", reads, len(r.Document.Packages))
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	bad := tree.Bytes("etc/os-release", 0o644, []byte("ID=x"))
	bad.Open = func() (io.ReadCloser, error) { return nil, fs.ErrPermission }
	if _, err := Scan(t.Context(), entries([]tree.Entry{bad}), Options{}); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "etc/os-release") {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Scan(ctx, files{"a": "x"}.walk(), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestDirectory scans a directory twice, in which dpkg is a link out of it.
func TestDirectory(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{
		path.Join(dir, "etc/os-release"): debianRelease, path.Join(dir, "lib/apk/db/installed"): "P:a\nV:1\n", path.Join(outside, "status"): "Package: x\nVersion: 1\nStatus: install ok installed\n",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "var/lib"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "var/lib/dpkg")); err != nil {
		t.Fatal(err)
	}
	walk := func(ctx context.Context, do func(tree.Entry) error) error {
		return tree.Walk(ctx, dir, tree.Options{}, do)
	}
	first, got := found(t, walk)
	second, _ := found(t, walk)
	if diff := cmp.Diff([]string{"etc/os-release", "lib/apk/db/installed", "pkg:apk/debian/a@1?distro=debian-12", "pkg:generic/debian@12"}, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(first.Document, second.Document); diff != "" {
		t.Error(diff)
	}
}

// FuzzScan has one text as each database that is read.
func FuzzScan(f *testing.F) {
	for _, text := range []string{
		debianRelease, "Package: a\nStatus: install ok installed\nVersion: 1\nSource: b (2)\nLicense: MIT & x\n\n", "P:a\nV:1\nL:MIT\nF:b\nR:c\n",
		"Name: a\nVersion: 1\nLicense: MIT\n", `{"name":"a","version":"1","license":[{"type":"MIT"}]}`, "/a\n/b/../c\n", rpmPackages(),
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tr := files{}
		for _, name := range []string{
			"etc/os-release", "var/lib/dpkg/status", "var/lib/dpkg/info/a.list", "var/lib/dpkg/diversions", "usr/share/doc/a/copyright", "lib/apk/db/installed",
			"usr/lib/opkg/status", "usr/lib/opkg/info/a.control", "var/lib/rpm/Packages", "x.dist-info/METADATA", "x.dist-info/RECORD", "node_modules/a/package.json",
		} {
			if !strings.HasPrefix(text, "-> ") {
				tr[name] = text
			}
		}
		r, err := Scan(t.Context(), tr.walk(), Options{Root: root})
		if err != nil {
			t.Fatal(err)
		}
		r.Document.AddPackage(sbom.Package{ID: root, Name: "root"})
		r.Document.Roots = []string{root}
		r.Document.Seal()
		if err := r.Document.Check(); err != nil {
			t.Error(err)
		}
	})
}
