package yamlfile

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/fault"
)

// sample has a field of every kind that can be read.
type sample struct {
	Name  string            `yaml:"name"`
	Kinds []string          `yaml:"kinds,omitempty" jsonschema:"enum=one,enum=two"`
	Size  int               `yaml:"size,omitempty" jsonschema:"minimum=1,maximum=9"`
	Long  int64             `yaml:"long,omitempty" jsonschema:"minimum=1,maximum=4294967296"`
	Flag  bool              `yaml:"flag,omitempty"`
	Part  *part             `yaml:"part,omitempty"`
	Texts map[string]string `yaml:"texts,omitempty"`
	Free  map[string]any    `yaml:"free,omitempty"`
	Own   string            `yaml:"-"`
}

type part struct {
	Label string `yaml:"label"`
	Parts []part `yaml:"parts,omitempty"`
}

func checkName(path, text string) error {
	switch {
	case path == "name" && text == "later":
		return fault.New(fault.Unsupported, "%q is not supported yet", text)
	case path == "name" && text == "bad":
		return errors.New("is bad")
	}
	return nil
}

func read(text string) (*sample, *File, error) {
	s := &sample{}
	f, _ := Read("f", Kind{Name: "a sample", Text: checkName}, []byte(text), s)
	return s, f, f.Err()
}

func TestRead(t *testing.T) {
	t.Parallel()
	got, _, err := read("name: 7\nkinds: [one]\nsize: 0x9\nlong: 4294967296\nflag: true\npart:\n  label: true\n  parts: [{label: a}]\n" +
		"texts: {a.b: c, 1: 1.50}\nfree: {x: [1, null], y: \"a\\nb\"}\n")
	if err != nil {
		t.Fatal(err)
	}
	want := &sample{
		Name: "7", Kinds: []string{"one"}, Size: 9, Long: 1 << 32, Flag: true, Part: &part{Label: "true", Parts: []part{{Label: "a"}}},
		Texts: map[string]string{"a.b": "c", "1": "1.50"},
		Free:  map[string]any{"x": []any{uint64(1), nil}, "y": "a\nb"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"name: a\nnme: b\n":                       `f:2:1: unknown field "nme"; did you mean name?`,
		"name: a\nown: b\n":                       `f:2:1: unknown field "own"; there are flag, free, kinds, long, name, part, size, texts`,
		"size: 3\n":                               "f:1:1: field name is missing",
		"name: a\nsize: 10\n":                     "f:2:7: size: 10 is out of range; want 1 to 9",
		"name: a\nsize: 1.5\n":                    "f:2:7: size: want a whole number, not float",
		"name: a\nkinds: [one, tow]\n":            `f:2:14: kinds[1]: "tow" is not possible; did you mean two?`,
		"name: a\npart: {parts: [{label: x}]}\n":  "f:2:1: part: field label is missing",
		"name: a\nlong: 4294967297\n":             "f:2:7: long: 4294967297 is out of range; want 1 to 4294967296",
		"name: a\nflag: yes\n":                    "f:2:7: flag: want true or false, not string",
		"name: a\npart: x\n":                      "f:2:7: part: want fields, not string",
		"name: a\ntexts: [x]\n":                   "f:2:8: texts: want fields, not sequence",
		"name: a\ntexts: {a: {}}\n":               "f:2:12: texts.a: want text, not mapping",
		"name: a\nfree: {a: .inf}\n":              "f:2:11: free.a: want a value, not inf",
		"name: a\nfree: {? [x] : 1}\n":            "f:2:",
		"name: \"a\\tb\"\n":                       "f:1:7: name: a control character",
		"name: &a b\n":                            "f:1:7: name: want text, not anchor",
		"- name: a\n":                             "f:1:1: the file: want fields, not sequence",
		"name: [\n":                               "f:1:",
		"":                                        "f:1:1: file is empty: a sample needs at least name",
		"# nothing\n":                             "f:1:1: file is empty",
		"name: a\n---\nname: b\n":                 "f:3:1: a second document: a sample is one",
		"name: a\n#" + strings.Repeat("x", Limit): "f:1:1: file is larger than 64 KiB",
		strings.Repeat("[", 60_000):               "f:1:65: more than 64 lists",
		"name: " + strings.Repeat("{a: ", 15_000): "f:1:263: more than 64 lists",
		"name:\n" + strings.Repeat("- ", 30_000):  "f:2:129: more than 64 lists",
	} {
		_, _, err := read(text)
		if err == nil || !strings.HasPrefix(err.Error(), want) || fault.Of(err) != fault.BadInput {
			t.Errorf("%.40q: got\n%v (%v)\nwant %q", text, err, fault.Of(err), want)
		}
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, mode := range map[string]uint32{"pipe": syscall.S_IFIFO, "file": syscall.S_IFREG} {
		if err := syscall.Mknod(filepath.Join(dir, name), mode|0o600, 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"pipe", "."} {
		if _, err := Text(os.DirFS(dir), name); fault.Of(err) != fault.BadInput || !strings.Contains(err.Error(), name+" is not a regular file") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Text(os.DirFS(dir), "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if text, err := Text(os.DirFS(dir), "file"); len(text) > 0 || err != nil {
		t.Errorf("an empty file: %q, %v", text, err)
	}
}

func TestKindChecksTexts(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]fault.Kind{
		"name: later\n": fault.Unsupported, "name: bad\n": fault.BadInput, "name: later\nsize: x\n": fault.BadInput,
	} {
		if _, _, err := read(text); fault.Of(err) != want || !strings.HasPrefix(err.Error(), "f:1:7: name: ") {
			t.Errorf("%q: %v (%v), want %v", text, err, fault.Of(err), want)
		}
	}
}

// What a reader of the file finds comes in its order, at its places, and not where
// something else is wrong already.
func TestChecks(t *testing.T) {
	t.Parallel()
	_, f, err := read("kinds: [one, one]\nname: a\npart:\n  label: x\n  parts: [{label: [y]}]\n")
	if err == nil {
		t.Fatal("a list as a label")
	}
	lower := regexp.MustCompile("^[a-z]+$")
	f.Wrong("part.parts[0].label", "follows from what could not be read")
	f.Wrong("part", "may follow from it")
	f.Wrong("size", "is missing: at the top")
	f.Wrong("part.label.x.y", "at the label")
	f.Need("texts.a", "", "because")
	f.Need("name", "a", "never said")
	f.Form("name", "A", lower)
	f.Form("name", "a", lower)
	f.List("kinds", []string{"one", "one"}, lower)
	var got Problems
	if err := f.Err(); !errors.As(err, &got) {
		t.Fatalf("got %v, want Problems", err)
	}
	want := []string{
		"f:1:1: size: is missing: at the top",
		"f:1:1: texts: field a is missing: because",
		`f:1:14: kinds[1]: "one" is listed twice`,
		`f:2:1: name: "A" is not a legal name; want the form ^[a-z]+$`,
		"f:4:3: part.label.x.y: at the label",
		"f:5:19: part.parts[0].label: want text, not sequence",
	}
	if diff := cmp.Diff(want, strings.Split(got.Error(), "\n")); diff != "" {
		t.Error(diff)
	}
}

// FuzzRead expects an answer for every input: a value that can be written as JSON, or
// a list of problems.
func FuzzRead(f *testing.F) {
	for _, text := range []string{
		"name: 7\nkinds: [one]\nsize: 0x9\npart:\n  label: true\n", "name: a\ntexts: {a.b: c, 1: 1.50}\nfree: {x: [1, null, 1e9], y: {z: .5}}\n",
		"", "[", "{", "a: *b", "a: &a [*a]", "? a\n: b", "<<: {a: 1}", "name: !!binary x", "- - -", "%YAML 1.2\n---\n...", "name: |\n  x\n", "free: {? [a] : b}",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &sample{}
		file, ok := Read("f", Kind{Name: "a sample"}, data, s)
		err := file.Err()
		if !ok && err == nil {
			t.Fatal("nothing to check and nothing wrong")
		}
		if err != nil {
			if p, ok := errors.AsType[Problems](err); !ok || len(p) == 0 {
				t.Fatalf("no problems in %v", err)
			}
			return
		}
		if s.Name == "" && !strings.Contains(string(data), "name") {
			t.Error("a required field is missing")
		}
		if _, err := json.Marshal(s); err != nil {
			t.Error(err)
		}
	})
}
