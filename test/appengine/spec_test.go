package appengine

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/layers"
)

// example is the manual's, with its comma behind the last member.
const example = `{
  "#spec": "pv-test@1",
  "description": "ls query to mgmt and non-mgmt containers",
  "setup": {
    "cmdline": "",
    "pantavisor.config": "../../common/configs/pantavisor.config",
    "pvs": "../../common/pvs/pvs.defaultkeys.tar.gz",
    "containers": {
      "control": "pvr-sdk",
      "tarballs": [
      ],
      "urls": [
        "https://hub.example/pantahub-ci/pv_tests_assets/3#pvr-sdk/",
        "https://hub.example/pantahub-ci/pv_tests_assets/3#pvr-sdk_norole/"
      ]
    },
    "ready-script": "resources/ready",
  },
  "test-script": "resources/test",
  "skip": "false"
}
`

func TestParseReadsTheManualsExample(t *testing.T) {
	got, err := parse([]byte(example))
	if err != nil {
		t.Fatal(err)
	}
	want := &Spec{
		Spec: specName, Description: "ls query to mgmt and non-mgmt containers", TestScript: "resources/test", Skip: "false",
		Setup: Setup{
			Config: "../../common/configs/pantavisor.config", PVS: "../../common/pvs/pvs.defaultkeys.tar.gz", ReadyScript: "resources/ready",
			Containers: Containers{Control: "pvr-sdk", Tarballs: []string{}, URLs: []string{
				"https://hub.example/pantahub-ci/pv_tests_assets/3#pvr-sdk/", "https://hub.example/pantahub-ci/pv_tests_assets/3#pvr-sdk_norole/",
			}},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseTellsEveryMistake(t *testing.T) {
	for text, want := range map[string][]string{
		`{`:                                 {"unexpected EOF"},
		`{"#spec":"pv-test@2","skip":"no"}`: {"pv-test@2", `skip is "no"`, "test-script is missing", "pantavisor.config is missing"},
		`{"#spec":"pv-test@1","dance":1}`:   {`unknown field "dance"`},
		`{"#spec":"pv-test@1","test-script":"x","setup":{"pantavisor.config":"y"}}{"again":1}`:      {"something follows"},
		`{"#spec":"pv-test@1","test-script":"x","setup":{"pantavisor.config":"y","containers":[]}}`: {"cannot unmarshal array"},
	} {
		_, err := parse([]byte(text))
		if fault.Of(err) != fault.BadInput {
			t.Errorf("%s: %v", text, err)
			continue
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v, want %s", text, err, w)
			}
		}
	}
}

func TestDropCommas(t *testing.T) {
	for in, want := range map[string]string{
		`[1,2,]`: `[1,2 ]`, "{\"a\":1 ,\n}": "{\"a\":1  \n}", `["a,]",","]`: `["a,]",","]`, `["\",]"]`: `["\",]"]`, `[,]`: `[ ]`, `,`: `,`,
	} {
		if got := string(dropCommas([]byte(in))); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(example))
	f.Add([]byte(`{"#spec":"pv-test@1","test-script":"x","setup":{"pantavisor.config":"y"},}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(dropCommas(text)) != len(text) {
			t.Error("the length changes")
		}
		s, err := parse(text)
		if (s == nil) != (err != nil) {
			t.Errorf("%v, %v", s, err)
		}
		if err == nil && (s.TestScript == "" || s.Setup.Config == "") {
			t.Error("a test without script or configuration")
		}
	})
}

// suites writes groups with tests that have everything they name, and returns the layer
// that has them.
func suites(t *testing.T, label string, ids ...string) layers.Layer {
	t.Helper()
	dir := t.TempDir()
	for _, id := range ids {
		group, name, _ := strings.Cut(id, "/")
		made, err := addTest(filepath.Join(dir, Suites), group)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(made, filepath.Join(filepath.Dir(made), name)); err != nil {
			t.Fatal(err)
		}
	}
	return layers.Layer{Label: label, Dir: dir}
}

func TestFindAndSelect(t *testing.T) {
	all, err := findTests(layers.New(
		suites(t, layers.Workspace, "local/00-a", "local/02-c", "local/01-b", "logs/x"),
		suites(t, "module m v1", "logs/hidden", "theirs/a")))
	if err != nil {
		t.Fatal(err)
	}
	for word, want := range map[string]string{
		"": "local:0 local:1 local:2 logs:0", "local": "local:0 local:1 local:2", "local:1": "local:1", "logs": "logs:0", "theirs": "theirs:0",
		"locl": `did you mean local`, "local:7": "no such number", "local:x": "no such number", ":1": "unknown",
	} {
		chosen, single, err := selectTests(all, word)
		var ids []string
		for _, c := range chosen {
			ids = append(ids, c.ID())
		}
		got := strings.Join(ids, " ")
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) || err == nil && (got != want || single != strings.Contains(word, ":")) {
			t.Errorf("%q: %s, single %v; want %s", word, got, single, want)
		}
	}
	if all[1].Name != "01-b" {
		t.Errorf("number 1 is %s", all[1].Name)
	}
	var out bytes.Buffer
	all[0].Spec.Skip = "true"
	if err := listTests(&out, all); err != nil || !strings.Contains(out.String(), "local:0   00-a  workspace    say in a line what this test shows (skipped)") ||
		!strings.Contains(out.String(), "theirs:0  a     module m v1") || strings.Contains(out.String(), "hidden") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestFindTellsEveryBrokenTest(t *testing.T) {
	layer := suites(t, layers.Workspace, "a/0", "a/1", "b/0")
	for name, text := range map[string]string{"a/data/0/test.json": "{", "b/data/0/test.json": strings.Replace(template[specFile], "resources/test", "resources/absent", 1)} {
		if err := os.WriteFile(filepath.Join(layer.Dir, Suites, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	_, err := findTests(layers.New(layer))
	for _, want := range []string{"a/data/0/test.json", "b/data/0/test.json", "resources/absent"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestAddKeepsNumbers(t *testing.T) {
	dir := t.TempDir()
	for i, want := range []string{"00-new", "01-new", "06-new"} {
		if i == 2 {
			if err := os.MkdirAll(filepath.Join(dir, "local/data/05-mine"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		made, err := addTest(dir, "local")
		if err != nil || filepath.Base(made) != want {
			t.Fatalf("%s, %v; want %s", made, err, want)
		}
		if _, err := load(filepath.Join(made, specFile)); err != nil {
			t.Error(err)
		}
		if info, err := os.Stat(filepath.Join(made, "resources/test")); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("the script: %v, %v", info, err)
		}
	}
	for _, bad := range []string{"", "../x", "A", "a/b"} {
		if _, err := addTest(dir, bad); fault.Of(err) != fault.BadInput {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestDiffLines(t *testing.T) {
	if got, want := diffLines("a\nb\nc\n", "a\nx\nc\n"), "- b\n+ x\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := diffLines("same\n", "same\n"); got != "" {
		t.Errorf("%q of equal texts", got)
	}
}

func TestSum(t *testing.T) {
	line, err := summary([]Result{{Verdict: Passed}, {Verdict: Skipped}, {Verdict: Recorded}})
	if err != nil || line != "1 passed, 0 failed, 1 skipped, 1 recorded" {
		t.Errorf("%s, %v", line, err)
	}
	if _, err := summary([]Result{{Verdict: Failed}}); fault.Of(err) != fault.Goal {
		t.Errorf("%v", err)
	}
}

func TestURLs(t *testing.T) {
	for url, want := range map[string]string{"file:///a/b.tgz#app": "/a/b.tgz", "../x.pvr": "/t/x.pvr", "/y": "/y"} {
		s, err := fromURL("/t/test", url)
		if err != nil || s.path != want {
			t.Errorf("%s: %s, %v; want %s", url, s.path, err, want)
		}
	}
	if s, err := fromURL("/t", "https://hub.example/a/b#c"); err != nil || s.path != "" || s.name != "https://hub.example/a/b#c" {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := fromURL("/t", "ftp://hub.example/a/b#c"); fault.Of(err) != fault.BadInput {
		t.Errorf("%v", err)
	}
}
