package ctrl

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pantavisor/pantavisor/runtime/step"
)

func TestHolds(t *testing.T) {
	s := newTestServer(t, newFake())
	sum := zeroSum(t, 1)
	path := filepath.Join(s.o.Objects, sum)
	collect := func() (left bool) {
		t.Helper()
		g := step.Garbage{Steps: s.o.Steps, Objects: s.o.Objects, Keep: func() ([]string, error) { return nil, nil }}
		if _, err := g.Collect(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err := os.Stat(path)
		return err == nil
	}
	state := `{"#spec":"pantavisor-service-system@1","app/x":"` + sum + `"}`
	for _, c := range []struct {
		caller             *Caller
		method, name, body string
		want               string
		left               bool
	}{
		{asMgmt, "PUT", "tx", state, "200", true},
		{asMgmt, "PUT", "tx", state[:20], "422", true},
		{&Caller{Name: "other", Mgmt: true}, "DELETE", "tx", "", "200", true},
		{&Caller{Name: "app"}, "DELETE", "tx", "", "403", true},
		{asMgmt, "DELETE", "tx", "", "200", false},
		{asMgmt, "DELETE", "tx", "", "200", false},
		{asMgmt, "PUT", "..", state, "200", true},
		{asMgmt, "PUT", "%2e%2e%2f" + strings.Repeat("x", 300), state, "200", true},
		{asMgmt, "DELETE", "..", "", "200", true},
		{&Caller{Name: "app"}, "PUT", "tx", state, "403", true},
		{asMgmt, "GET", "tx", "", "400", true},
		{asMgmt, "PUT", "a/b", state, "400", true},
	} {
		write(t, path, "\x00")
		if r := ask(t, s, c.caller, c.method, "/holds/"+c.name, c.body); !strings.Contains(r.line, c.want) {
			t.Errorf("%s %.20s: %+v, want %s", c.method, c.name, r, c.want)
		}
		if left := collect(); left != c.left {
			t.Errorf("%s %.20s: the object is left: %t, want %t", c.method, c.name, left, c.left)
		}
	}
}
