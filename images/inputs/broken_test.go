package inputs

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// A broken input is there, but its content is not what its place in the list wants.
type broken struct {
	name string
	// field is its place in the list.
	field string
	// spoil writes the content and puts it into the list.
	spoil func(t *testing.T, dir string, l object)
	// want is in the error, besides the place.
	want string
	kind fault.Kind // default: bad input
}

// modulesAs gives the product modules in a form.
func modulesAs(l object, form, file string) {
	k := l["kernel"].(object)
	delete(k, "release")
	k["modules"] = object{"form": form, "path": file}
}

// rootAs gives the product's container a root file system in a form.
func rootAs(l object, form, file string) {
	c := l["containers"].([]any)[0].(object)
	c["root"], c["user"] = object{"form": form, "path": file}, "7:8"
}

// firmwareAs gives the product firmware, and modules that are fine.
func firmwareAs(t *testing.T, dir string, l object, form, file string) {
	t.Helper()
	put(t, dir, map[string]string{"modules/lib/modules/6.1.0/modules.order": "", "modules/lib/modules/6.1.0/modules.builtin": ""})
	modulesAs(l, "directory", "modules")
	l["kernel"].(object)["firmware"] = object{"trees": []any{object{"form": form, "path": file}}}
}

// tarOf writes a tar.
func tarOf(t *testing.T, list ...*tar.Header) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range list {
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		h.Mode = 0o755
		must(t, w.WriteHeader(h))
		if h.Size > 0 {
			_, err := w.Write(bytes.Repeat([]byte("x"), int(h.Size)))
			must(t, err)
		}
	}
	must(t, w.Close())
	return b.String()
}

const release = "lib/modules/6.1.0/"

// hostileTars are archives that nothing is taken of, whatever they are given as; below is a
// directory where the reader looks.
func hostileTars(t *testing.T, below string) map[string]struct{ text, want string } {
	t.Helper()
	zipped := func(text string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, err := w.Write([]byte(text))
		must(t, errors.Join(err, w.Close()))
		return b.String()
	}
	whole := tarOf(t, &tar.Header{Name: below + "a", Size: 100000}, &tar.Header{Name: below + "b", Size: 100000})
	spoiled := []byte(zipped(whole))
	spoiled[len(spoiled)-6] ^= 0xff
	return map[string]struct{ text, want string }{
		"name with ..":       {tarOf(t, &tar.Header{Name: below + "../../../../x"}), "../x"},
		"absolute name":      {tarOf(t, &tar.Header{Name: "/" + below + "x"}), "/" + below + "x"},
		"hard link out":      {tarOf(t, &tar.Header{Name: below + "x", Linkname: "../../etc/passwd", Typeflag: tar.TypeLink}), "x"},
		"hard link nowhere":  {tarOf(t, &tar.Header{Name: below + "x", Linkname: below + "y", Typeflag: tar.TypeLink}), below + "x"},
		"below a link out":   {tarOf(t, &tar.Header{Name: below + "l", Linkname: "/tmp", Typeflag: tar.TypeSymlink}, &tar.Header{Name: below + "l/x"}), "l/x"},
		"below a file":       {tarOf(t, &tar.Header{Name: below + "f"}, &tar.Header{Name: below + "f/x"}), "f/x"},
		"name too long":      {tarOf(t, &tar.Header{Name: below + strings.Repeat("n", 300)}), "nnn"},
		"cut off":            {whole[:150000], "unexpected EOF"},
		"cut off compressed": {zipped(whole)[:100], "unexpected EOF"},
		"wrong checksum":     {string(spoiled), "checksum"},
		"not a tar":          {strings.Repeat("no archive ", 1000), "tar"},
	}
}

// more are those that also differ from what a tree of modules or firmware may be.
func strictTars(t *testing.T, below string) map[string]struct{ text, want string } {
	t.Helper()
	file := &tar.Header{Name: below + "x", Size: 1}
	return map[string]struct{ text, want string }{
		"file twice":      {tarOf(t, file, file), "is there twice"},
		"link and file":   {tarOf(t, &tar.Header{Name: below + "x", Linkname: "y", Typeflag: tar.TypeSymlink}, file), "is there twice"},
		"file and link":   {tarOf(t, file, &tar.Header{Name: below + "x", Linkname: "y", Typeflag: tar.TypeSymlink}), "is there twice"},
		"directory again": {tarOf(t, &tar.Header{Name: below + "x/", Typeflag: tar.TypeDir}, file), "is there twice"},
		"device node":     {tarOf(t, &tar.Header{Name: below + "x", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}), "device"},
		"FIFO":            {tarOf(t, &tar.Header{Name: below + "x", Typeflag: tar.TypeFifo}), "FIFO"},
	}
}

// rows returns every kind of input with every way to break it.
func rows(t *testing.T) []broken {
	t.Helper()
	var out []broken
	text := func(file, content string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { put(t, dir, map[string]string{file: content}) }
	}
	add := func(field, name, want string, spoil func(t *testing.T, dir string, l object)) {
		out = append(out, broken{name: name, field: field, want: want, spoil: spoil})
	}
	as := func(given func(*testing.T, string, object), content func(*testing.T, string)) func(*testing.T, string, object) {
		return func(t *testing.T, dir string, l object) {
			content(t, dir)
			given(t, dir, l)
		}
	}
	modules := func(form string) func(*testing.T, string, object) {
		return func(_ *testing.T, _ string, l object) { modulesAs(l, form, "in") }
	}
	firmware := func(form string) func(*testing.T, string, object) {
		return func(t *testing.T, dir string, l object) { firmwareAs(t, dir, l, form, "in") }
	}
	root := func(form string) func(*testing.T, string, object) {
		return func(_ *testing.T, _ string, l object) { rootAs(l, form, "in") }
	}
	for _, hostile := range []func(*testing.T, string) map[string]struct{ text, want string }{hostileTars, strictTars} {
		for name, c := range hostile(t, release) {
			add("kernel.modules", "tar of modules: "+name, c.want, as(modules("tar"), text("in", c.text)))
		}
		for name, c := range hostile(t, "lib/firmware/") {
			add("kernel.firmware.trees[0]", "tar of firmware: "+name, c.want, as(firmware("tar"), text("in", c.text)))
		}
	}
	for name, c := range hostileTars(t, "a/b/c/d/") {
		if name == "absolute name" || name == "below a link out" || name == "below a file" {
			continue // they are below the root file system, as tar itself unpacks them
		}
		add("containers[0].root", "tar of a root file system: "+name, c.want, as(root("tar"), text("in", c.text)))
	}
	link := func(target string) string {
		return tarOf(t, &tar.Header{Name: release + "x.ko", Linkname: target, Typeflag: tar.TypeSymlink})
	}
	for name, content := range map[string]string{"absolute": link("/etc/passwd"), "relative": link("../../../../etc/passwd")} {
		add("kernel.modules", "tar of modules: link out, "+name, "x.ko", as(modules("tar"), text("in", content)))
	}
	linked := func(t *testing.T, dir string) {
		put(t, dir, map[string]string{"in/" + release + "modules.order": ""})
		must(t, os.Symlink("/etc/passwd", filepath.Join(dir, "in", release, "x.ko")))
	}
	queue := func(place string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			put(t, dir, map[string]string{filepath.Join("in", place, "modules.order"): ""})
			must(t, unix.Mkfifo(filepath.Join(dir, "in", place, "x"), 0o600))
		}
	}
	add("kernel.modules", "directory of modules: link out", "x.ko", as(modules("directory"), linked))
	add("kernel.modules", "directory of modules: FIFO", "x", as(modules("directory"), queue(release)))
	add("kernel.modules", "directory of modules: nothing in it", "lib/modules/RELEASE", as(modules("directory"), text("in/x", "")))
	add("kernel.modules", "directory of modules: module that is none", "x.ko", as(modules("directory"), text("in/"+release+"x.ko", "no ELF")))
	add("kernel.modules", "directory of modules: two releases", "2 kernels", as(modules("directory"), func(t *testing.T, dir string) {
		put(t, dir, map[string]string{"in/lib/modules/1/x": "", "in/lib/modules/2/x": ""})
	}))
	add("kernel.modules", "tar of modules: nothing in it", "lib/modules/RELEASE", as(modules("tar"), text("in", tarOf(t))))
	add("kernel.firmware.trees[0]", "directory of firmware: FIFO", "x", as(firmware("directory"), queue("lib/firmware")))
	squashed := func(content func(whole string) string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			writeForms(t, dir, appFiles())
			whole, err := os.ReadFile(filepath.Join(dir, "app.squashfs"))
			must(t, err)
			put(t, dir, map[string]string{"in": content(string(whole))})
		}
	}
	for name, content := range map[string]func(string) string{
		"cut off": func(s string) string { return s[:200] }, "empty": func(string) string { return "" },
		"not one":            func(string) string { return strings.Repeat("no file system ", 1000) },
		"tables overwritten": func(s string) string { return s[:96] + strings.Repeat("\xff", 300) + s[396:] },
	} {
		add("kernel.modules", "squashfs of modules: "+name, "", as(modules("squashfs"), squashed(content)))
		if name != "tables overwritten" {
			add("containers[0].root", "squashfs of a root file system: "+name, "squashfs", as(root("squashfs"), squashed(content)))
		}
	}
	add("containers[0].root", "directory of a root file system: empty", "no files", as(root("directory"), func(t *testing.T, dir string) {
		must(t, os.Mkdir(filepath.Join(dir, "in"), 0o755))
	}))
	archived := func(content func(whole string) string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			writeForms(t, dir, appFiles())
			whole, err := os.ReadFile(filepath.Join(dir, "app.cpio"))
			must(t, err)
			put(t, dir, map[string]string{"in": content(string(whole))})
		}
	}
	for name, content := range map[string]func(string) string{
		"cut off": func(s string) string { return s[:150] }, "not one": func(string) string { return strings.Repeat("no archive ", 100) },
		"name with ..": func(s string) string { return strings.Replace(s, "etc/passwd", "../../../x", 1) },
	} {
		add("containers[0].root", "cpio of a root file system: "+name, "", as(root("cpio"), archived(content)))
	}
	return append(append(append(out, brokenLayouts(t)...), brokenFiles()...), brokenConfigs()...)
}

// brokenLayouts are OCI layouts.
func brokenLayouts(t *testing.T) []broken {
	t.Helper()
	var out []broken
	for name, c := range map[string]struct {
		spoil func(t *testing.T, dir string)
		want  string
		kind  fault.Kind
	}{
		"no index.json": {spoil: func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "index.json"))) }, want: "index.json"},
		"not a layout": {spoil: func(t *testing.T, dir string) {
			must(t, os.RemoveAll(dir))
			put(t, dir, map[string]string{"manifest.json": "[]"})
		}, want: "index.json"},
		"index.json that is no JSON": {spoil: func(t *testing.T, dir string) { put(t, dir, map[string]string{"index.json": "{"}) }, want: "index.json"},
		"index.json of another kind": {spoil: func(t *testing.T, dir string) { put(t, dir, map[string]string{"index.json": "[1]"}) }, want: "index.json"},
		"index.json without images":  {spoil: func(t *testing.T, dir string) { put(t, dir, map[string]string{"index.json": "{}"}) }, want: "has 0 images"},
		"index.json that leads out":  {spoil: func(t *testing.T, dir string) { replaceIndex(t, dir, "sha256:", "sha256:../../") }, want: "index.json"},
		"index.json that is a link":  {spoil: func(t *testing.T, dir string) { outward(t, filepath.Join(dir, "index.json")) }, want: "index.json"},
		"index.json that is a directory": {spoil: func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, "index.json")))
			must(t, os.Mkdir(filepath.Join(dir, "index.json"), 0o755))
		}, want: "index.json"},
		"index.json too large":     {spoil: func(t *testing.T, dir string) { must(t, os.Truncate(filepath.Join(dir, "index.json"), 1<<30)) }, want: "index.json"},
		"no blobs":                 {spoil: func(t *testing.T, dir string) { must(t, os.RemoveAll(filepath.Join(dir, "blobs"))) }, want: "blob"},
		"manifest changed":         {spoil: func(t *testing.T, dir string) { changeBlobs(t, dir, `"schemaVersion":2`, `"schemaVersion":3`) }, want: "sha256:", kind: fault.Digest},
		"configuration changed":    {spoil: func(t *testing.T, dir string) { changeBlobs(t, dir, `"User":"daemon"`, `"User":"root"`) }, want: "sha256:", kind: fault.Digest},
		"manifest that is no JSON": {spoil: func(t *testing.T, dir string) { changeBlobs(t, dir, `"schemaVersion"`, `"schemaVersio`) }, want: "sha256:", kind: fault.Digest},
		"layer changed":            {spoil: func(t *testing.T, dir string) { changeBlobs(t, dir, "#!/bin/sh", "#!/bin/ss") }, want: "sha256:", kind: fault.Digest},
		"layer cut off":            {spoil: func(t *testing.T, dir string) { cutLayer(t, dir) }, want: "layer 0"},
	} {
		out = append(out, broken{name: "OCI layout: " + name, field: "containers[0].root", want: c.want, kind: c.kind, spoil: func(t *testing.T, dir string, l object) {
			writeOCI(t, filepath.Join(dir, "in"))
			c.spoil(t, filepath.Join(dir, "in"))
			rootAs(l, "oci", "in")
		}})
	}
	return out
}

func replaceIndex(t *testing.T, dir, from, to string) {
	t.Helper()
	file := filepath.Join(dir, "index.json")
	text, err := os.ReadFile(file)
	must(t, err)
	must(t, os.WriteFile(file, bytes.ReplaceAll(text, []byte(from), []byte(to)), 0o644))
}

// outward puts a file elsewhere, and a link to it in its place.
func outward(t *testing.T, file string) {
	t.Helper()
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	must(t, os.Rename(file, elsewhere))
	must(t, os.Symlink(elsewhere, file))
}

// changeBlobs changes a text in all blobs that have it.
func changeBlobs(t *testing.T, dir, from, to string) {
	t.Helper()
	changed := false
	files, err := filepath.Glob(filepath.Join(dir, "blobs/sha256/*"))
	must(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(t, err)
		if bytes.Contains(text, []byte(from)) {
			must(t, os.WriteFile(file, bytes.ReplaceAll(text, []byte(from), []byte(to)), 0o644))
			changed = true
		}
	}
	if !changed {
		t.Fatalf("no blob has %s", from)
	}
}

func cutLayer(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "blobs/sha256/*"))
	must(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(t, err)
		if bytes.Contains(text, []byte("#!/bin/sh")) {
			must(t, os.Truncate(file, 700))
		}
	}
}

// brokenFiles are files that come finished: exports, certificates, keys, documents.
func brokenFiles() []broken {
	put1 := func(content string, set func(l object)) func(*testing.T, string, object) {
		return func(t *testing.T, dir string, l object) {
			put(t, dir, map[string]string{"in": content})
			set(l)
		}
	}
	in := object{"path": "in"}
	export := func(l object) { l["exports"] = []any{in} }
	trust := func(l object) { l["config"].(object)["trust"] = []any{object{"name": "ca.crt", "path": "in"}} }
	key := func(l object) { l["signing"] = object{"key": in} }
	chain := func(l object) { l["signing"] = object{"command": "false", "chain": in} }
	pem := "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
	garbage := strings.Repeat("none of it ", 500)
	dtb := func(l object) {
		k := l["kernel"].(object)
		k["overlays"] = []any{object{"name": "x.dtbo", "path": "in"}}
	}
	return []broken{
		{"export: not one", "exports[0]", put1(garbage, export), "", 0},
		{"export: empty", "exports[0]", put1("", export), "", 0},
		{"trusted certificate: not PEM", "config.trust[0]", put1(garbage, trust), "PEM", 0},
		{"trusted certificate: empty", "config.trust[0]", put1("", trust), "PEM", 0},
		{"trusted certificate: not a certificate", "config.trust[0]", put1(pem, trust), "", 0},
		{"key: not PEM", "signing.key", put1(garbage, key), "", 0},
		{"key: a certificate", "signing.key", put1(pem, key), "", 0},
		{"chain: not PEM", "signing.chain", put1(garbage, chain), "", 0},
		{"chain: not a certificate", "signing.chain", put1(pem, chain), "", 0},
		{"SBOM: not JSON", "sbom[0]", put1("<xml/>", func(l object) { l["sbom"] = []any{object{"name": "x.json", "path": "in"}} }), "JSON", 0},
		{"SBOM: cut off", "sbom[0]", put1(`{"a": [1,`, func(l object) { l["sbom"] = []any{object{"name": "x.json", "path": "in"}} }), "JSON", 0},
		{"overlay: not one", "kernel.overlays", put1(garbage, dtb), "", 0},
		{"addon: not an archive", "addons[0].archive", put1(garbage, func(l object) {
			l["addons"] = []any{object{"name": "x", "archive": in}}
		}), "", 0},
		{"addon: directory with a FIFO", "addons[0].directory", func(t *testing.T, dir string, l object) {
			put(t, dir, map[string]string{"in/y": ""})
			must(t, unix.Mkfifo(filepath.Join(dir, "in/x"), 0o600))
			l["addons"] = []any{object{"name": "x", "directory": in}}
		}, "x", 0},
		{"blob: larger than its space", "bootloader.blobs[0]", func(t *testing.T, dir string, _ object) {
			put(t, dir, map[string]string{"core.img": strings.Repeat("x", 65537)})
		}, "core", 0},
	}
}

// brokenConfigs are files and directories of configuration.
func brokenConfigs() []broken {
	file := func(name, content string, set func(c object)) func(*testing.T, string, object) {
		return func(t *testing.T, dir string, l object) {
			put(t, dir, map[string]string{name: content})
			if set != nil {
				set(l["config"].(object))
			}
		}
	}
	image := func(c object) { c["image"] = object{"path": "in"} }
	return []broken{
		{"pantavisor.config: no settings", "config.runtime", file("config/pantavisor.config", "no setting\n", nil), "NAME=VALUE", 0},
		{"pantahub.config: no settings", "config.hub", file("config/pantahub.config", "\x00\x01\x02", nil), "NAME=VALUE", 0},
		{"image.config: no settings", "config.image", file("in", "no setting\n", image), "NAME=VALUE", 0},
		{"image.config: too large", "config.image", file("in", strings.Repeat("#", 1<<20), image), "", 0},
		{"defaults: groups that are no JSON", "config.defaults", file("defaults/groups.json", "[", nil), "groups.json", 0},
		{"defaults: nothing in them", "config.defaults", func(t *testing.T, dir string, _ object) {
			must(t, os.RemoveAll(filepath.Join(dir, "defaults")))
			must(t, os.Mkdir(filepath.Join(dir, "defaults"), 0o755))
		}, "groups.json", 0},
		{"factory token: too large", "config.factory_token", file("in", strings.Repeat("x", 1<<20), func(c object) { c["factory_token"] = object{"path": "in"} }), "", 0},
		{"factory token: two lines", "config.factory_token", file("in", "a\nb\n", func(c object) { c["factory_token"] = object{"path": "in"} }), "", 0},
		{"kernel's configuration: not one", "kernel.config", func(t *testing.T, dir string, l object) {
			put(t, dir, map[string]string{"in": strings.Repeat("\x00\xff", 5000)})
			l["kernel"].(object)["config"] = object{"path": "in"}
		}, "", 0},
		{"skel: a FIFO", "config.skel", func(t *testing.T, dir string, l object) {
			put(t, dir, map[string]string{"in/y": ""})
			must(t, unix.Mkfifo(filepath.Join(dir, "in/x"), 0o600))
			l["config"].(object)["skel"] = object{"path": "in"}
		}, "x", 0},
		{"state: a FIFO", "bootloader.state", func(t *testing.T, dir string, l object) {
			must(t, unix.Mkfifo(filepath.Join(dir, "state/x"), 0o600))
			b := l["bootloader"].(object)
			delete(b, "type")
			delete(b, "addresses")
			delete(l["kernel"].(object), "arguments")
			b["state"] = object{"path": "state"}
		}, "x", 0},
		{"package of a loader: nothing in it", "bootloader.packages[0]", func(t *testing.T, dir string, l object) {
			put(t, dir, map[string]string{"in/y": ""})
			l["bootloader"] = object{"type": "rpi", "packages": []any{object{"name": "raspi-firmware", "path": "in"}}}
		}, "", 0},
	}
}

// TestBrokenContent walks every kind of input with content that is none: the error is bad input
// that names the input's place in the list, and nothing is written.
func TestBrokenContent(t *testing.T) {
	t.Parallel()
	for _, c := range rows(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, list := product(t)
			c.spoil(t, dir, list)
			out := filepath.Join(t.TempDir(), "out")
			l, err := Read(write(t, dir, list))
			if err == nil {
				_, err = l.Build(t.Context(), out, Options{})
			}
			kind := c.kind
			if kind == 0 {
				kind = fault.BadInput
			}
			if err == nil {
				t.Fatal("it is taken")
			}
			t.Log(err)
			if fault.Of(err) != kind || !strings.Contains(err.Error(), c.field) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("kind %v: %v; want %v, %s, %s", fault.Of(err), err, kind, c.field, c.want)
			}
			if _, err := os.Lstat(out); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("something was written: %v", err)
			}
		})
	}
}
