package state

import (
	"encoding/base64"
	"encoding/json"
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
		if diff := cmp.Diff(want, removePackage(s, name).Keys()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if got := removePackage(s, "nothing"); !Equal(got, s) {
		t.Error("removing an unknown part changes the state")
	}
}

func TestFilesOfTwoSignaturesStay(t *testing.T) {
	s := parse(t, `{"#spec":"s",`+pkg(t, "a", "shared/*")+`,`+pkg(t, "b", "shared/x")+`,"a/run.json":{},"b/run.json":{},"shared/x":"`+sumA+`","shared/y":"`+sumB+`"}`)
	want := []string{"#spec", "_sigs/b.json", "b/run.json", "shared/x"}
	if diff := cmp.Diff(want, removePackage(s, "a").Keys()); diff != "" {
		t.Error(diff)
	}
}

func TestRemoveConfigPackage(t *testing.T) {
	s := parse(t, `{"#spec":"s","_config/nginx/x":"`+sumA+`","_sigs/nginx-config.json":`+
		sign(t, []string{"_config/nginx/**"}, []string{"_sigs/nginx-config.json"})+`,"_sigs/nginx.json":`+
		sign(t, []string{"nginx/**"}, []string{"_sigs/nginx.json"})+`,"nginx/run.json":{}}`)
	if diff := cmp.Diff([]string{"#spec", "_sigs/nginx.json", "nginx/run.json"}, removePackage(s, "_sigs/nginx-config.json").Keys()); diff != "" {
		t.Error(diff)
	}
}

func TestAddPackageReplaces(t *testing.T) {
	s := parse(t, `{"#spec":"s","_config/aw/old":"`+sumA+`",`+pkg(t, "aw")+`,"aw/gone":"`+sumA+`","aw/run.json":{"v":1},"other/run.json":{}}`)
	add := parse(t, `{"#spec":"x",`+pkg(t, "aw")+`,"aw/run.json":{"v":2}}`)
	got, err := addPackage(s, add)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"#spec", "_sigs/aw.json", "aw/run.json", "other/run.json"}, got.Keys()); diff != "" {
		t.Error(diff)
	}
	if text, _ := got.Get("aw/run.json"); string(text) != `{"v":2}` || got.Spec() != "s" {
		t.Errorf("run.json %s, spec %s", text, got.Spec())
	}
	twice, err := addPackage(got, add)
	if err != nil || !Equal(got, twice) {
		t.Errorf("adding again changes the state: %v", err)
	}
}

func TestAddPackageDropsWhatTheOldSignatureCovered(t *testing.T) {
	s := parse(t, `{"#spec":"s","_sigs/bsp.json":`+sign(t, []string{"bsp/**", "groups.json"}, []string{"_sigs/bsp.json"})+`,"bsp/run.json":{},"groups.json":[]}`)
	add := parse(t, `{"#spec":"s","_sigs/bsp.json":`+sign(t, []string{"bsp/**", "device.json"}, []string{"_sigs/bsp.json"})+`,"bsp/run.json":{"n":1},"device.json":{}}`)
	got, err := addPackage(s, add)
	if err != nil || !Equal(got, add) {
		t.Errorf("state %s, %v", got.Encode(), err)
	}
	if got, err = addPackage(New(""), add); err != nil || got.Spec() != Spec {
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
