package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// names returns the names of this package that the runtime's programs use. A name before a
// colon only gets a default.
func names(t *testing.T) map[string]bool {
	t.Helper()
	used, word := map[string]bool{}, regexp.MustCompile(`\bconfig\.([A-Z]\w+)\b(?:[^:]|$)`)
	err := filepath.WalkDir("..", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
			return err
		}
		text, err := os.ReadFile(p)
		for _, m := range word.FindAllStringSubmatch(string(text), -1) {
			used[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return used
}

// used within this package.
var ownUse = map[string]bool{"OEMName": true, "PolicyName": true}

// TestEveryKeyActsOrSaysSo walks the table: a key is either used by the runtime or
// reported as one without effect.
func TestEveryKeyActsOrSaysSo(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("keys.go")
	if err != nil {
		t.Fatal(err)
	}
	used := names(t)
	consts := regexp.MustCompile(`(?m)^\t([A-Z]\w+) +(?:Key = iota )?// (P[HV]_\w+)$`).FindAllStringSubmatch(string(source), -1)
	if len(consts) != int(keys) {
		t.Fatalf("%d constants for %d keys", len(consts), keys)
	}
	for i, c := range consts {
		k := Key(i)
		if k.Name() != c[2] {
			t.Errorf("%s is %s, its comment says %s", c[1], k.Name(), c[2])
		}
		switch acts := used[c[1]] || ownUse[c[1]]; {
		case acts && k.isInert():
			t.Errorf("%s acts and is reported as one with %s", k.Name(), noEffect)
		case !acts && !k.isInert():
			t.Errorf("%s does nothing and is not reported", k.Name())
		}
	}
}

// TestInertKeysAreReported sets every key at a level that takes it.
func TestInertKeysAreReported(t *testing.T) {
	t.Parallel()
	for k := range keys {
		var level Level
		for _, l := range []Level{PVConf, PHConf, Policy, OEM} {
			if table[k].levels.has(l) {
				level = l
				break
			}
		}
		c := New()
		c.Set(level, k.Name(), anyValue(k))
		c.noteInert(level)
		notes := c.Notes()
		if reported := len(notes) == 1 && strings.Contains(notes[0].Text, k.Name()+" has "+noEffect); reported != (k.isInert() && !k.granted(c.String(k))) {
			t.Errorf("%s at %v: notes %v; inert: %v", k.Name(), level, notes, k.isInert())
		}
		c = New()
		c.Set(level, k.Name(), c.String(k))
		c.noteInert(level)
		for _, n := range c.Notes() {
			if strings.Contains(n.Text, noEffect) {
				t.Errorf("the default of %s is reported: %v", k.Name(), n)
			}
		}
	}
	for k, v := range asIs {
		c := New()
		c.Set(PVConf, k.Name(), v)
		c.noteInert(PVConf)
		if notes := c.Notes(); len(notes) != 0 || !k.isInert() || c.String(k) != v {
			t.Errorf("%s=%s: %v", k.Name(), v, notes)
		}
	}
}
