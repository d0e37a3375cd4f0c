package containers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/layers"
	"github.com/pantavisor/pantavisor/internal/oracle"
	"github.com/pantavisor/pantavisor/internal/yamlfile"
	"github.com/pantavisor/pantavisor/targets"
)

// shipped are the layers of this repository.
func shipped() *layers.Layers { return layers.New(layers.Layer{Label: "module", Dir: ".."}) }

// TestShippedDefinitions loads every container of this directory.
func TestShippedDefinitions(t *testing.T) {
	names, err := shipped().Names(directory, definitionFile)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"network", "ready-demo", "sdk"}, names); d != "" {
		t.Error(d)
	}
	for _, n := range names {
		d, err := loaded(n)
		if err != nil {
			t.Errorf("%s: %v", n, err)
			continue
		}
		for _, p := range d.Root.Programs {
			if _, err := os.Stat(filepath.Join("..", p.Package)); err != nil {
				t.Errorf("%s: program %s: %v", n, p.Package, err)
			}
		}
	}
}

func TestParseCollectsProblems(t *testing.T) {
	_, err := parsed("f", "x", []byte(`
description: "two\nlines"
roles: [king]
args: {PV_GROUP: x, nonsense: 1}
env: [NOVALUE]
persistence: {relative: permanent, /a: sometimes}
root:
  programs: [{package: ../evil, path: /abs}]
  links: [{target: x, at: [a/../b]}]
  debian: [{package: p}]
`))
	if fault.Of(err) != fault.BadInput {
		t.Fatalf("kind %v: %v", fault.Of(err), err)
	}
	for _, want := range []string{"description", `"king"`, "args.PV_GROUP", "args.nonsense", "NOVALUE", `"relative"`, `"sometimes"`,
		`"../evil"`, `"/abs"`, `"a/../b"`, "root.debian", "entrypoint, command"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s is missing in: %v", want, err)
		}
	}
	if _, err := parsed("f", "x", []byte("description: d\ncommand: [a]\nunknown: 1\n")); err == nil || !strings.Contains(err.Error(), "unknown") {
		t.Errorf("an unknown member: %v", err)
	}
	if _, err := parsed("f", "x", []byte("description: d\ncommand: [/bin/x]\n")); err != nil {
		t.Errorf("the smallest definition: %v", err)
	}
}

// TestParseMistakes changes one thing in a good file and checks the error.
func TestParseMistakes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ old, new, want string }{
		{"description: demo", "descripton: demo", `f:2:1: unknown field "descripton"; did you mean description?`},
		{"description: demo", "description: ' '", "f:2:1: description: is empty"},
		{"description: demo", "description: [demo]", "f:2:14: description: want text, not sequence"},
		{"group: app", "group: App", `f:3:1: group: "App" is not a legal name`},
		{"roles: [mgmt]", "roles: [mgmt, nobdy]", `f:4:15: roles[1]: "nobdy" is not possible; did you mean nobody?`},
		{"roles: [mgmt]", "roles: mgmt", "f:4:8: roles: want a list, not string"},
		{"programs: [{package: cmd/x,", "programs: [{", "f:6:14: root.programs[0]: field package is missing"},
		{"package: cmd/x", "package: cmd/x, mode: 1", `unknown field "mode" in root.programs[0]; there are package, path`},
		{"path: usr/bin/x", "path: /usr/bin/x", `f:6:31: root.programs[0].path: "/usr/bin/x" is not a clean path`},
		{"at: [usr/bin/y]", "at: [usr/bin/y/]", `f:7:28: root.links[0].at[0]: "usr/bin/y/" is not a clean path`},
		{"at: [usr/bin/y]", "at: []", "root.links[0].at: is empty"},
		{"target: x", "target: ''", "root.links[0].target: is empty"},
		{"folders: [srv/data]", "debian: [{package: '', files: [a/]}]", "root.debian[0].package: is empty"},
		{"/var/lib/x: permanent", "/var/lib/x: permanen", `f:9:15: persistence./var/lib/x: "permanen" is not possible`},
		{"/var/lib/x: permanent", "/var/lib/x: [permanent]", "persistence./var/lib/x: want text, not sequence"},
		{"/var/lib/x: permanent", "[a]: permanent", "f:9:18: found an invalid key"},
		{"entrypoint: [/usr/bin/x, -v]", "entrypoint: []", "entrypoint, command: one of them is needed"},
		{"-v]", "'\"']", `f:10:26: entrypoint[1]: word "\"" must not`},
		{"env: [A=b]", "env: [A]", `f:11:7: env[0]: "A": want NAME=VALUE`},
		{"env: [A=b]", "env: [A=b]\nargs: {LXC_PTY_MAX: *a}", "f:12:21: args.LXC_PTY_MAX: want a value, not alias"},
		{"env: [A=b]", "env: [A=b]\nargs: {<<: {A: 1}}", "want text, not merge key"},
		{"env: [A=b]", "env: [A=b]\nargs: {PV_ROLES: [x]}", "f:12:8: args.PV_ROLES: use the field roles"},
		{"env: [A=b]", "env: [A=b]\nargs: {PV_STATUS_GAOL: READY}", `f:12:8: args.PV_STATUS_GAOL: argument "PV_STATUS_GAOL": unknown; did you mean PV_STATUS_GOAL`},
		{"env: [A=b]", "env: [A=b]\nargs: {PV_STATUS_GOAL: READDY}", `f:12:8: args.PV_STATUS_GOAL: "READDY" is not possible; did you mean READY?`},
		{"env: [A=b]", "env: [A=b]\nargs: {PV_STATUS_GOAL: 3}", "f:12:8: args.PV_STATUS_GOAL: "},
		{"env: [A=b]", "env: [A=b]\nargs: {PV_RESTART_POLICY: always}", `f:12:8: args.PV_RESTART_POLICY: "always" is not possible; want system, container`},
		{"env: [A=b]", "env: [A=b]\nargs: {PV_AUTO_RECOVERY: {policy: allways}}", `f:12:8: args.PV_AUTO_RECOVERY: policy: "allways"; allowed are no, always,`},
		{"env: [A=b]", "env: [A=b]\nargs: {PV_STATUS_GOAL_TIMEOUT: 2m}", `f:12:8: args.PV_STATUS_GOAL_TIMEOUT: a whole number of seconds`},
		{"env: [A=b]", "env: [A=b]\nargs: {PV_NETWORK_POOL: p, PV_NETWORK_IP: 10.0.0}", `args.PV_NETWORK_IP: ip: "10.0.0" is not an address`},
		{"env: [A=b]", "env: [A=b]\nargs: {PV_LXC_CAP_DROP: mknod}", "f:12:8: args.PV_LXC_CAP_DROP: a list is expected"},
		{"env: [A=b]", "env: [A=b]\nargs: {LXC_TTY_MAX: \"a\\nb\"}", `contains a line break`},
		{"env: [A=b]", "env: [A=b]\nargs: {PV_CONDITIONS: [1, {Y: [*b]}]}", "args.PV_CONDITIONS[1].Y[0]: want a value, not alias"},
		{"env: [A=b]", "env: [A=b]\nenv: [A=b]", "f:12:1: "},
		{"env: [A=b]", "---\ndescription: b", "a second document: a container is one"},
	} {
		if !strings.Contains(demo, c.old) {
			t.Fatalf("the good file does not hold %q", c.old)
		}
		_, err := parsed("f", "x", []byte(strings.Replace(demo, c.old, c.new, 1)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q for %q: got\n%v\nwant %q", c.new, c.old, err, c.want)
		}
	}
	for text, want := range map[string]string{
		"":                                  "file is empty: a container needs at least description",
		strings.Repeat("#", yamlfile.Limit): "file is empty",
		demo + strings.Repeat("#", yamlfile.Limit): "file is larger than 64 KiB",
	} {
		if _, err := parsed("f", "x", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestParseArgs checks that arguments are passed on unchanged, whatever their type.
func TestParseArgs(t *testing.T) {
	t.Parallel()
	d, err := parsed("f", "x", []byte("description: d\ncommand: [sleep, 1.5, true]\nargs:\n"+
		"  PV_CONDITIONS: [1, -2, 1.5, true, null, text, {B: c}]\n  PV_LXC_EXTRA_CONF: |\n    two\n    lines\n"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(d.Args)
	want := `{"PV_CONDITIONS":[1,-2,1.5,true,null,"text",{"B":"c"}],"PV_LXC_EXTRA_CONF":"two\nlines\n"}`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
	if diff := cmp.Diff([]string{"sleep", "1.5", "true"}, d.Command); diff != "" {
		t.Error(diff)
	}
}

// fakeProgram is a Builder whose program is a fixed text.
type fakeProgram struct{ Text string }

func (f fakeProgram) Name() string                               { return "fake/program" }
func (f fakeProgram) Deps() []build.Step                         { return nil }
func (f fakeProgram) File() string                               { return "bin/prog" }
func (f fakeProgram) Run(_ context.Context, _ *build.Work) error { return nil }

var noPackages = func(name string) (*debian.Fetch, error) {
	return nil, fault.New(fault.Locked, "no package %s", name)
}

// makePart runs the step of a container directory and returns the output directory.
func makePart(t *testing.T, dir, name string) (string, error) { return makePartAt(t, dir, name, 0) }

func makePartAt(t *testing.T, dir, name string, at build.Stamp) (string, error) {
	t.Helper()
	tgt := &targets.Target{Name: "t", Arch: targets.Arch{Go: "amd64", Debian: "amd64"}, Containers: []string{name}}
	parts, err := Parts(tgt, Options{
		Layers: layers.New(layers.Layer{Label: "test", Dir: dir}), Directory: ".", Epoch: at, Packages: noPackages,
		Program: func(layers.Layer, string) (Builder, error) { return fakeProgram{"x"}, nil },
	})
	if err != nil {
		return "", err
	}
	in := t.TempDir()
	write(t, filepath.Join(in, "bin/prog"), "#!program", 0o644)
	out, tmp := t.TempDir(), t.TempDir()
	return out, parts[0].Run(t.Context(), build.NewWork(out, tmp, func(build.Step) string { return in }, nil))
}

func write(t *testing.T, file, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// TestWithoutDebian: the shipped containers have a root and a program to start on a CPU that
// Debian has no packages for.
func TestWithoutDebian(t *testing.T) {
	t.Parallel()
	big := &targets.Target{Name: "big", Arch: targets.Arch{Go: "mips", MIPS: "softfloat"}, Containers: []string{"network", "ready-demo", "sdk"}}
	o := Options{Layers: shipped(), Packages: noPackages, Program: func(layers.Layer, string) (Builder, error) { return fakeProgram{"x"}, nil }}
	if r := Requests(big, o.Layers); r != nil {
		t.Errorf("requests %v", r)
	}
	parts, err := Parts(big, o)
	if err != nil {
		t.Fatal(err)
	}
	in := t.TempDir()
	write(t, filepath.Join(in, "bin/prog"), "#!program", 0o755)
	for _, p := range parts {
		if err := p.Run(t.Context(), build.NewWork(t.TempDir(), t.TempDir(), func(build.Step) string { return in }, nil)); err != nil {
			t.Error(err)
		}
	}
	little := *big
	little.Arch = targets.Arch{Go: "mipsle", MIPS: "softfloat", Debian: "mipsel"}
	if r := Requests(&little, o.Layers); len(r) != 1 {
		t.Errorf("requests %v of a CPU with packages", r)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "c/container.yaml"), "description: c\nentrypoint: [/bin/x]\nroot: {debian: [{package: p, files: [bin/x]}]}\n", 0o644)
	big.Containers = []string{"c"}
	o.Layers, o.Directory = layers.New(layers.Layer{Label: "test", Dir: dir}), "."
	if _, err := Parts(big, o); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), "without_debian") {
		t.Errorf("packages for a CPU without any: %v", err)
	}
}

const demo = `
description: demo
group: app
roles: [mgmt]
root:
  programs: [{package: cmd/x, path: usr/bin/x}]
  links: [{target: x, at: [usr/bin/y]}]
  folders: [srv/data]
persistence: {/var/lib/x: permanent}
entrypoint: [/usr/bin/x, -v]
env: [A=b]
`

func demoDir(t *testing.T) string {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "demo", definitionFile), demo, 0o644)
	write(t, filepath.Join(dir, "demo/files/etc/motd"), "hello\n", 0o600)
	write(t, filepath.Join(dir, "demo/files/sbin/go"), "#!/bin/sh\n", 0o700)
	return dir
}

func TestPart(t *testing.T) {
	out, err := makePart(t, demoDir(t), "demo")
	if err != nil {
		t.Fatal(err)
	}
	state := readState(t, out)
	var keys []string
	for k := range state {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	part := &Part{Definition: &Definition{Name: "demo"}}
	if d := cmp.Diff(append([]string{"#spec"}, part.Keys()...), keys); d != "" {
		t.Errorf("keys (-as said before +made)\n%s", d)
	}
	var run struct {
		Name, Type, Config, Group string
		Roles                     []string
		Storage                   map[string]map[string]string
		Root                      string `json:"root-volume"`
	}
	if err := json.Unmarshal(state["demo/run.json"], &run); err != nil {
		t.Fatal(err)
	}
	if run.Name != "demo" || run.Type != "lxc" || run.Group != "app" || run.Root != "root.squashfs" ||
		run.Storage["docker--var-lib-x"]["persistence"] != "permanent" || !cmp.Equal(run.Roles, []string{"mgmt"}) {
		t.Errorf("run.json: %+v", run)
	}
	conf := object(t, out, state["demo/lxc.container.conf"])
	for _, line := range []string{`lxc.init.cmd = /usr/bin/x "-v"`, "lxc.environment = A=b", "lxc.mount.entry = /volumes/demo/docker--var-lib-x var/lib/x none bind,rw,create=dir 0 0"} {
		if !strings.Contains(string(conf), line+"\n") {
			t.Errorf("no line %q in\n%s", line, conf)
		}
	}
	checkRoot(t, out, state)
}

func readState(t *testing.T, out string) map[string]json.RawMessage {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(out, "json"))
	if err != nil {
		t.Fatal(err)
	}
	var state map[string]json.RawMessage
	if err := json.Unmarshal(data, &state); err != nil {
		t.Fatal(err)
	}
	return state
}

// object reads an object and checks that its name is its digest.
func object(t *testing.T, out string, name json.RawMessage) []byte {
	t.Helper()
	var sum string
	if err := json.Unmarshal(name, &sum); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(out, "objects", sum))
	if err != nil {
		t.Fatal(err)
	}
	if got := sha256.Sum256(data); hex.EncodeToString(got[:]) != sum {
		t.Errorf("object %s has another digest", sum)
	}
	return data
}

// checkRoot lists the root with the system's tool.
func checkRoot(t *testing.T, out string, state map[string]json.RawMessage) {
	t.Helper()
	oracle.Need(t, "unsquashfs")
	image := filepath.Join(t.TempDir(), "root.squashfs")
	if err := os.WriteFile(image, object(t, out, state["demo/root.squashfs"]), 0o644); err != nil {
		t.Fatal(err)
	}
	list, err := exec.Command("unsquashfs", "-lln", image).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, list)
	}
	for _, want := range []string{"-rwxr-xr-x 0/0", "lrwxrwxrwx 0/0", "squashfs-root/usr/bin/y -> x", "-rw-r--r-- 0/0", "squashfs-root/etc/motd",
		"drwxrwxrwt 0/0", "squashfs-root/srv/data", "squashfs-root/pantavisor", "2020-01-01"} {
		if !bytes.Contains(list, []byte(want)) {
			t.Errorf("no %q in\n%s", want, list)
		}
	}
}

func TestPartIsReproducible(t *testing.T) {
	one, err := makePart(t, demoDir(t), "demo")
	if err != nil {
		t.Fatal(err)
	}
	two, err := makePart(t, demoDir(t), "demo")
	if err != nil {
		t.Fatal(err)
	}
	other, err := makePartAt(t, demoDir(t), "demo", 1700000000)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := os.ReadFile(filepath.Join(one, "json"))
	if c, _ := os.ReadFile(filepath.Join(other, "json")); bytes.Equal(a, c) {
		t.Error("another time does not change the root")
	}
	b, _ := os.ReadFile(filepath.Join(two, "json"))
	if len(a) == 0 || !bytes.Equal(a, b) {
		t.Errorf("two runs differ:\n%s\n%s", a, b)
	}
}

func TestBadParts(t *testing.T) {
	dir := demoDir(t)
	write(t, filepath.Join(dir, "twice", definitionFile), "description: d\ncommand: [/etc/f]\nroot: {programs: [{package: p, path: etc/f}]}\n", 0o644)
	write(t, filepath.Join(dir, "twice/files/etc/f"), "", 0o644)
	write(t, filepath.Join(dir, "pkg", definitionFile), "description: d\ncommand: [/bin/x]\nroot: {debian: [{package: absent, files: [bin/x]}]}\n", 0o644)
	write(t, filepath.Join(dir, "arg", definitionFile), "description: d\ncommand: [/x]\nargs: {PV_NOT_KNOWN: 1}\n", 0o644)
	for name, want := range map[string]string{
		"twice": "etc/f comes from two sources", "pkg": "package absent", "arg": `argument "PV_NOT_KNOWN": unknown`, "absent": "there are arg, demo, pkg, twice", "../demo": "not a valid container name",
	} {
		if _, err := makePart(t, dir, name); err == nil || !strings.Contains(err.Error(), want) || fault.Of(err) != fault.BadInput {
			t.Errorf("%s: %v (kind %v), want %q", name, err, fault.Of(err), want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(demo))
	for _, text := range []string{
		"", "[", "{", "a: *b", "? a\n: b", "<<: {a: 1}", "description: d\ncommand: [/x]\n", "description: d\nargs: {PV_STATUS_GOAL: MOUNTED, LXC_A: [1, .5, null]}\n",
		"description: d\ncommand: [x]\nroot: {debian: [{package: p, files: [a/]}]}\n", "persistence: {lxc-overlay: boot, /a: revision@disk}\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := parsed("f", "x", data)
		if err != nil {
			if p, ok := errors.AsType[yamlfile.Problems](err); !ok || len(p) == 0 {
				t.Errorf("no problems in %v", err)
			}
			return
		}
		for _, p := range d.Root.Programs {
			if strings.HasPrefix(p.Path, "/") || strings.Contains("/"+p.Path+"/", "/../") {
				t.Errorf("path %q leaves the root", p.Path)
			}
		}
	})
}

// TestExecutables: a module that a proxy serves has lost the modes of its files.
func TestExecutables(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "c/container.yaml"), "description: c\nentrypoint: [/init]\nroot: {executables: [init]}\n", 0o644)
	write(t, filepath.Join(dir, "c/files/init"), "#!x", 0o444)
	p := &Part{Definition: &Definition{Root: Root{Executables: []string{"init"}}}, dir: filepath.Join(dir, "c")}
	root := rootfs{}
	if err := p.collect(t.Context(), nil, root); err != nil || root["init"].Mode != 0o755 {
		t.Errorf("%v, %v", root["init"].Mode, err)
	}
	p.Definition.Root.Executables = []string{"none"}
	if err := p.collect(t.Context(), nil, rootfs{}); fault.Of(err) != fault.BadInput {
		t.Errorf("a file that is not there: %v", err)
	}
	for _, name := range []string{"network", "ready-demo", "sdk"} { // nothing depends on a mode
		d, err := loaded(name)
		if err != nil {
			t.Fatal(err)
		}
		err = filepath.WalkDir(filepath.Join(name, "files"), func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return nil //nolint:nilerr // a container need not have files
			}
			rel, _ := filepath.Rel(filepath.Join(name, "files"), path)
			if info, err := e.Info(); err == nil && info.Mode()&0o111 != 0 && !slices.Contains(d.Root.Executables, rel) {
				t.Errorf("%s: add it to root.executables", path)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// loaded is load for a test without further checks.
func loaded(dir string) (*Definition, error) {
	d, f, err := load(dir, filepath.Join(dir, definitionFile))
	if err != nil {
		return nil, err
	}
	return d, f.Err()
}

// parsed reads a definition that stands alone.
func parsed(file, name string, data []byte) (*Definition, error) {
	d, f := read(file, name, data)
	return d, f.Err()
}
