package state

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/revision/canon"
)

var sumA, sumB = strings.Repeat("a", 64), strings.Repeat("b", 64)

func parse(t testing.TB, doc string) *State {
	t.Helper()
	s, err := Parse([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestParseKeepsBytesAndOrder(t *testing.T) {
	doc := ` {"b/run.json": {"z":1.0,"a":[]},"#spec":"pantavisor-service-system@1" ,"a/root":"` + sumA + `"}`
	s := parse(t, doc)
	if got := string(s.Raw()); got != doc {
		t.Errorf("raw %s", got)
	}
	want := `{"#spec":"pantavisor-service-system@1","a/root":"` + sumA + `","b/run.json":{"a":[],"z":1}}`
	if got := string(s.Encode()); got != want {
		t.Errorf("canonical %s", got)
	}
	c := s.Clone()
	c.Delete("a/root")
	if got := string(s.Raw()); got != doc {
		t.Error("a change of the clone shows in the original")
	}
	if got := string(c.Raw()); got == doc {
		t.Error("raw text survives a change")
	}
}

func TestParseRefuses(t *testing.T) {
	long := strings.Repeat("x", 256)
	for name, doc := range map[string]string{
		"no object": `[]`, "garbage": `{`, "two documents": `{}{}`, "empty": ``,
		"duplicate key":      `{"a":1,"a":2}`,
		"duplicate member":   `{"a.json":{"x":1,"x":2}}`,
		"spec type":          `{"#spec":1}`,
		"parent":             `{"a/../../etc/passwd":1}`,
		"leading parent":     `{"../x":1}`,
		"absolute":           `{"/etc/passwd":1}`,
		"empty element":      `{"a//b":1}`,
		"trailing slash":     `{"a/":1}`,
		"dot":                `{"./a":1}`,
		"NUL":                `{"a\u0000b":1}`,
		"empty key":          `{"":1}`,
		"bookkeeping":        `{".pvr/json":1}`,
		"boot links":         `{".pv/pv-kernel.img":1}`,
		"bookkeeping alone":  `{".pv":1}`,
		"long element":       `{"` + long + `":1}`,
		"long key":           `{"` + strings.Repeat("ab/", 700) + `c":1}`,
		"file and directory": `{"a":1,"a/b":1}`,
		"deep directory":     `{"a":1,"a-b":1,"a/b/c":1}`,
	} {
		if _, err := Parse([]byte(doc)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseReportsEveryBadKey(t *testing.T) {
	_, err := Parse([]byte(`{"../a":1,"/b":1,"c/../d":1}`))
	for _, key := range []string{"../a", "/b", "c/../d"} {
		if err == nil || !strings.Contains(err.Error(), `"`+key+`"`) {
			t.Errorf("%s is not named in: %v", key, err)
		}
	}
	var many strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&many, `"../%d":1,`, i)
	}
	_, err = Parse([]byte("{" + strings.TrimSuffix(many.String(), ",") + "}"))
	if err == nil || len(err.Error()) > 8000 || !strings.Contains(err.Error(), "and 980 more") {
		t.Errorf("unbounded report of %d bytes", len(err.Error()))
	}
}

func TestParseAccepts(t *testing.T) {
	for _, doc := range []string{
		`{}`, `{"#spec":"x"}`, `{"a":null}`, `{"...":"x"}`, `{"..a/b..":"x"}`, `{".pvfoo/x":"y"}`,
		`{"a b/ü":{}}`, `{"a/b":1,"a-":1,"ab":1}`, `{".json":{}}`,
	} {
		if _, err := Parse([]byte(doc)); err != nil {
			t.Errorf("%s: %v", doc, err)
		}
	}
	if s := parse(t, `{"a":null,"b.json":{"x":null}}`); s.Len() != 1 {
		t.Errorf("a null value is a file: %v", s.Keys())
	}
}

func TestContents(t *testing.T) {
	s := parse(t, `{"#spec":"`+sumA+`","a/root":"`+sumA+`","b/root":"`+sumA+`","c.json":"`+sumB+`","d.json":"d","e":"upper`+strings.ToUpper(sumA)+`"}`)
	if diff := cmp.Diff([]Object{{"a/root", sumA}, {"b/root", sumA}, {"c.json", sumB}}, s.Objects()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{sumA, sumB}, s.Sums()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"d.json", "e"}, s.Inlines()); diff != "" {
		t.Error(diff)
	}
	if text, ok := s.Get("d.json"); !ok || string(text) != `"d"` {
		t.Errorf("value %s %v", text, ok)
	}
	if _, ok := s.Get("x"); ok {
		t.Error("a missing key is found")
	}
}

func TestChangingAState(t *testing.T) {
	s := New(Spec)
	steps := []error{
		s.Set("app/run.json", []byte(` { "b":1, "a":2.0 } `)),
		s.SetObject("app/root.squashfs", sumA),
		s.SetObject("app/root.squashfs", sumB),
		s.Set("gone.json", []byte("1")),
		s.Set("gone.json", []byte("null")),
	}
	if err := errors.Join(steps...); err != nil {
		t.Fatal(err)
	}
	want := `{"#spec":"pantavisor-service-system@1","app/root.squashfs":"` + sumB + `","app/run.json":{"a":2,"b":1}}`
	if got := string(s.Encode()); got != want {
		t.Errorf("state %s", got)
	}
	for name, err := range map[string]error{
		"bad key": s.Set("../x", []byte("1")), "bad JSON": s.Set("x.json", []byte("{")), "bad sum": s.SetObject("x", "abc"),
		"directory": s.SetObject("app", sumA), "below a file": s.SetObject("app/run.json/x", sumA), "spec": s.Set(SpecKey, []byte("1")),
	} {
		if err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if got := string(s.Encode()); got != want {
		t.Errorf("a refused change left traces: %s", got)
	}
	if s.Delete("nothing") || !s.Delete("app/run.json") || s.Len() != 2 {
		t.Errorf("after deletion: %v", s.Keys())
	}
}

// applyPatch applies a merge patch (RFC 7386) to a state.
func applyPatch(s *State, patch canon.Value) (*State, error) {
	return fromMembers(mergePatch(s.value(), patch).Members())
}

func mergePatch(target, patch canon.Value) canon.Value {
	if patch.Kind() != canon.Object {
		return patch
	}
	var out []canon.Member
	for _, m := range target.Members() {
		if _, ok := patch.Get(m.Name); !ok {
			out = append(out, m)
		}
	}
	for _, m := range patch.Members() {
		if m.Value.IsNull() {
			continue
		}
		have, _ := target.Get(m.Name)
		out = append(out, canon.Member{Name: m.Name, Value: mergePatch(have, m.Value)})
	}
	return canon.Obj(out...)
}

func TestDiffAndPatch(t *testing.T) {
	a := parse(t, `{"#spec":"s","gone":"`+sumA+`","x.json":{"a":1,"b":{"c":1,"d":2},"l":[1,2]},"t.json":1}`)
	b := parse(t, `{"#spec":"s","new":"`+sumB+`","x.json":{"a":1.0,"b":{"c":1},"l":[2]},"t.json":{}}`)
	patch := Diff(a, b)
	want := `{"gone":null,"new":"` + sumB + `","t.json":{},"x.json":{"b":{"d":null},"l":[2]}}`
	if got := string(patch.Encode()); got != want {
		t.Errorf("patch %s", got)
	}
	back, err := applyPatch(a, patch)
	if err != nil || !Equal(back, b) {
		t.Errorf("patched %s, %v", back.Encode(), err)
	}
	if got := string(Diff(b, b).Encode()); got != "{}" {
		t.Errorf("diff of equals %s", got)
	}
	wantChanges := []Change{{"gone", Deleted}, {"new", Added}, {"t.json", Changed}, {"x.json", Changed}}
	if diff := cmp.Diff(wantChanges, Changes(a, b)); diff != "" {
		t.Error(diff)
	}
	bad, _ := canon.Parse([]byte(`{"../x":1}`))
	if _, err := applyPatch(a, bad); !errors.Is(err, ErrKey) {
		t.Errorf("hostile patch: %v", err)
	}
}

func TestMergeKeepsNulls(t *testing.T) {
	a := parse(t, `{"x.json":{"a":1,"b":{"c":1}}}`)
	b := parse(t, `{"x.json":{"b":{"c":null,"d":12345678901234567890}}}`)
	got, err := Merge(a, b, Fragment{})
	if want := `{"x.json":{"a":1,"b":{"c":null,"d":12345678901234567890}}}`; err != nil || string(got.Encode()) != want {
		t.Errorf("merged %s, %v", got.Encode(), err)
	}
}

func TestGetRefusesCollision(t *testing.T) {
	a, b := parse(t, `{"app":"`+sumA+`"}`), parse(t, `{"app/x":"`+sumB+`"}`)
	if _, err := Get(a, b, Fragment{Take: []string{"app/x"}}); !errors.Is(err, ErrKey) {
		t.Errorf("get: %v", err)
	}
	if _, err := Merge(a, b, Fragment{}); !errors.Is(err, ErrKey) {
		t.Errorf("merge: %v", err)
	}
}

func TestParts(t *testing.T) {
	s := parse(t, `{"#spec":"s","_config/app/x":"`+sumA+`","_sigs/bsp.json":{},"app/run.json":{},"appx/y":"`+sumA+`","bsp/run.json":{},"device.json":{}}`)
	if diff := cmp.Diff([]string{"app", "appx", "bsp", "device.json"}, s.Parts()); diff != "" {
		t.Error(diff)
	}
	sel := s.Select("app", "_config/app/")
	if diff := cmp.Diff([]string{"#spec", "_config/app/x", "app/run.json"}, sel.Keys()); diff != "" {
		t.Error(diff)
	}
	if !Equal(s, s.Select()) {
		t.Error("selecting nothing is not the whole")
	}
	if got := s.Without("app", "_sigs").Keys(); !cmp.Equal(got, []string{"#spec", "_config/app/x", "appx/y", "bsp/run.json", "device.json"}) {
		t.Error(got)
	}
}

func TestParseFragment(t *testing.T) {
	f, err := ParseFragment("bsp/,_sigs/bsp.json,-old,#spec")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Fragment{Take: []string{"bsp", "_sigs/bsp.json", "#spec"}, Drop: []string{"old"}}, f); diff != "" {
		t.Error(diff)
	}
	if got := f.String(); got != "bsp,_sigs/bsp.json,#spec,-old" {
		t.Error(got)
	}
	for _, bad := range []string{",", "a,,b", "-", "../x", "/abs", "a//b"} {
		if _, err := ParseFragment(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"#spec":"pantavisor-service-system@1","a/run.json":{"x":[1.50]},"a/root":"` + sumA + `"}`))
	f.Add([]byte(`{"a":1,"a/b":2}`))
	f.Add([]byte(`{"../x":null}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		s, err := Parse(doc)
		if err != nil {
			return
		}
		for _, key := range s.Keys() {
			if err := CheckKey(key); err != nil {
				t.Fatal(err)
			}
		}
		again := parse(t, string(s.Encode()))
		if !Equal(s, again) || len(Changes(s, again)) != 0 {
			t.Fatalf("%q changes when written and read", doc)
		}
		back, err := applyPatch(New(""), Diff(New(""), s))
		if err != nil || len(Changes(New(""), s)) != s.Len() || back.Len() != s.Len() {
			t.Fatalf("%q: patch from nothing gives %d of %d keys, %v", doc, back.Len(), s.Len(), err)
		}
	})
}

func FuzzFragment(f *testing.F) {
	for _, s := range []string{"app", "-app", "app/,-app/x,#spec", "", ",", "--", "a/../b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		frag, err := ParseFragment(text)
		if err != nil {
			return
		}
		for _, name := range append(frag.Take, frag.Drop...) {
			if CheckKey(name) != nil || !Within(name, name) || !Within(name, name+"/x") || Within(name, name+"x") {
				t.Fatalf("part %q of %q", name, text)
			}
		}
	})
}

// JSON has no words for names that are not valid UTF-8: such a key would stand for
// another file.
func TestKeyMustBeUTF8(t *testing.T) {
	for key, good := range map[string]bool{"ünïcode-日本": true, "bad\xffname": false, "dir\xc3/x": false, "line\nbreak": true} {
		if err := CheckKey(key); (err == nil) != good || err != nil && !errors.Is(err, ErrKey) {
			t.Errorf("%q: %v", key, err)
		}
	}
}
