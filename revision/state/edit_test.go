package state

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/revision/canon"
)

var pretty = canon.Tabs

// sign returns a signature document with a rule; the signature itself is none.
func sign(t testing.TB, include, exclude []string) string {
	t.Helper()
	header, err := json.Marshal(map[string]any{"alg": "ES256", "pvs": map[string]any{"include": include, "exclude": exclude}})
	if err != nil {
		t.Fatal(err)
	}
	return `{"#spec":"pvs@2","protected":"` + base64.RawURLEncoding.EncodeToString(header) + `","signature":"x"}`
}

func pkg(t testing.TB, name string, extra ...string) string {
	include := append([]string{name + "/**", "_config/" + name + "/**"}, extra...)
	return `"_sigs/` + name + `.json":` + sign(t, include, []string{name + "/src.json", "_sigs/" + name + ".json"})
}

func TestRemovePackageByAnyOfItsNames(t *testing.T) {
	s := parse(t, `{"#spec":"s","_config/aw/etc":"`+sumA+`",`+pkg(t, "aw")+`,`+pkg(t, "web")+`,"aw/run.json":{},"aw/src.json":{},"awx/run.json":{},"web/run.json":{}}`)
	want := []string{"#spec", "_sigs/web.json", "awx/run.json", "web/run.json"}
	for _, name := range []string{"_sigs/aw.json", "aw", "aw/", "_config/aw"} {
		if diff := cmp.Diff(want, RemovePackage(s, name).Keys()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if got := RemovePackage(s, "nothing"); !Equal(got, s) {
		t.Error("removing an unknown part changes the state")
	}
}

func TestFilesOfTwoSignaturesStay(t *testing.T) {
	s := parse(t, `{"#spec":"s",`+pkg(t, "a", "shared/*")+`,`+pkg(t, "b", "shared/x")+`,"a/run.json":{},"b/run.json":{},"shared/x":"`+sumA+`","shared/y":"`+sumB+`"}`)
	want := []string{"#spec", "_sigs/b.json", "b/run.json", "shared/x"}
	if diff := cmp.Diff(want, RemovePackage(s, "a").Keys()); diff != "" {
		t.Error(diff)
	}
}

func TestRemoveConfigPackage(t *testing.T) {
	s := parse(t, `{"#spec":"s","_config/nginx/x":"`+sumA+`","_sigs/nginx-config.json":`+
		sign(t, []string{"_config/nginx/**"}, []string{"_sigs/nginx-config.json"})+`,"_sigs/nginx.json":`+
		sign(t, []string{"nginx/**"}, []string{"_sigs/nginx.json"})+`,"nginx/run.json":{}}`)
	if diff := cmp.Diff([]string{"#spec", "_sigs/nginx.json", "nginx/run.json"}, RemovePackage(s, "_sigs/nginx-config.json").Keys()); diff != "" {
		t.Error(diff)
	}
}

// TestConfigWithItsOwnSignature: the name of a configuration that another signature than
// the part's covers stands for that package alone.
func TestConfigWithItsOwnSignature(t *testing.T) {
	s := parse(t, `{"#spec":"s","_config/nginx/x":"`+sumA+`","_sigs/nginx-config.json":`+
		sign(t, []string{"_config/nginx/**"}, []string{"_sigs/nginx-config.json"})+`,"_sigs/nginx.json":`+
		sign(t, []string{"nginx/**"}, []string{"_sigs/nginx.json"})+`,"nginx/run.json":{},"nginx2/run.json":{}}`)
	for part, want := range map[string][]string{
		"_config/nginx": {"#spec", "_sigs/nginx.json", "nginx/run.json", "nginx2/run.json"},
		"nginx":         {"#spec", "_config/nginx/x", "_sigs/nginx-config.json", "nginx2/run.json"},
	} {
		if diff := cmp.Diff(want, RemovePackage(s, part).Keys()); diff != "" {
			t.Errorf("%s: %s", part, diff)
		}
	}
}

// owned is the rule in its simplest form: of a part's package are the keys that the part
// or its signature name at least as often as all signatures together do.
func owned(s *State, part string) map[string]bool {
	var all []string
	for _, key := range s.Keys() {
		if v, _ := s.Value(key); strings.HasPrefix(key, "_sigs/") {
			if rule, ok := ReadRule(v); ok {
				all = append(all, rule.prefixes()...)
			}
		}
	}
	c := newCoverage(s)
	own := c.bySig[c.signature(strings.TrimSuffix(part, "/"))]
	gone := map[string]bool{}
	for _, key := range s.Keys() {
		n := countPrefixes(own, key)
		if Within(part, key) {
			n++
		}
		if key != SpecKey && n > 0 && countPrefixes(all, key) <= n {
			gone[key] = true
		}
	}
	return gone
}

// FuzzEdit adds and removes packages whose keys, signatures and patterns the input chooses
// out of names that overlap.
func FuzzEdit(f *testing.F) {
	f.Add([]byte("\x00\x01\x02\x03\x04\x05"), []byte("\x06\x07\x13\x25"), "a")
	f.Add([]byte("\x10\x21\x32\x43\x54"), []byte("\x10\x91\xa2"), "_config/a")
	f.Add([]byte("\x80\x91\xa2\xb3"), []byte("\x01"), "_sigs/a.json")
	f.Fuzz(func(t *testing.T, have, incoming []byte, part string) {
		s, add := fromBytes(t, have), fromBytes(t, incoming)
		if want, got := s.filter(func(k string) bool { return !owned(s, part)[k] }), RemovePackage(s, part); !Equal(want, got) {
			t.Fatalf("removing %q from %s leaves %s, want %s", part, s.Encode(), got.Encode(), want.Encode())
		}
		got, err := AddPackage(s, add)
		if err != nil {
			return
		}
		for _, e := range add.Without(SpecKey).entries {
			if v, ok := got.Value(e.key); !ok || !canon.Equal(v, e.value) {
				t.Fatalf("added %s, but %s is %s", add.Encode(), e.key, v.Encode())
			}
		}
		for _, key := range got.Keys() {
			_, had := s.Value(key)
			if _, new := add.Value(key); key != SpecKey && !had && !new {
				t.Fatalf("%s is of neither state", key)
			}
		}
		if _, err := Parse(got.Encode()); err != nil {
			t.Fatal(err)
		}
	})
}

// fromBytes returns a state in which each byte is a key, or a signature of one pattern.
func fromBytes(t *testing.T, in []byte) *State {
	names := []string{"a", "a/x", "a/y", "a-b/x", "a.json", "_config/a/x", "_config/b/x", "shared/x"}
	patterns := []string{"a/**", "_config/a/**", "**", "shared/*", "a/x", "_sigs/*"}
	signers := []string{"a", "a-config", "b"}
	s := New(Spec)
	for _, b := range in[:min(len(in), 32)] {
		key, value := names[b%8], `"`+strings.Repeat(string("0123456789abcdef"[b>>4]), 64)+`"`
		if b&0x80 != 0 {
			key = "_sigs/" + signers[int(b&0x7f)%3] + ".json"
			value = sign(t, []string{patterns[int(b&0x7f)%6]}, []string{key})
		}
		_ = s.Set(key, []byte(value)) // one that cannot stand beside the others stays out
	}
	return s
}

func TestAddPackageReplaces(t *testing.T) {
	s := parse(t, `{"#spec":"s","_config/aw/old":"`+sumA+`",`+pkg(t, "aw")+`,"aw/gone":"`+sumA+`","aw/run.json":{"v":1},"other/run.json":{}}`)
	add := parse(t, `{"#spec":"x",`+pkg(t, "aw")+`,"aw/run.json":{"v":2}}`)
	got, err := AddPackage(s, add)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"#spec", "_sigs/aw.json", "aw/run.json", "other/run.json"}, got.Keys()); diff != "" {
		t.Error(diff)
	}
	if text, _ := got.Get("aw/run.json"); string(text) != `{"v":2}` || got.Spec() != "s" {
		t.Errorf("run.json %s, spec %s", text, got.Spec())
	}
	twice, err := AddPackage(got, add)
	if err != nil || !Equal(got, twice) {
		t.Errorf("adding again changes the state: %v", err)
	}
}

func TestAddPackageDropsWhatTheOldSignatureCovered(t *testing.T) {
	s := parse(t, `{"#spec":"s","_sigs/bsp.json":`+sign(t, []string{"bsp/**", "groups.json"}, []string{"_sigs/bsp.json"})+`,"bsp/run.json":{},"groups.json":[]}`)
	add := parse(t, `{"#spec":"s","_sigs/bsp.json":`+sign(t, []string{"bsp/**", "device.json"}, []string{"_sigs/bsp.json"})+`,"bsp/run.json":{"n":1},"device.json":{}}`)
	got, err := AddPackage(s, add)
	if err != nil || !Equal(got, add) {
		t.Errorf("state %s, %v", got.Encode(), err)
	}
	if got, err = AddPackage(New(""), add); err != nil || got.Spec() != Spec {
		t.Errorf("an empty state has spec %q, %v", got.Spec(), err)
	}
}

func TestReadRuleOfGarbage(t *testing.T) {
	for _, doc := range []string{`{}`, `1`, `{"#spec":"pvs@2"}`, `{"#spec":"pvs@2","protected":"%%"}`, `{"#spec":"pvs@2","protected":"e30"}`, `{"#spec":"pvs@2","protected":"e"}`, `{"#spec":"pvs@1","protected":"e30"}`} {
		v, err := canon.Parse([]byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		if rule, ok := ReadRule(v); ok {
			t.Errorf("%s has the rule %v", doc, rule)
		}
	}
}
