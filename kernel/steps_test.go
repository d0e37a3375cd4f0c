package kernel

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/pantavisor/pantavisor/build"
	"github.com/pantavisor/pantavisor/debian/partstest"
	"github.com/pantavisor/pantavisor/formats/xzenc"
	"github.com/pantavisor/pantavisor/internal/fault"
)

// given is a step whose output already exists.
type given struct{ name, dir string }

func (g *given) Name() string                           { return g.name }
func (g *given) Deps() []build.Step                     { return nil }
func (g *given) Run(context.Context, *build.Work) error { return nil }

// kernelTree returns the tree of a source, with further files.
func kernelTree(t *testing.T, files map[string]string) *given {
	t.Helper()
	modules := small(t)
	x := scan(t, modules)
	if err := x.WriteFiles(modules); err != nil {
		t.Fatal(err)
	}
	dir := strings.TrimSuffix(modules, "/lib/modules/"+x.Release)
	if err := writeJSON(filepath.Join(dir, indexFile), x); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		writeFile(t, filepath.Join(dir, name), []byte(text))
	}
	return &given{"kernel/tree", dir}
}

func writeFile(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// run runs a step whose dependencies are of type given and returns its output and warnings.
func run(t *testing.T, s build.Step) (string, []string, error) {
	t.Helper()
	out := t.TempDir()
	var warned []string
	in := func(d build.Step) string { return d.(*given).dir }
	w := build.NewWork(out, t.TempDir(), in, func(n build.Note) {
		if n.Warn {
			warned = append(warned, n.Text)
		}
	})
	err := s.Run(t.Context(), w)
	return out, warned, err
}

func mustRun(t *testing.T, s build.Step) string {
	t.Helper()
	out, _, err := run(t, s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestImageIsTheOneInBoot(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"boot/vmlinuz-6.1": "zipped", "boot/vmlinux-6.1": "plain"} {
		out := mustRun(t, &Image{kernelTree(t, map[string]string{name: want})})
		if got, err := os.ReadFile(filepath.Join(out, ImageFile)); string(got) != want {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	for name, files := range map[string]map[string]string{"none": nil, "two": {"boot/vmlinuz-1": "a", "boot/vmlinuz-2": "b"}} {
		if _, _, err := run(t, &Image{kernelTree(t, files)}); fault.Of(err) != fault.BadInput {
			t.Errorf("%s: kind %v: %v", name, fault.Of(err), err)
		}
	}
}

func TestEarlyModulesAreListedInOrder(t *testing.T) {
	t.Parallel()
	out := mustRun(t, &Early{Modules: []string{"uas", "jbd2"}, Tree: kernelTree(t, nil)})
	dir := filepath.Join(out, "lib/modules/6.1.0-1-amd64")
	for name, want := range map[string]string{
		earlyFile:         "kernel/usb/usb-storage.ko\nkernel/usb/uas.ko\nkernel/fs/jbd2/jbd2.ko\n",
		"modules.dep":     "kernel/usb/usb-storage.ko:\nkernel/usb/uas.ko: kernel/usb/usb-storage.ko\nkernel/fs/jbd2/jbd2.ko:\n",
		"modules.builtin": "button\nscsi_mod\n",
	} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); string(got) != want {
			t.Errorf("%s: got %q, %v; want %q", name, got, err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "kernel/usb/uas.ko")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "kernel/fs/ext4/ext4.ko")); err == nil {
		t.Error("a module that was not asked for is included")
	}
	if _, _, err := run(t, &Early{Modules: []string{"uaz"}, Tree: kernelTree(t, nil)}); fault.Of(err) != fault.BadInput {
		t.Errorf("an unknown module: kind %v: %v", fault.Of(err), err)
	}
}

func zstdOf(t *testing.T, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(data, nil)
}

// TestModulesToMountWith has an initrd without what its modules are mounted with.
func TestModulesToMountWith(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "lib/modules/6.1")
	for _, name := range []string{"ext4", "ubifs", "squashfs", "other"} {
		writeFile(t, filepath.Join(dir, "kernel", name+".ko"), module("depends="))
	}
	writeFile(t, filepath.Join(dir, "modules.builtin"), []byte("kernel/drivers/block/loop.ko\n"))
	x := scan(t, dir)
	root := strings.TrimSuffix(dir, "/lib/modules/6.1")
	if err := writeJSON(filepath.Join(root, indexFile), x); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		use     string
		modules []string
		want    []string
	}{
		{"", []string{"ext4", "squashfs"}, nil},
		{"", []string{"ubifs", "squashfs"}, nil},
		{"", []string{"squashfs", "other"}, []string{"no module ext4 or ubifs"}},
		{"", []string{"ubifs"}, []string{"no module squashfs"}},
		{"", nil, []string{"no module ext4 or ubifs", "no module squashfs"}},
		{"installer", nil, nil}, // it mounts nothing
	} {
		_, warned, err := run(t, &Early{Modules: c.modules, Use: c.use, Tree: &given{"kernel/tree", root}})
		if err != nil || len(warned) != len(c.want) {
			t.Errorf("%s%q: got %q, %v; want %q", c.use, c.modules, warned, err, c.want)
			continue
		}
		for i, want := range c.want {
			if !strings.Contains(warned[i], want) || !strings.Contains(warned[i], "kernel.early_modules") {
				t.Errorf("%s%q: %s; want %s", c.use, c.modules, warned[i], want)
			}
		}
	}
}

// TestCompressedModules reads the same module in each compression that Debian uses, and
// expects it uncompressed among the early modules.
func TestCompressedModules(t *testing.T) {
	t.Parallel()
	plain := module("depends=", "alias=x")
	forms := map[string][]byte{"a.ko": plain, "b.ko.xz": xzOf(t, plain), "c.ko.zst": zstdOf(t, plain)}
	dir := filepath.Join(t.TempDir(), "lib/modules/6.1")
	for name, data := range forms {
		writeFile(t, filepath.Join(dir, "kernel", name), data)
	}
	x := scan(t, dir)
	root := strings.TrimSuffix(dir, "/lib/modules/6.1")
	if err := writeJSON(filepath.Join(root, indexFile), x); err != nil {
		t.Fatal(err)
	}
	out := mustRun(t, &Early{Modules: []string{"a", "b", "c"}, Tree: &given{"kernel/tree", root}})
	for _, name := range []string{"a", "b", "c"} {
		if m := x.Module(name); m == nil || !slices.Equal(m.Aliases, []string{"x"}) {
			t.Errorf("module %s is read as %+v", name, m)
		}
		got, err := os.ReadFile(filepath.Join(out, "lib/modules/6.1/kernel", name+".ko"))
		if !bytes.Equal(got, plain) {
			t.Errorf("early module %s has %d bytes, want %d: %v", name, len(got), len(plain), err)
		}
	}
	for _, name := range []string{"b.ko.xz", "c.ko.zst"} {
		cut := filepath.Join(t.TempDir(), "lib/modules/6.1")
		writeFile(t, filepath.Join(cut, name), forms[name][:len(forms[name])/2])
		if _, err := Scan(cut); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), name) {
			t.Errorf("half of %s: kind %v: %v", name, fault.Of(err), err)
		}
	}
}

func TestConfigCheckWarns(t *testing.T) {
	t.Parallel()
	config := "CONFIG_64BIT=y\n"
	for _, n := range configNeeds {
		if n.Options[0] != "VETH" {
			config += "CONFIG_" + n.Options[len(n.Options)-1] + "=y\n"
		}
	}
	out, warned, err := run(t, &ConfigCheck{kernelTree(t, map[string]string{"boot/config-6.1": config})})
	if err != nil {
		t.Fatal(err)
	}
	want := "kernel option CONFIG_VETH is not set, want y or m: needed for containers' networks; without it containers with a network of their own do not start"
	if diff := cmp.Diff([]string{want}, warned); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var lacks []Lack
	data, err := os.ReadFile(filepath.Join(out, ConfigReport))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &lacks); err != nil || len(lacks) != 1 || lacks[0].Option != "VETH" {
		t.Errorf("reported %s: %v", data, err)
	}
	out, warned, err = run(t, &ConfigCheck{kernelTree(t, nil)})
	if err != nil || len(warned) != 1 || !strings.Contains(warned[0], "not checked") {
		t.Errorf("without a configuration: %q, %v", warned, err)
	}
	if data, err := os.ReadFile(filepath.Join(out, ConfigReport)); string(data) != "[]\n" {
		t.Errorf("without a configuration it reports %q, %v", data, err)
	}
}

func TestConfigLines(t *testing.T) {
	t.Parallel()
	got := parseConfig("CONFIG_A=y\n  CONFIG_B=m  \r\n# CONFIG_C is not set\nCONFIG_D=\"a=b\"\nCONFIG_E=\nnot=CONFIG_F\nCONFIG_G\n\nCONFIG_A=n\n")
	want := Config{"A": "n", "B": "m", "D": "a=b", "E": ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if lacks := parseConfig("").Check(); len(lacks) != len(configNeeds) {
		t.Errorf("an empty configuration lacks %d of %d", len(lacks), len(configNeeds))
	}
}

func TestInfoOfOddFields(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Info{
		"":                                  {},
		"depends":                           {},
		"depends=":                          {},
		"depends=a-b,,c, d ":                {Depends: []string{"a_b", "c", "d"}},
		"softdep=a pre: b-c post: d e":      {Pre: []string{"b_c"}, Post: []string{"d", "e"}},
		"softdep=post: a\x00softdep=pre: b": {Pre: []string{"b"}, Post: []string{"a"}},
		"firmware=a/b=c.bin":                {Firmware: []string{"a/b=c.bin"}},
		"alias=x\ny\x00alias=z":             {Aliases: []string{"z"}},
		"\x00\x00=\x00license=GPL\x00x":     {},
	} {
		if diff := cmp.Diff(want, parseInfo([]byte(text))); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}

// TestFirmwareOfModulesOnly checks that each file that a module names comes from the
// first package that has it, and that no other file does.
func TestFirmwareOfModulesOnly(t *testing.T) {
	t.Parallel()
	first, second := t.TempDir(), t.TempDir()
	writeFile(t, filepath.Join(first, "lib/firmware/usb/a.bin"), []byte("first"))
	writeFile(t, filepath.Join(first, "lib/firmware/usb/unnamed.bin"), []byte("nobody asks for it"))
	writeFile(t, filepath.Join(second, "usr/lib/firmware/usb/a.bin"), []byte("another"))
	writeFile(t, filepath.Join(second, "usr/lib/firmware/usb/x-1.bin"), []byte("by pattern"))
	step := &Firmware{Tree: kernelTree(t, nil), Packages: []build.Step{&given{"unpack/one", first}, &given{"unpack/two", second}}}
	data, err := os.ReadFile(filepath.Join(mustRun(t, step), FirmwareReport))
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]int64
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int64{"usb/a.bin": 5, "usb/x-1.bin": 10}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := len(step.Deps()); n != 3 {
		t.Errorf("%d dependencies, want the tree and two packages", n)
	}
}

func TestBudgetNamesTheLargest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "lib/firmware/usb/a.bin"), make([]byte, 1<<20+1))
	step := &Firmware{Tree: kernelTree(t, nil), Packages: []build.Step{&given{"unpack/one", dir}}, Budget: 1}
	if _, _, err := run(t, step); fault.Of(err) != fault.NoSpace || !strings.Contains(err.Error(), "usb 1.0 MiB") {
		t.Errorf("kind %v: %v", fault.Of(err), err)
	}
	step.Exclude = []string{"usb/**"}
	mustRun(t, step)
}

// TestDepmodAgrees compares aliases and soft dependencies with those that depmod reads
// from the same modules. It keeps '-', where we write '_' as the kernel does. Its
// dependencies come from symbols: see TestRealKernel.
func TestDepmodAgrees(t *testing.T) {
	t.Parallel()
	depmod := partstest.Program(t, "kmod", "depmod")
	dir := small(t)
	x := scan(t, dir)
	out, err := depmod("-n", "-b", strings.TrimSuffix(dir, "/lib/modules/"+x.Release), x.Release).Output()
	if err != nil {
		t.Fatal(err)
	}
	files := x.Files()
	if diff := cmp.Diff(aliasLines(out), aliasLines(files["modules.alias"])); diff != "" {
		t.Errorf("aliases (-depmod +ours):\n%s", diff)
	}
	if diff := cmp.Diff(softLines(out), softLines(files["modules.softdep"])); diff != "" {
		t.Errorf("soft dependencies (-depmod +ours):\n%s", diff)
	}
	if len(aliasLines(out)) != 6 || len(softLines(out)) != 2 {
		t.Errorf("depmod says\n%s", out)
	}
}

// aliasLines are the lines "alias PATTERN MODULE", sorted, without those on symbols.
func aliasLines(text []byte) []string {
	var out []string
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "alias" && !strings.HasPrefix(f[1], "symbol:") {
			out = append(out, normalAlias(f[1])+" "+f[2])
		}
	}
	slices.Sort(out)
	return out
}

// softLines are the lines "softdep MODULE pre: ... post: ...", by module.
func softLines(text []byte) map[string]Info {
	out := map[string]Info{}
	for line := range strings.Lines(string(text)) {
		if f := strings.SplitN(strings.TrimSpace(line), " ", 3); len(f) == 3 && f[0] == "softdep" {
			var m Info
			m.soft(f[2])
			out[f[1]] = m
		}
	}
	return out
}

func TestScanOfADamagedTree(t *testing.T) {
	t.Parallel()
	for name, data := range map[string][]byte{"empty.ko": nil, "text.ko": []byte("text"), "text.ko.xz": []byte("text"), "text.ko.zst": []byte("text")} {
		dir := filepath.Join(t.TempDir(), "6.1")
		writeFile(t, filepath.Join(dir, "good.ko"), module("depends="))
		writeFile(t, filepath.Join(dir, name), data)
		if _, err := Scan(dir); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: kind %v: %v", name, fault.Of(err), err)
		}
	}
	if _, err := Scan(filepath.Join(t.TempDir(), "none")); fault.Of(err) != fault.IO {
		t.Errorf("no tree: kind %v: %v", fault.Of(err), err)
	}
	if _, err := readIndex(t.TempDir()); fault.Of(err) != fault.IO {
		t.Errorf("no index: kind %v: %v", fault.Of(err), err)
	}
}

func xzOf(t *testing.T, data []byte) []byte {
	t.Helper()
	e, err := xzenc.New(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	out, err := e.Append(nil, data)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
