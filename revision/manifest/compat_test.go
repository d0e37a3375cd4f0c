package manifest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/revision/compat"
)

// show writes parts as words: "?" is before what is required, "!" before a conflict.
func show(parts []compat.Part) map[string]string {
	out := map[string]string{}
	for _, p := range parts {
		var words []string
		for sign, list := range map[string][]compat.Term{"": p.Provides, "?": p.Requires, "!": p.Conflicts} {
			if text := strings.Trim(fmt.Sprint(list), "[]"); text != "" {
				words = append(words, sign+strings.ReplaceAll(text, " ", " "+sign))
			}
		}
		out[p.Name] = strings.Join(words, " ")
	}
	return out
}

func TestCompat(t *testing.T) {
	t.Parallel()
	d := device().app("web", `,"roles":["mgmt"],"provides":["container:web=1.2"]`).
		app("db", `,"requires":["container:web>=1.2"]`).app("mq", `,"conflicts":["kernel<6"]`)
	d["bsp/run.json"] = strings.Replace(d["bsp/run.json"], "{", `{"provides":["arch:arm64","kernel=6.1"],`, 1)
	d["bsp/drivers.json"] = `{"#spec":"driver-aliases@1","all":{"wifi":["a"]},"dtb:x":{"can":["b"]}}`
	sys := d.parse(t, Options{})
	got := show(sys.Compat())
	want := map[string]string{
		"bsp": "arch:arm64 kernel=6.1 driver:can driver:wifi",
		"web": "container:web=1.2 role:mgmt",
	}
	for name, w := range want {
		if got[name] != w {
			t.Errorf("%s: %s, want %s", name, got[name], w)
		}
	}
	for name, w := range map[string]string{"db": "?container:web>=1.2", "mq": "!kernel<6"} {
		if !strings.Contains(got[name], w) || !strings.Contains(got[name], "container:"+name) {
			t.Errorf("%s: %s, want %s", name, got[name], w)
		}
	}
	if bad := compat.Check(sys.Compat()); bad != nil {
		t.Error(bad)
	}
	for _, n := range sys.Notes {
		if strings.Contains(n.Path, "provides") || strings.Contains(n.Path, "requires") {
			t.Errorf("note: %s", n)
		}
	}
}

func TestCompatViolations(t *testing.T) {
	t.Parallel()
	d := device().app("web", `,"provides":["kernel>=6","container:db"],"requires":["archh:x",5],"conflicts":{}`)
	_, err := Parse(d.state(t), Options{})
	for _, want := range []string{
		`web/run.json: provides[0]: declaration "kernel>=6", column 7: a part provides one version`,
		"web/run.json: provides: container:db: a container provides only itself, container:web",
		"web/run.json: requires[0]: declaration \"archh:x\", column 1: kind \"archh\" is unknown",
		"web/run.json: requires[1]: a string is expected", "web/run.json: conflicts: an array is expected",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %s", err, want)
		}
	}
}

func TestCompatWithoutBSP(t *testing.T) {
	t.Parallel()
	d := doc{"#spec": `"pantavisor-service-system@1"`}.app("web", "")
	if diff := cmp.Diff(map[string]string{"web": "container:web"}, show(d.parse(t, Options{AppEngine: true}).Compat())); diff != "" {
		t.Error(diff)
	}
}

func TestDeclaredOfAnUnfinishedState(t *testing.T) {
	t.Parallel()
	d := doc{"#spec": `"pantavisor-service-system@1"`, "web/run.json": `{"requires":["camera"],"root-volume":"none","group":"nope"}`}
	parts, err := Declared(d.state(t))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("web requires camera, which nothing provides", compat.Check(parts).Error()); diff != "" {
		t.Error(diff)
	}
	d["web/run.json"], d["web/root.json"] = `{"root-volume":"root.json","requires":["camera"]}`, `{}`
	d["bsp/run.json"], d["bsp/kernel.json"] = `{"linux":"kernel.json"}`, `{}`
	if _, err := Declared(d.state(t)); err != nil {
		t.Errorf("files that the manifests name: %v", err)
	}
	d["web/run.json"] = `{"requires":["kernel=>6"]}`
	if _, err := Declared(d.state(t)); err == nil || !strings.Contains(err.Error(), "column 7") {
		t.Error(err)
	}
}
