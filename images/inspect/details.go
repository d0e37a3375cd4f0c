package inspect

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/ctxio"
	"github.com/pantavisor/pantavisor/kernel"
	"github.com/pantavisor/pantavisor/sbom/forms"
)

// Detail is a value in a file that differs: the version of a package, an option of a kernel.
type Detail struct {
	// Subject is what the name is one of.
	Subject Subject `json:"subject"`
	Change
}

// Subject is a kind of details.
type Subject string

// The subjects.
const (
	Package Subject = "package"
	Option  Subject = "kernel option"
	Key     Subject = "configuration key"
	Line    Subject = "line"
)

// values are what a file says, by name.
type values map[string]string

// reading is a way to read files.
type reading struct {
	subject Subject
	// is reports whether files of a name are read this way; the name is the last of a path, with
	// the directories of an archive or file system.
	is    func(name string) bool
	most  int64                    // largest file that is read, in bytes
	parse func(data []byte) values // nil for a file that has another form
}

// details are the ways to read files; the first that fits counts.
var details = []reading{
	{Package, named("var/lib/dpkg/status", "usr/lib/opkg/status", "var/lib/opkg/status"), maxText, text(controlFile)},
	{Package, func(name string) bool { return strings.Contains(name, "var/lib/dpkg/status.d/") }, maxText, text(controlFile)},
	{Package, named("lib/apk/db/installed"), maxText, text(apkDatabase)},
	{Package, named("etc/build"), maxText, text(buildFile)},
	{Package, isBill, maxText, text(billOfMaterials)},
	{Option, func(name string) bool {
		return path.Base(name) == ".config" || strings.HasPrefix(path.Base(name), "config-") || path.Base(name) == "kernel.config"
	}, maxText, text(kernelConfig)},
	{Option, func(name string) bool { return isKernel(path.Base(name)) }, maxKernel, ikconfig},
	{Key, func(name string) bool { return strings.HasSuffix(name, ".json") || strings.HasSuffix(name, "/json") }, maxText, text(jsonKeys)},
	{Key, func(string) bool { return true }, maxText, text(settings)},
	{Line, func(string) bool { return true }, maxText, text(lines)},
}

func named(ends ...string) func(string) bool {
	return func(name string) bool {
		return slices.ContainsFunc(ends, func(end string) bool { return name == end || strings.HasSuffix(name, "/"+end) })
	}
}

// isKernel reports whether a file is a kernel by its name.
func isKernel(base string) bool {
	for _, start := range []string{"kernel", "vmlinu", "bzImage", "zImage", "Image"} {
		if strings.HasPrefix(base, start) {
			return true
		}
	}
	return false
}

// explain returns what two files that differ say differently.
func explain(ctx context.Context, names []string, a, b *Content) []Detail {
	name := ""
	for _, n := range slices.Backward(names) {
		if name = n; n != unpacked { // what is compressed is known by the name of its file
			break
		}
	}
	var old, now []byte
	for _, how := range details {
		if !how.is(name) || max(a.Size, b.Size) > how.most {
			continue
		}
		if old == nil {
			var errA, errB error
			old, errA = a.all(ctx, how.most)
			now, errB = b.all(ctx, how.most)
			if errA != nil || errB != nil {
				return nil // what cannot be read has no details
			}
		}
		va, vb := how.parse(old), how.parse(now)
		if va == nil || vb == nil {
			continue
		}
		if out := differing(how.subject, va, vb); len(out) > 0 {
			return out
		}
	}
	return nil
}

// all reads a content of up to so many bytes.
func (c *Content) all(ctx context.Context, most int64) ([]byte, error) {
	in, err := c.Open()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return bounded.ReadSized(ctxio.Reader(ctx, in), c.Size, most)
}

// differing compares two sets of values.
func differing(subject Subject, a, b values) (out []Detail) {
	names := slices.Sorted(maps.Keys(a))
	for name := range b {
		if _, ok := a[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		old, had := a[name]
		now, has := b[name]
		if old != now || had != has {
			out = append(out, Detail{subject, Change{name, shown(old, had), shown(now, has)}})
		}
	}
	return out
}

// shown is a value for people; one that is empty is told from none.
func shown(value string, there bool) string {
	if there && value == "" {
		return `""`
	}
	return short(value)
}

// maxText bounds the files that are read for details, in bytes.
const maxText = 16 << 20

// text returns the way to read a file if that is a text.
func text(parse func(text []byte) values) func(data []byte) values {
	return func(data []byte) values {
		if bytes.IndexByte(data, 0) >= 0 {
			return nil
		}
		return parse(data)
	}
}

// controlFile reads the database of dpkg or opkg: the versions of packages that are installed.
func controlFile(text []byte) values {
	out := values{}
	for block := range strings.SplitSeq(string(text), "\n\n") {
		fields := values{}
		for line := range strings.Lines(block) {
			if name, value, ok := strings.Cut(line, ":"); ok && !strings.HasPrefix(line, " ") {
				fields[name] = strings.TrimSpace(value)
			}
		}
		if status := fields["Status"]; fields["Package"] != "" && (status == "" || strings.HasSuffix(status, " installed")) {
			name := fields["Package"]
			if fields["Architecture"] != "" {
				name += ":" + fields["Architecture"]
			}
			out[name] = fields["Version"]
		}
	}
	return out
}

// apkDatabase reads the database of apk (apk-tools: doc/apk-package.5): lines P and V.
func apkDatabase(text []byte) values {
	out, name := values{}, ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "P:"):
			name = line[2:]
		case strings.HasPrefix(line, "V:") && name != "":
			out[name] = line[2:]
		}
	}
	return out
}

// isBill reports whether a file is a bill of materials by its name.
func isBill(name string) bool {
	base := path.Base(name)
	return strings.HasPrefix(base, "sbom.") || strings.Contains(base, ".spdx") || strings.Contains(base, ".cdx.")
}

// billOfMaterials reads a bill of materials in any form: the versions and licences of its packages but
// those of the build machine.
func billOfMaterials(text []byte) values {
	d, err := forms.Read(bytes.NewReader(text))
	if err != nil {
		return nil
	}
	out := values{}
	for _, p := range d.Packages {
		if p.Host || slices.Contains(d.Roots, p.ID) {
			continue
		}
		said := p.Version
		if l := cmp.Or(p.Concluded, p.Declared); l != "" {
			said = strings.TrimSpace(said + " (" + l + ")")
		}
		out[p.Name] = said
	}
	return out
}

// buildFile reads etc/build of an initrd, where a line "package NAME=VERSION:ARCHITECTURE" is
// about a package.
func buildFile(text []byte) values {
	out := values{}
	for line := range strings.Lines(string(text)) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "package ")
		name, version, versioned := strings.Cut(rest, "=")
		if ok && versioned {
			arch := version[strings.LastIndex(version, ":")+1:]
			out[name+":"+arch] = strings.TrimSuffix(version, ":"+arch)
		}
	}
	return out
}

var unset = regexp.MustCompile(`^# (CONFIG_\w+) is not set$`)

// kernelConfig reads the configuration of a kernel.
func kernelConfig(text []byte) values {
	out := values{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if m := unset.FindStringSubmatch(line); m != nil {
			out[m[1]] = "n"
		} else if name, value, ok := strings.Cut(line, "="); ok && strings.HasPrefix(name, "CONFIG_") {
			out[name] = value
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// maxKernel bounds what is looked through for a kernel's configuration, in bytes: the file, and
// what is unpacked of it.
const maxKernel = 128 << 20

// ikconfig reads the configuration of a kernel that has it in it.
func ikconfig(image []byte) values {
	return kernelConfig([]byte(kernel.ConfigText(image, maxKernel)))
}

// maxKeys bounds the names of all values of a document, in bytes: those of nested lists are longer
// than the document.
const maxKeys = 64 << 20

// jsonKeys reads a document: the path of each value, where lists count by their places.
func jsonKeys(text []byte) values {
	var doc any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&doc); err != nil {
		return nil
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil
	}
	out, left := values{}, maxKeys
	var add func(name string, v any)
	add = func(name string, v any) {
		if left -= len(name); left < 0 {
			return
		}
		switch v := v.(type) {
		case map[string]any:
			for key, value := range v {
				add(strings.TrimPrefix(name+"."+key, "."), value)
			}
		case []any:
			for i, value := range v {
				add(fmt.Sprintf("%s[%d]", name, i), value)
			}
		default:
			b, err := json.Marshal(v)
			if err != nil {
				b = []byte(err.Error())
			}
			out[name] = string(b)
		}
	}
	add("", doc)
	if left < 0 {
		return nil
	}
	return out
}

var setting = regexp.MustCompile(`^(?:export\s+|set\s+)?([A-Za-z_][\w.-]*)\s*=\s*(.*)$`)

// settings reads a file of lines NAME=VALUE and comments; nil for one that has others.
func settings(text []byte) values {
	out, times := values{}, map[string]int{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == '[' {
			continue
		}
		m := setting.FindStringSubmatch(line)
		if m == nil {
			return nil
		}
		name := m[1]
		if times[name]++; times[name] > 1 { // a key may be there several times
			name = fmt.Sprintf("%s (%d)", name, times[name])
		}
		out[name] = m[2]
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// maxLines is the longest text of which lines are shown.
const maxLines = 2000

// lines reads a text: each line, with how often it is there.
func lines(text []byte) values {
	if bytes.Count(text, []byte("\n")) > maxLines {
		return nil
	}
	for _, b := range text {
		if b < ' ' && b != '\n' && b != '\t' && b != '\r' {
			return nil
		}
	}
	count := map[string]int{}
	for line := range strings.Lines(string(text)) {
		count[strings.TrimRight(line, "\r\n")]++
	}
	out := values{}
	for line, n := range count {
		out[line] = fmt.Sprint(n)
	}
	return out
}
