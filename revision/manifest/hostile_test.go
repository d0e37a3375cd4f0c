package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/revision/state"
)

// whole is a state in which every field that is read has a value.
func whole() doc {
	d := device().app("web", `,"group":"app","roles":["mgmt"],"status_goal":"READY","restart_policy":"container",
		"drivers":{"required":["wifi"],"optional":["eth"],"manual":["usb"]},
		"services":{"required":["bus",{"name":"api","type":"rest","target":"/run/api","role":"user","interface":"i"}],"optional":[{"name":"raw"}]},
		"logs":[{"file":"/var/log/x","maxsize":100,"truncate":true,"name":"x"},{"console":"enable","maxsize":1}],
		"network":{"pool":"net0","ip":"10.0.3.7","hostname":"web","mac":"02:00:00:00:00:01"},
		"exports":["/run/web"],"dev-log":false,"automodfw":"no","remount":{"default":[{"/sys.*":"ro"}]},
		"auto_recovery":{"policy":"always","max_retries":3,"retry_delay":2,"backoff_factor":1.5,"reset_window":9,"stable_timeout":30,"backoff_policy":"10min"}`)
	d["web/run.json"] = strings.Replace(d["web/run.json"], `"volumes":[],"storage":{}`,
		`"volumes":["a.squashfs"],"storage":{"lxc-overlay":{"persistence":"boot","disk":"crypt"}}`, 1)
	d["web/a.squashfs"] = `"` + sum + `"`
	d["web/services.json"] = `{"#spec":"service-manifest-xconnect@1","services":[{"name":"ui","type":"dbus","socket":"/run/ui","owns":"org.x","allow":["a","b"]}]}`
	d["groups.json"] = builtinGroups
	d["disks.json"] = `[{"name":"crypt","type":"dm-crypt-versatile","path":"/storage/x.img,2,key","aliases":["old"],"default":"yes","mode":"mainline","format":"ext4",
		"mount_target":"/x","mount_options":"ro","format_options":"-q","provision":"zram","provision_ops":"x","uuid":"u","migrate_keyblob":"no"},
		{"name":"plain","type":"directory"},{"name":"two","type":"dual","disks":["crypt","plain"],"init_order":["primary"]}]`
	d["device.json"] = `{"groups":` + builtinGroups + `,"disks":` + d["disks.json"] + `,
		"volumes":{"pv--devmeta":{"persistence":"permanent","disk":"old"}},
		"network":{"pools":{"net0":{"type":"bridge","bridge":"br0","parent":"eth0","subnet":"10.0.3.0/24","gateway":"10.0.3.1","nat":true}}},
		"remount":{"default":[{"/.*":"noatime"}]}}`
	return d
}

// wrongs are values that are of a wrong type or far out of range wherever they stand.
var wrongs = []string{
	`true`, `-1`, `1.5`, `1e400`, `99999999999999999999999`, `"\u0000"`, `""`, `"x"`, `[]`, `{}`, `[[]]`, `[{}]`, `[1]`, `[null]`, `null`, `{"":{}}`,
	`{"":""}`, `[{"":1}]`, `"` + strings.Repeat("x", 1<<16) + `"`, strings.Repeat("[", 60) + strings.Repeat("]", 60), strings.Repeat(`{"a":`, 60) + "1" + strings.Repeat("}", 60),
	`[` + strings.Repeat(`"x",`, 5000) + `"x"]`, `"../../etc"`, `"/"`, `"a\nb"`, `"\ud800"`,
}

// twoForms are values that are a word or a list of them, or a list or an object with it.
var twoForms = map[string]bool{"web/services.json": true, "web/services.json.services[0].allow": true, "web/services.json.services[0].owns": true}

// places calls try with the document as it is with a value replaced, for each value.
func places(v any, try func(path string, with func(any) any)) {
	var walk func(v any, path string, put func(any) any)
	walk = func(v any, path string, put func(any) any) {
		try(path, put)
		switch v := v.(type) {
		case map[string]any:
			for _, k := range slices.Sorted(maps.Keys(v)) {
				walk(v[k], path+"."+k, func(x any) any {
					c := maps.Clone(v)
					c[k] = x
					return put(c)
				})
			}
		case []any:
			for i := range v {
				walk(v[i], fmt.Sprintf("%s[%d]", path, i), func(x any) any {
					c := slices.Clone(v)
					c[i] = x
					return put(c)
				})
			}
		}
	}
	walk(v, "", func(x any) any { return x })
}

// typeOf is the JSON type of a text.
func typeOf(text []byte) byte {
	switch c := text[0]; c {
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return '0'
	case 't', 'f':
		return 't'
	default:
		return c
	}
}

// TestEveryFieldOfWrongKind puts each wrong value in the place of each value of a
// state. What comes of it is a system or problems; a value of another type must be
// named, in a problem or a note, with the file it is in.
func TestEveryFieldOfWrongKind(t *testing.T) {
	tried := 0
	for _, legacy := range []bool{false, true} {
		base := whole()
		if legacy {
			delete(base, "device.json")
		}
		if _, err := Parse(base.state(t), Options{}); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"web/run.json", "web/services.json", "bsp/run.json", "bsp/drivers.json", "device.json", "groups.json", "disks.json"} {
			if base[key] == "" || legacy != (key == "groups.json" || key == "disks.json") {
				continue
			}
			var v any
			if err := json.Unmarshal([]byte(base[key]), &v); err != nil {
				t.Fatal(err)
			}
			places(v, func(path string, with func(any) any) {
				for _, wrong := range wrongs {
					tried++
					tryWrong(t, base, key, path, wrong, with)
				}
			})
		}
	}
	if tried < 1000 {
		t.Errorf("only %d were tried", tried)
	}
}

func tryWrong(t *testing.T, base doc, key, path, wrong string, with func(any) any) {
	t.Helper()
	was, err := json.Marshal(valueAt(base[key], path))
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(with(json.RawMessage(wrong)))
	if err != nil {
		return // no JSON of ours
	}
	d := maps.Clone(base)
	d[key] = string(text)
	st := state.New("")
	for k, text := range d {
		if st.Set(k, []byte(text)) != nil {
			return // the state's own reader refuses it
		}
	}
	sys, err := Parse(st, Options{})
	var ps Problems
	if err != nil && !errors.As(err, &ps) {
		t.Errorf("%s%s = %.60s: an error of another kind: %v", key, path, wrong, err)
	}
	if typeOf(was) == typeOf([]byte(wrong)) || wrong == "null" || twoForms[key+path] {
		return
	}
	for _, p := range ps {
		if p.Key == key {
			return
		}
	}
	if err == nil {
		for _, n := range sys.Notes {
			if n.Key == key {
				return
			}
		}
	}
	t.Errorf("%s%s = %.60s instead of %.60s: %v does not say so", key, path, wrong, was, err)
}

// valueAt follows a path as places makes it.
func valueAt(text, path string) any {
	var found any
	var v any
	_ = json.Unmarshal([]byte(text), &v)
	places(v, func(p string, with func(any) any) {
		if p == path && found == nil {
			mark := &struct{}{}
			found = original(v, with(mark), mark)
		}
	})
	return found
}

// original is the value that a mark has replaced.
func original(was, now, mark any) any {
	if now == mark {
		return was
	}
	switch w := was.(type) {
	case map[string]any:
		n, _ := now.(map[string]any)
		for k := range w {
			if found := original(w[k], n[k], mark); found != nil {
				return found
			}
		}
	case []any:
		n, _ := now.([]any)
		for i := range w {
			if i < len(n) {
				if found := original(w[i], n[i], mark); found != nil {
					return found
				}
			}
		}
	}
	return nil
}

// TestHugeStatesAreRefusedShortly: what is said of a hostile state is bounded, whatever
// it holds, and nothing in it is compared with everything else in it.
func TestHugeStatesAreRefusedShortly(t *testing.T) {
	many := func(n int, format string) string {
		out := make([]string, n)
		for i := range out {
			out[i] = fmt.Sprintf(format, i)
		}
		return strings.Join(out, ",")
	}
	long := strings.Repeat("n", 1<<20)
	crowd := device()
	for i := range 5000 {
		crowd.app(fmt.Sprintf("c%d", i), "")
	}
	for name, c := range map[string]struct {
		d    doc
		want string
	}{
		"groups":      {device().with("groups.json", "["+many(60000, `{"name":"g%d"}`)+"]"), "groups.json: 60000 elements; at most 4096 are allowed"},
		"volumes":     {device().app("a", "").with("a/run.json", `{"name":"a","type":"lxc","config":"lxc.container.conf","storage":{`+many(60000, `"v%d":{}`)+`}}`), "storage: 60000 members"},
		"containers":  {crowd, "there are more than 4096 containers"},
		"long names":  {device().with("disks.json", `[{"name":"`+long+`","type":"directory","aliases":[`+many(4000, `"a","b%d"`)[:20000]+`"]}]`), `the alias "a" of disk "nnn`},
		"long places": {device().with("device.json", `{"network":{"pools":{"`+long+`":{`+many(60000, `"u%d":1`)+`,"nat":1}}}}`), "true or false is expected"},
	} {
		_, err := Parse(c.d.state(t), Options{})
		var ps Problems
		if !errors.As(err, &ps) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		size, said := 0, false
		for _, p := range ps {
			size += len(p.Error())
			said = said || strings.Contains(p.Error(), c.want)
		}
		if !said || size > 1<<20 || len(ps) > mostSaid {
			t.Errorf("%s: %d problems in %d bytes, the first is %.300v; want %q", name, len(ps), size, ps[0], c.want)
		}
	}
}

func TestDisksThatConsistOfEachOther(t *testing.T) {
	dual := func(name string, parts ...string) string {
		list, _ := json.Marshal(parts)
		return `{"name":"` + name + `","type":"dual","aliases":["also-` + name + `"],"init_order":["primary"],"disks":` + string(list) + `}`
	}
	const plain = `{"name":"p","type":"directory"},{"name":"q","type":"directory"}`
	for disks, cycle := range map[string]bool{
		dual("a", "p", "q"): false, dual("a", "p", "q") + "," + dual("b", "a", "p"): false,
		dual("a", "p", "b") + "," + dual("b", "a", "p"): true, dual("a", "p", "b") + "," + dual("b", "q", "c") + "," + dual("c", "also-a", "p"): true,
		dual("a", "b", "c") + "," + dual("b", "p", "q") + "," + dual("c", "p", "q"): false,
	} {
		_, err := Parse(device().with("disks.json", "["+plain+","+disks+"]").state(t), Options{})
		if cycle != (err != nil) || err != nil && !strings.Contains(err.Error(), "is a part of itself") {
			t.Errorf("%s: %v, a cycle: %v", disks, err, cycle)
		}
	}
}

func TestClip(t *testing.T) {
	for s, want := range map[string]string{"abc": "abc", "abcd": "abcd", "abcde": "abcd...", "abcéf": "abc...", "\x80\x80\x80\x80\x80": "..."} {
		if got := clip(s, 4); got != want {
			t.Errorf("clip(%q) = %q, want %q", s, got, want)
		}
	}
}
